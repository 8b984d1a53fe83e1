"""ISSNs: eight digits in two groups, the last being a check digit (ISO 3297)."""

from __future__ import annotations

import re

_SHAPE = re.compile(r"([0-9]{4})-?([0-9]{3}[0-9Xx])")


def check_digit(first_seven: str) -> str:
    """The check digit of seven ASCII digits: weights 8 to 2, modulo 11, X for ten (ISO 3297, annex A)."""
    remainder = (
        sum(int(digit) * weight for digit, weight in zip(first_seven, range(8, 1, -1), strict=True)) % 11
    )
    value = (11 - remainder) % 11
    return "X" if value == 10 else str(value)


def normalise_issn(text: str) -> str | None:
    """`"0031899x"` -> `"0031-899X"`; None if `text` does not have the shape of an ISSN. Checks no digit."""
    match = _SHAPE.fullmatch(text.strip())
    return f"{match[1]}-{match[2].upper()}" if match else None


def is_valid_issn(text: str) -> bool:
    """Whether `text` has the shape of an ISSN and its check digit is right."""
    issn = normalise_issn(text)
    if issn is None:
        return False
    digits = issn.replace("-", "")
    return digits[7] == check_digit(digits[:7])
