"""Text from strangers made safe for where it goes: terminals, spreadsheets, logs.

Titles of imported journals, manuscripts and file names are whatever somebody wrote. HTML needs nothing here:
the page sets text, never markup.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import click

# C0 without tab and line feed, C1, and what turns the direction of writing: a terminal obeys the first two,
# and with the last a reader sees another text than is there.
_COMMANDS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSAFE: Final = re.compile(f"[{_COMMANDS}]")
_STYLE: Final = re.compile(r"\x1b\[(?:0|1|3[0-7])m")
"""What `click.style` writes here: bold, a colour, and back."""
_LINES: Final = re.compile(rf"[\t\n{_COMMANDS}]")
_FORMULA: Final = re.compile(r"[\s\u200b\ufeff]*[=+\-@＝＋－＠]|[\t\r]")
"""How a cell begins that a spreadsheet runs (OWASP, "CSV Injection")."""


def for_terminal(text: str) -> str:
    """Text in which no character commands a terminal; such become U+FFFD."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def for_log(text: str) -> str:
    r"""Text on one line; what would break it or command a terminal is written as JSON does, as `\u001b`."""
    return _LINES.sub(_escaped, text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in which all but what commands a terminal stands for itself; what it cannot hold goes by `str`."""
    return _UNSAFE.sub(_escaped, json.dumps(value, ensure_ascii=False, indent=indent, default=str))


def for_cell(value: Any) -> Any:
    """A value for a spreadsheet: an apostrophe stands before a text that would be a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def echo(text: str = "", *, err: bool = False) -> None:
    """Print to a terminal or a pipe; styles of `click.style` pass, nothing else that commands a terminal."""
    place, safe = 0, ""
    for style in _STYLE.finditer(text):
        safe += for_terminal(text[place : style.start()]) + style[0]
        place = style.end()
    click.echo(safe + for_terminal(text[place:]), err=err)
