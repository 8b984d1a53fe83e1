"""ONNX files of releases, read."""

from __future__ import annotations

from pathlib import Path

import onnx

from xuankan.errors import ReleaseError


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file.

    Raises:
        ReleaseError: it cannot be read, or holds none.
    """
    try:
        return onnx.ModelProto.FromString(path.read_bytes())
    except Exception as error:  # protobuf's own kinds are subclasses of Exception only
        raise ReleaseError(f"{path} is not an ONNX model: {error}") from error
