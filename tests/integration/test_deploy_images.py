"""deploy/images: a sound Dockerfile, locks that are up to date, and no image that lacks what it imports."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy/images"
EXTRAS = {
    "worker-gpu": ("gpu-rtx", "secure", "tracing"),
    "worker-cpu": ("cpu", "secure", "tracing"),
    "portal": ("portal", "secure", "tracing"),
    "tools": ("export", "data", "backlog", "gpu-rtx"),
}
SERVERS = ("worker-gpu", "worker-cpu", "portal")
IMPORTS = {
    "worker-gpu": "xuankan_worker.worker, xuankan_worker.execution.served_model, "
    "xuankan_worker.engines.tensorrt.engine, cuda.bindings.runtime, tensorrt_rtx, "
    "xuankan_worker.cli.worker, xuankan_worker.cli.top, pynvml",
    "worker-cpu": "xuankan_worker.worker, xuankan_worker.execution.served_model, "
    "xuankan_worker.engines.onnx, onnxruntime, xuankan_worker.operations.exporter, xuankan_worker.cli.worker",
    "portal": "xuankan.portal.app, xuankan.portal.extract, xuankan.portal.extract_child, xuankan.cli.portal, "
    "uvicorn.protocols.http.httptools_impl, xuankan.cli.rerank, lxml.etree, pypdfium2, yaml, pylatexenc",
}


def locked(image: str) -> dict[str, str]:
    """Version by name of the packages that go into an image."""
    text = (IMAGES / f"requirements/{image}.txt").read_text()
    return {_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def left_out() -> set[str]:
    text = (IMAGES / "requirements/left-out.in").read_text()
    return {_name(Requirement(line).name) for line in text.splitlines() if line and not line.startswith("#")}


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", IMAGES / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("image", EXTRAS)
def test_every_locked_package_is_pinned_by_hash_at_the_version_that_is_tested(image: str) -> None:
    """`deploy/images/lock` makes the files anew."""
    text = (IMAGES / f"requirements/{image}.txt").read_text()
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    tested = {_name(name): version for name, version in tested.items()}
    found = locked(image)
    assert {name: version for name, version in found.items() if tested.get(name, version) != version} == {}


@pytest.mark.parametrize("image", EXTRAS)
def test_the_locks_hold_what_pyproject_asks_for(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked: list[str] = [*project["dependencies"]]
    extras = [*EXTRAS[image]]
    for extra in extras:
        for wanted in project["optional-dependencies"][extra]:
            # An extra may be made of others.
            extras += Requirement(wanted).extras if wanted.startswith("xuankan[") else ()
            asked += () if wanted.startswith("xuankan[") else (wanted,)
    found, absent = locked(image), left_out() if image in SERVERS else set[str]()
    for requirement in map(Requirement, asked):
        if (name := _name(requirement.name)) not in absent:
            assert name in found, f"{requirement} is not in {image}.txt; run deploy/images/lock"
            assert found[name] in requirement.specifier, f"{requirement}: {found[name]} is locked"


@pytest.mark.parametrize("image", SERVERS)
def test_no_server_carries_pytorch_or_what_was_left_out(image: str) -> None:
    assert not locked(image).keys() & ({"torch", "transformers", "triton", "scikit-learn"} | left_out())


@pytest.mark.parametrize("image", SERVERS)
def test_nothing_that_a_server_imports_is_left_out_of_its_image(image: str) -> None:
    """Imports what the image runs, and looks where each module came from."""
    patterns = runpy.run_path(str(IMAGES / "make-root"))
    site_left_out = cast("re.Pattern[str]", patterns["SITE_LEFT_OUT"])
    stdlib_left_out = cast("re.Pattern[str]", patterns["STDLIB_LEFT_OUT"])
    program = (
        f"import sys, sysconfig, {IMPORTS[image]}\n"
        "print(sysconfig.get_path('stdlib'), sysconfig.get_path('platlib'), sep='\\n')\n"
        "for module in list(sys.modules.values()):\n"
        "    print(getattr(module, '__file__', None) or '')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stdlib, site, *modules = done.stdout.splitlines()
    absent = left_out()
    for module in filter(None, modules):
        if module.startswith(site):
            inside = module.removeprefix(site + "/")
            assert not site_left_out.search(inside), inside
            assert _name(inside.split("/")[0]) not in absent, inside
        elif module.startswith(stdlib):
            assert not stdlib_left_out.search(module.removeprefix(stdlib)), module


def test_the_final_images_start_from_nothing_and_run_as_nobody() -> None:
    stages = cast("list[Any]", re.split(r"^(?=FROM )", (IMAGES / "Dockerfile").read_text(), flags=re.M)[1:])
    named = {stage.split()[3]: stage for stage in stages}
    assert named["base"].startswith("FROM scratch ")
    assert "USER 65532:65532" in named["base"]
    for image in SERVERS:
        assert named[image].startswith("FROM base AS")
        assert "\nUSER" not in named[image]
        assert "\nRUN" not in named[image]
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", (IMAGES / "Dockerfile").read_text(), re.M)
