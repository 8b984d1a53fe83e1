"""Reading the fields of a decoded msgpack map: each reader returns a checked value or names what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

import msgpack
import numpy as np
from numpy.typing import NDArray

from xuankan.errors import ProtocolError

_Scalar = TypeVar("_Scalar", bound=np.generic)

MAX_ITEMS: Final = 10_000
MAX_FIELDS: Final = 256
"""Items of a list and fields of a map at most, so that a few bytes cannot ask for a large table."""
_NAME = re.compile(r"[A-Za-z0-9._:/+-]{0,60}")


def unpack(data: bytes, max_bytes: int) -> Mapping[str, object]:
    """Decode one msgpack map with text keys.

    Raises:
        ProtocolError: too large, not msgpack, or not a map of text keys.
    """
    if len(data) > max_bytes:
        raise ProtocolError("message", f"{len(data)} bytes, but at most {max_bytes} are read")
    try:
        # msgpack raises several unrelated types on hostile input: its own ValueErrors, but also TypeError
        # (an unhashable map key), OverflowError (a timestamp out of range) and RecursionError.
        message: object = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            use_list=True,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_FIELDS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError("message", f"not one msgpack map: {error or type(error).__name__}") from None
    if not isinstance(message, dict):
        raise ProtocolError("message", f"a msgpack {type(message).__name__}, not a map")
    fields = cast(dict[object, object], message)
    if not all(isinstance(key, str) for key in fields):
        raise ProtocolError("message", "a map whose keys are not all text")
    return cast(Mapping[str, object], fields)


class Fields:
    """Checked access to a message's fields. Unknown fields are ignored: minor versions may add some."""

    def __init__(self, fields: Mapping[str, object], path: str = "") -> None:
        self._fields = fields
        self._path = path

    def _wrong(self, name: str, wanted: str) -> ProtocolError:
        value = self._fields.get(name)
        found = f"not {shown(value)}" if name in self._fields else "but is missing"
        return ProtocolError(self._path + name, f"must be {wanted}, {found}")

    def text(self, name: str, max_length: int) -> str:
        """Text of at most `max_length` characters."""
        value = self._fields.get(name)
        if not isinstance(value, str) or len(value) > max_length:
            raise self._wrong(name, f"text of at most {max_length} characters")
        return value

    def optional_text(self, name: str, max_length: int) -> str | None:
        """Text, or nil or absent."""
        return None if self._fields.get(name) is None else self.text(name, max_length)

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer within [low, high]."""
        value = self._fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"an integer from {low} to {high}")
        return value

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        """An integer, or nil or absent."""
        return None if self._fields.get(name) is None else self.integer(name, low, high)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not _is_finite(value):
            raise self._wrong(name, "a finite number")
        return float(value)

    def optional_number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A finite number within [low, high], or nil or absent."""
        if self._fields.get(name) is None:
            return None
        if not low <= (value := self.number(name)) <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}")
        return value

    def array(self, name: str, dtype: np.dtype[_Scalar], max_items: int) -> NDArray[_Scalar]:
        """One-dimensional array from raw little-endian bytes (msgpack `bin`)."""
        value = self._fields.get(name)
        size = dtype.itemsize
        if not isinstance(value, bytes) or len(value) % size or len(value) > max_items * size:
            raise self._wrong(name, f"bin of at most {max_items} little-endian {dtype.name} items")
        return np.frombuffer(value, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)

    def optional_array(self, name: str, dtype: np.dtype[_Scalar], max_items: int) -> NDArray[_Scalar] | None:
        """An array, or nil or absent."""
        return None if self._fields.get(name) is None else self.array(name, dtype, max_items)

    def texts(self, name: str, max_items: int, max_length: int) -> tuple[str, ...]:
        """A list of texts."""
        items = self.items(name, max_items)
        if not all(isinstance(item, str) and len(item) <= max_length for item in items):
            raise self._wrong(name, f"a list of texts of at most {max_length} characters")
        return tuple(cast(list[str], items))

    def items(self, name: str, max_items: int) -> list[object]:
        """A list of anything."""
        value = self._fields.get(name)
        if not isinstance(value, list) or len(cast(list[object], value)) > max_items:
            raise self._wrong(name, f"a list of at most {max_items} items")
        return cast(list[object], value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A map with text keys."""
        value = self._fields.get(name)
        if not isinstance(value, dict) or not all(
            isinstance(k, str) for k in cast(dict[object, object], value)
        ):
            raise self._wrong(name, "a map with text keys")
        return cast(Mapping[str, Any], value)

    def optional_mapping(self, name: str) -> Mapping[str, Any] | None:
        """A map with text keys, or nil or absent."""
        return None if self._fields.get(name) is None else self.mapping(name)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def shown(value: object) -> str:
    """A value as errors show it: numbers and names as they are, of anything else its kind and size.

    A producer with a fault may send a manuscript in any field, and errors reach logs and the dead stream.
    """
    if value is None:
        return "nil"
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**64):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, str) and _NAME.fullmatch(value):
        return f"str {value!r}"
    kind = type(value).__name__
    return f"{kind} of {len(cast(str, value))}" if kind in ("str", "bytes", "list", "dict") else kind
