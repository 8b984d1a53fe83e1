"""What this installation brings: the catalogue, the first stage, the tokenizer, the keys that seal."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from xuankan.candidates import FirstStage, first_stage_of
from xuankan.catalogue import Catalogue
from xuankan.catalogue.check import check
from xuankan.doctor.findings import Finding, Role, by_state
from xuankan.errors import InputError, XuankanError
from xuankan.protocol.sealing import KEYS_VARIABLE, Sealer
from xuankan.protocol.template import Template

AREA: Final = "package"


@dataclass(frozen=True, slots=True)
class Package:
    """What the rest of the checks compares with.

    Attributes:
        catalogue, template: as producers and workers on this machine use them; None if it cannot be read.
        sealed: whether requests are encrypted.
    """

    catalogue: Catalogue | None
    template: Template | None
    sealed: bool


def examine(
    catalogue_file: Path | None, environment: Mapping[str, str], role: Role | None
) -> tuple[Package, list[Finding]]:
    """Look at the installation.

    Args:
        catalogue_file: as producers and workers are given it; None for the package's own.
        environment: where the keys are.
        role: what this machine has to do; only producers choose candidates, and the workers' images cannot.
    """
    found = [_installation()]
    template, one = _template()
    found.append(one)
    catalogue, several = _catalogue(catalogue_file, template)
    found += several
    if catalogue is not None and role in (None, "producer"):
        found.append(_first_stage(catalogue_file, catalogue, role))
    sealed, one = _sealing(environment)
    return Package(catalogue, template, sealed), [*found, one]


def _installation() -> Finding:
    try:
        ours = version("xuankan")
    except PackageNotFoundError:
        ours = "(not installed, run from its source)"
    return Finding(AREA, "installation", "ok", f"xuankan {ours}, Python {platform.python_version()}")


def _template() -> tuple[Template | None, Finding]:
    try:
        template = Template.default()
    except XuankanError as error:
        return None, Finding(AREA, "tokenizer", "failure", str(error), "reinstall xuankan")
    return template, Finding(AREA, "tokenizer", "ok", template.fingerprint)


def _catalogue(file: Path | None, template: Template | None) -> tuple[Catalogue | None, list[Finding]]:
    try:
        catalogue = Catalogue.default() if file is None else Catalogue.load(file)
    except XuankanError as error:
        remedy = "reinstall xuankan" if file is None else "rebuild it: xuankan catalogue import"
        return None, [Finding(AREA, "catalogue", "failure", str(error), remedy)]
    found = [Finding(AREA, "catalogue", "ok", f"{len(catalogue):,} journals, version {catalogue.version}")]
    if file is not None and template is not None:
        tokenizer = template.tokenizer
        report = check(
            catalogue,
            lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            template.max_profile_tokens,
        )
        if report.findings:
            first_of = report.findings[0]
            fact = (
                f"{len(report.findings):,} entries look wrong, the first: "
                f"{first_of.journal}, {first_of.field}: {first_of.message}"
            )
            remedy = f"xuankan catalogue check --catalogue {file}"
            found.append(Finding(AREA, "catalogue", "warning", fact, remedy))
    return catalogue, found


def _first_stage(file: Path | None, catalogue: Catalogue, role: Role | None) -> Finding:
    try:
        first = FirstStage.default()
        if file is not None:
            first_stage_of(file, catalogue)
    except XuankanError as error:
        state = "failure" if role == "producer" else "warning"
        remedy = "reinstall xuankan" if file is None else "rebuild it: xuankan catalogue import"
        remedy += ", or run producers elsewhere: without it no candidates can be chosen here"
        return Finding(AREA, "first stage", state, str(error), remedy)
    known = sum(journal in catalogue for journal in first.journals)
    fact = f"knows papers of {known:,} journals"
    if known < len(catalogue):
        fact += f"; {len(catalogue) - known:,} are ranked by their profiles alone"
    return Finding(AREA, "first stage", "ok", fact)


def _sealing(environment: Mapping[str, str]) -> tuple[bool, Finding]:
    try:
        sealer = Sealer.from_environment(environment)
    except InputError as error:
        return False, Finding(AREA, "sealing", "failure", str(error), f"correct {KEYS_VARIABLE}")
    if not sealer.key_ids:
        fact = f"off ({KEYS_VARIABLE} is not set): whoever runs the server can read manuscripts"
        return False, Finding(AREA, "sealing", "ok", fact)
    bad = "failure" if find_spec("cryptography") is None else None
    fact = f"seals with key {sealer.key_ids[0]}, opens with {len(sealer.key_ids)}"
    return True, by_state(bad, AREA, "sealing", fact, "pip install 'xuankan[secure]'")
