"""Which column of a table, or field of an object, holds what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from xuankan.errors import InputError

FIELDS: Final = ("id", "title", "abstract", "keywords")


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns that were named by hand; the others are found by their usual names.

    Attributes:
        given: field (`title`, ...) -> the column's exact name.
    """

    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, options: Iterable[str]) -> Columns:
        """From texts such as `title=Titel`.

        Raises:
            InputError: one is no such text, or its field is not one of `FIELDS`.
        """
        found: dict[str, str] = {}
        for option in options:
            field, equals, name = option.partition("=")
            if not equals or not name or field not in FIELDS:
                raise InputError(
                    "column", f"{option!r}: give FIELD=NAME, as title=Titel; fields are {', '.join(FIELDS)}"
                )
            found[field] = name
        return cls(tuple(sorted(found.items())))
