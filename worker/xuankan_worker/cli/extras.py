"""Commands that need packages which not every installation has."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click


@contextmanager
def needs(extra: str) -> Generator[None]:
    """Around imports: says which extra holds a missing module."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is missing: pip install 'xuankan[{extra}]'") from error
