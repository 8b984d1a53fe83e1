"""What the query of a call may be."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from xuankan.candidates import Filters
from xuankan.portal.schemas import (
    ACCESS,
    CHARGE,
    FiltersBody,
    InLanguages,
    OfPublishers,
    OnSubjects,
    Price,
)

MAX_WAIT_S: Final = 60.0


class WaitQuery(Struct, forbid_unknown_fields=True):
    """The query of a look at a ranking."""

    wait_s: Annotated[
        float,
        Meta(ge=0, le=MAX_WAIT_S, description="How long to wait for the ranking before answering 202."),
    ] = 0.0


class SubmitQuery(Struct, forbid_unknown_fields=True):
    """The query of a submission."""

    wait_s: Annotated[
        float,
        Meta(ge=0, le=MAX_WAIT_S, description="How long to wait for the ranking before answering 202."),
    ] = 20.0


class NoQuery(Struct, forbid_unknown_fields=True):
    """No query."""


class FileQuery(Struct, forbid_unknown_fields=True):
    """The query of an extraction."""

    name: Annotated[str, Meta(min_length=1, max_length=255, description="The file's name.")]


class JournalsQuery(Struct, forbid_unknown_fields=True):
    """Which journals to list: the filters of a ranking, and words."""

    open_access: Annotated[bool | UnsetType, ACCESS] = UNSET
    max_apc_usd: Annotated[Price | UnsetType, CHARGE] = UNSET
    languages: InLanguages = []
    publishers: OfPublishers = []
    subjects: OnSubjects = []
    q: Annotated[str, Meta(max_length=200, description="Words of the title, an ISSN or an id.")] = ""
    limit: Annotated[int, Meta(ge=0, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0

    def filters(self) -> Filters:
        """The same for a producer.

        Raises:
            FilterError: a text without a letter or digit.
        """
        return FiltersBody(
            open_access=None if self.open_access is UNSET else self.open_access,
            max_apc_usd=None if self.max_apc_usd is UNSET else self.max_apc_usd,
            languages=self.languages,
            publishers=self.publishers,
            subjects=self.subjects,
        ).filters()
