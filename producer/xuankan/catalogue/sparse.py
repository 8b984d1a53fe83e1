"""Sparse matrices: the few operations of scipy's that are used here, with types. Needs the `data` extra."""

# scipy ships no types. This file is the one seam: it states the types of what the rest of the package uses.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from typing import Any, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


class Matrix(Protocol):
    """A matrix in compressed rows (scipy's `csr_matrix`)."""

    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def nnz(self) -> int: ...
    @property
    def T(self) -> Matrix: ...  # noqa: N802  # scipy's name
    def __getitem__(self, key: Any, /) -> Matrix: ...
    def __gt__(self, other: float, /) -> Matrix: ...
    @overload
    def __matmul__(self, other: Matrix, /) -> Matrix: ...
    @overload
    def __matmul__(self, other: NDArray[Any], /) -> NDArray[np.float32]: ...
    def multiply(self, other: Matrix, /) -> Matrix: ...
    def sum(self, axis: int) -> Any: ...
    def mean(self, axis: int) -> Any: ...
    def toarray(self) -> NDArray[np.float32]: ...
    def tocsr(self) -> Matrix: ...
    def astype(self, dtype: Any, /) -> Matrix: ...
    def copy(self) -> Matrix: ...
    def eliminate_zeros(self) -> None: ...
    def sort_indices(self) -> None: ...


def from_places(
    values: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, int]
) -> Matrix:
    """A matrix from values and their places; values of one place are added up."""
    return cast("Matrix", sparse.csr_matrix((values, (rows, columns)), shape=shape))


def from_rows(
    values: NDArray[Any], columns: NDArray[Any], starts: NDArray[Any], shape: tuple[int, int]
) -> Matrix:
    """A matrix from its rows one after the other: row i holds `values[starts[i]:starts[i + 1]]`."""
    return cast("Matrix", sparse.csr_matrix((values, columns, starts), shape=shape))


def row_lengths(matrix: Matrix) -> NDArray[np.float64]:
    """Euclidean lengths of the rows, float64 [rows]."""
    squares = np.square(matrix.data.astype(np.float64))
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.sqrt(np.bincount(row, weights=squares, minlength=matrix.shape[0]))


def unit_rows(matrix: Matrix) -> Matrix:
    """The matrix with every row scaled to length one; rows of zeros stay."""
    lengths = row_lengths(matrix)
    scaled = matrix.copy()
    divisor = np.repeat(np.where(lengths > 0, lengths, 1), np.diff(scaled.indptr))
    scaled.data = (scaled.data / divisor).astype(scaled.data.dtype)
    return scaled


def column(total: Any) -> NDArray[np.float64]:
    """What scipy's `sum` or `mean` along an axis gives, as a flat array."""
    return np.asarray(total, dtype=np.float64).ravel()
