"""Logs: one line an event, with its facts as fields.

Manuscripts are unpublished work: nothing of their content is ever logged.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from xuankan.outlets import for_log, json_text

LogFormat = Literal["text", "json"]


def fields(**facts: object) -> dict[str, dict[str, object]]:
    """Facts of an event, for the `extra` of a logging call."""
    return {"fields": facts}


def configure(log_format: LogFormat, level: str = "info") -> None:
    """Send this process's logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `event`, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        } | _facts(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json_text(line)


class TextFormatter(logging.Formatter):
    """Time, level, event, then `field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        facts = "".join(f"  {name}={for_log(str(value))}" for name, value in _facts(record).items())
        line = f"{time} {record.levelname.lower():<7} {for_log(record.getMessage())}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})
