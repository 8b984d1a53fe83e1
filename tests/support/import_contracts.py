"""A contract for import-linter: what some modules may import of a package, as a list of what is allowed.

import-linter's own contracts name what is forbidden, and so permit every module that is added later.
"""

from __future__ import annotations

from typing import Any, cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Modules of `importers`, with all below them, import of `package` directly nothing but `allowed`.

    What the allowed modules import themselves is for the package's own contracts to say.
    """

    type_name = "allow_list"

    importers = fields.ListField(subfield=fields.ModuleField())
    package = fields.ModuleField()
    allowed = fields.ListField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every import from an importer into the package."""
        del verbose
        # A contract's fields are descriptions in the class, and values in its instances.
        options = cast(Any, self)
        importers: list[str] = [module.name for module in options.importers]
        allowed: list[str] = [module.name for module in options.allowed]
        package: str = options.package.name
        broken = [
            f"{module} -> {imported} (l. {', '.join(str(line) for line in lines)})"
            for module in sorted(graph.modules)
            if _is_within(module, importers)
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            if _is_within(imported, [package]) and not _is_within(imported, allowed)
            for lines in [
                sorted(
                    detail["line_number"]
                    for detail in graph.get_import_details(importer=module, imported=imported)
                )
            ]
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed."""
        for line in check.metadata["broken"]:
            output.print_error(f"- {line}")


def _is_within(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
