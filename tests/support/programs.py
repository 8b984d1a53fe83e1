"""System programs that some tests need: without one the test is skipped, except where nothing may be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_PACKAGES = {
    "chromium": "chromium",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "node": "nodejs",
    "php": "php-cli",
    "faketime": "faketime",
}
"""Debian's, which .ci/run installs."""
# Debian keeps servers where users do not look.
_ELSEWHERE = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def need(program: str) -> Path:
    """Where the system's `program` is. Without it the calling test is skipped, with a reason that names it.

    With XUANKAN_REQUIRE_ALL=1 in the environment, as in CI, the test fails instead, if .ci/run installs it.
    """
    found = shutil.which(program) or shutil.which(program, path=_ELSEWHERE)
    if found is not None:
        return Path(found)
    package = _PACKAGES.get(program)
    reason = f"needs {program}, which is not installed" + (f": apt-get install {package}" if package else "")
    if package and os.environ.get("XUANKAN_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (XUANKAN_REQUIRE_ALL=1 lets no test be skipped)", pytrace=False)
    pytest.skip(reason)
