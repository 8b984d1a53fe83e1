"""One class, one name: a reader who meets a name in a log, an error or a search finds one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import xuankan
import xuankan_worker


def test_no_two_classes_have_the_same_name() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for package in (xuankan, xuankan_worker):
        root = Path(str(package.__file__)).parent
        for path in root.rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    homes[node.name].append(str(path.relative_to(root.parent)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
