"""Text from strangers, where it goes."""

from __future__ import annotations

import io
import json
import logging

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xuankan.logs import JsonFormatter, TextFormatter, fields
from xuankan.outlets import echo, for_cell, for_log, for_terminal, json_text
from xuankan.terminal import Terminal

HOSTILE = "A\x1b]0;owned\x07 title\x9b31m \u202egnp.exe"


def commands(text: str) -> bool:
    """Whether a terminal would obey a character of it, or show another order."""
    return any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) <= 159 or c == "\u202e" for c in text)


@given(st.text())
def test_no_outlet_lets_a_command_through(text: str) -> None:
    assert not commands(for_terminal(text))
    assert not commands(for_log(text))
    assert "\n" not in for_log(text)
    assert not commands(json_text({"title": text}))
    assert json.loads(json_text({"title": text})) == {"title": text}


def test_a_terminal_shows_styles_of_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    echo(click.style(HOSTILE, bold=True, fg="yellow"))
    shown = capsys.readouterr().out
    for style in ("\x1b[1m", "\x1b[33m", "\x1b[0m"):
        shown = shown.replace(style, "")
    assert not commands(shown)
    assert "title" in shown
    file = io.StringIO()
    Terminal(file=file, force_terminal=False).print(HOSTILE)
    assert not commands(file.getvalue())


def test_logs_are_a_line_an_event() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "file %s", (f"{HOSTILE}\nfake line",), None)
    record.__dict__.update(fields(name=f"{HOSTILE}\nfake line"))
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert "\n" not in line
        assert not commands(line)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r1", " =1+1", "\ufeff=1", "\n=1", "＝1+1"]
)
def test_a_spreadsheet_runs_nothing(text: str) -> None:
    assert for_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a = b", "", 3, -1.5, None, "1 - 2"])
def test_other_cells_stand_for_themselves(value: object) -> None:
    assert for_cell(value) == value
