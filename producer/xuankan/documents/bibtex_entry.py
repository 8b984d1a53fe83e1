"""The inside of one BibTeX entry: its key and its fields, with as much mercy as sense allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_HEAD: Final = re.compile(r"@\s*[^\s{(]+\s*[{(]\s*")
_KEY: Final = re.compile(r"[^,={}\"#]*")
_NAME: Final = re.compile(r"[\s,;]*(?P<name>[^\W\d_][^\s={},\"#()]*)\s*=\s*")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_QUOTE: Final = re.compile(r"\\.|[{}\"]", re.DOTALL)
_JOIN: Final = re.compile(r"\s*#\s*")
_BARE: Final = re.compile(r"[^,#{}\"]*")
# What may follow a value: another part, another field, or the end.
_AFTER: Final = re.compile(r"\s*(?:#|,?\s*[})]?\s*\Z|,[\s,]*[^\W\d_][\w-]*\s*=|[^\W\d_][\w-]*\s*=\s*[{\"\w])")
_NEXT: Final = re.compile(r",\s*[^\W\d_][^\s={},\"#()]*\s*=\s*[{\"\w]")


@dataclass(frozen=True, slots=True)
class BibtexEntry:
    """Attributes: `fields` by names in small letters, as LaTeX source; the first of a name counts."""

    key: str
    fields: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def parse_entry(text: str, macros: Mapping[str, str]) -> BibtexEntry:
    """Read an entry, `@` and closing brace included; `macros` are known by names in small letters."""
    return _Parser(text, macros).entry()


class _Parser:
    """One entry. Takes time in proportion to its length, whatever it holds."""

    def __init__(self, text: str, macros: Mapping[str, str]) -> None:
        self._text, self._macros = text, macros
        self._broken = False
        """A value was not closed: none that follows is looked through to the end again."""

    def entry(self) -> BibtexEntry:
        key, at = self._key()
        fields: dict[str, str] = {}
        warnings: list[str] = []
        while (name := self._name(at)) is not None:
            value, at = self._value(name.end())
            field = name["name"].casefold()
            known = fields.get(field, "")
            if not known.strip():
                fields[field] = value
            elif "keyword" in field:
                fields[field] = f"{known}; {value}"
            elif field in ("title", "abstract") and value.split() != known.split():
                warnings.append(f"the {field} is given twice: the first was taken")
        return BibtexEntry(key, fields, tuple(warnings))

    def _key(self) -> tuple[str, int]:
        head = _HEAD.match(self._text)
        at = head.end() if head else 0
        found = _KEY.match(self._text, at)
        assert found is not None  # it may be empty
        delimiter = self._text[found.end() : found.end() + 1]
        if delimiter == ",":
            return found[0].strip(), found.end() + 1
        if delimiter == "=":  # no key, or no comma behind it: `b title = {...}`
            words = found[0].rstrip().rsplit(None, 1)
            return (words[0].strip(), at + len(words[0])) if len(words) == 2 else ("", at)
        return found[0].strip(), at

    def _name(self, at: int) -> re.Match[str] | None:
        """The next field; what is none is skipped up to a comma before a field."""
        if (name := _NAME.match(self._text, at)) is not None:
            return name
        if (later := _NEXT.search(self._text, at)) is not None:
            return _NAME.match(self._text, later.start())
        return None

    def _value(self, at: int) -> tuple[str, int]:
        """Parts joined by `#`, and where they end."""
        parts: list[str] = []
        while True:
            part, at = self._part(at)
            parts.append(part)
            if (more := _JOIN.match(self._text, at)) is None:
                return "".join(parts), at
            at = more.end()

    def _part(self, at: int) -> tuple[str, int]:
        text = self._text
        mark = text[at : at + 1]
        if mark in ("{", '"'):
            end = self._closing(at + 1, quoted=mark == '"')
            return text[at + 1 : end], min(end + 1, len(text))
        bare = _BARE.match(text, at)
        end = bare.end() if bare else at
        if end == at:
            return "", at + 1  # so that nothing is looked at for ever
        word = text[at:end].strip()
        word = word.rstrip(") ") if end >= len(text) - 1 else word
        return self._macros.get(word.casefold(), word), end

    def _closing(self, begun: int, *, quoted: bool) -> int:
        """Where a value ends. A quotation mark ends one only outside of braces, and if what follows may.

        One that is never closed ends before the next field.
        """
        text = self._text
        depth = 0
        for step in () if self._broken else (_QUOTE if quoted else _BRACE).finditer(text, begun):
            mark = step[0]
            if mark == "{":
                depth += 1
            elif mark == "}" and depth:
                depth -= 1
            elif (mark == "}" and not quoted) or (
                mark == '"' and not depth and _AFTER.match(text, step.end())
            ):
                return step.start()
        self._broken = True
        later = _NEXT.search(text, begun)
        return begun + len(text[begun : later.start() if later else None].rstrip('"}), \n'))
