"""What the query of a call may be."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from xuankan.candidates import Filters
from xuankan.portal.schemas import Languages, Price, Words

MAX_WAIT_S: Final = 60.0


class WaitQuery(Struct, forbid_unknown_fields=True):
    """The query of a look at a ranking."""

    wait_s: Annotated[
        float,
        Meta(ge=0, le=MAX_WAIT_S, description="Wait so long for the ranking; then 202 is answered."),
    ] = 0.0


class SubmitQuery(Struct, forbid_unknown_fields=True):
    """The query of a submission."""

    wait_s: Annotated[
        float,
        Meta(ge=0, le=MAX_WAIT_S, description="Wait so long for the ranking; then 202 is answered."),
    ] = 20.0


class NoQuery(Struct, forbid_unknown_fields=True):
    """No query."""


class FileQuery(Struct, forbid_unknown_fields=True):
    """The query of an extraction."""

    name: Annotated[str, Meta(min_length=1, max_length=255, description="The file's name.")]


class JournalsQuery(Struct, forbid_unknown_fields=True):
    """Which journals to list: the filters of a ranking, and words."""

    open_access: Annotated[
        bool | UnsetType, Meta(description="true: gold or diamond only; false: the others only.")
    ] = UNSET
    max_apc_usd: Annotated[
        Price | UnsetType, Meta(description="Publishing openly costs at most so many US dollars.")
    ] = UNSET
    languages: Annotated[Languages, Meta(description="It publishes in one of these.")] = []
    publishers: Annotated[Words, Meta(description="Its publisher's name holds one of these.")] = []
    subjects: Annotated[Words, Meta(description="One of its subjects holds one of these.")] = []
    q: Annotated[str, Meta(max_length=200, description="Words of the title, an ISSN or an id.")] = ""
    limit: Annotated[int, Meta(ge=0, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0

    def filters(self) -> Filters:
        """The same for a producer.

        Raises:
            FilterError: a text without a letter or digit.
        """
        return Filters(
            None if self.open_access is UNSET else self.open_access,
            None if self.max_apc_usd is UNSET else self.max_apc_usd,
            tuple(self.languages),
            tuple(self.publishers),
            tuple(self.subjects),
        )
