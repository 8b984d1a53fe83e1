from __future__ import annotations

import json
import logging

from xuankan.logs import JsonFormatter, TextFormatter, fields


def record(**facts: object) -> logging.LogRecord:
    made = logging.LogRecord("xuankan_worker.worker", logging.WARNING, "", 0, "lease %s", ("lost",), None)
    made.__dict__.update(fields(**facts))
    return made


def test_json_lines_carry_event_and_fields() -> None:
    line = json.loads(JsonFormatter().format(record(entry="1-0", lane="bulk")))
    assert line["event"] == "lease lost"
    assert (line["level"], line["logger"]) == ("warning", "xuankan_worker.worker")
    assert (line["entry"], line["lane"]) == ("1-0", "bulk")
    assert line["time"].endswith("+00:00")


def test_text_lines_carry_event_and_fields() -> None:
    assert TextFormatter().format(record(entry="1-0")).endswith("warning lease lost  entry=1-0")
