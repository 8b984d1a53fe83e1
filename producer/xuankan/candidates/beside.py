"""The first stage that lies beside a catalogue's file, made once by whoever writes the catalogue.

Making one for 27,000 journals takes a minute or so, too long for every start of a producer.
"""

from __future__ import annotations

from pathlib import Path

from xuankan.candidates.first_stage import FirstStage
from xuankan.catalogue.model import Catalogue
from xuankan.errors import CatalogueError

_ENDING = ".first_stage.npz"


def first_stage_file(catalogue_file: Path) -> Path:
    """`ours.json.gz` -> `ours.first_stage.npz`, in the same directory."""
    name = catalogue_file.name.removesuffix(".gz").removesuffix(".json")
    return catalogue_file.with_name(name + _ENDING)


def first_stage_of(catalogue_file: Path, catalogue: Catalogue) -> FirstStage:
    """The first stage beside a catalogue's file; where there is none, the package's, fitted to the catalogue.

    Raises:
        CatalogueError: it cannot be read, or was made for another catalogue.
    """
    path = first_stage_file(catalogue_file)
    if not path.exists():
        return FirstStage.default().for_catalogue(catalogue)
    found = FirstStage.load(path)
    if found.catalogue_version != catalogue.version:
        raise CatalogueError(
            f"{path} was made for catalogue {found.catalogue_version}, but {catalogue_file} is "
            f"{catalogue.version}: import or build them again, or delete the first stage"
        )
    return found
