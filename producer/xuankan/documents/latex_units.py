r"""Numbers and units as siunitx prints them, roughly: `\SI{5}{\kilo\metre\per\second}` is 5 km/s."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

AFTER: Final[Mapping[str, str]] = {"squared": "^2", "cubed": "^3"}
BEFORE: Final[Mapping[str, str]] = {"square": "^2", "cubic": "^3"}

SEPARATOR: Final = "\ue002"
"""Before each unit; it becomes a space, but not behind `/`."""
_EXPONENT: Final = re.compile(r"(?<=[\d.)])\s*[eEdD]\s*([+-]?\d+)")
_BARE_EXPONENT: Final = re.compile(r"^[eE]([+-]?\d+)$")
_UNCERTAIN: Final = re.compile(r"\s*(?:\+-|\+/-|±)\s*")
_TIMES: Final = re.compile(r"(?<=\d)\s*x\s*(?=[\d-])")


def number(text: str) -> str:
    """A number as it is printed: `1.2(3)e-4` is 1.2(3) × 10^-4."""
    text = _EXPONENT.sub(r" × 10^\1", " ".join(text.split()))
    text = _BARE_EXPONENT.sub(r"10^\1", text)
    return _TIMES.sub(" × ", _UNCERTAIN.sub(" ± ", text))


def numbers(text: str) -> str:
    """`1;2;3` is 1, 2 and 3."""
    *some, last = [number(part) for part in text.split(";")]
    return f"{', '.join(some)} and {last}" if some else last


def unit(text: str) -> str:
    """A unit whose parts stand behind `SEPARATOR` or, written by hand, between dots."""
    text = re.sub(r"(?<=[A-Za-zΩμ\d}])\.(?=[A-Za-zΩμ])", " ", text)
    return " ".join(re.sub(rf"\s*/[\s{SEPARATOR}]*", "/", text).replace(SEPARATOR, " ").split())


def angle(text: str) -> str:
    """Degrees, minutes and seconds: `45;30;` is 45°30′."""
    return "".join(
        part.strip() + sign for part, sign in zip(text.split(";"), "°′″", strict=False) if part.strip()
    )
