"""Schemathesis calls the portal in every way that its OpenAPI document allows, and in many others."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import served, write_keys
from tests.support.portal import worker_process
from tests.support.server import ValkeyProcess

_KEY = "xk_of-schemathesis"
# A manuscript without an English word, or filters that leave no journal, fit the schema all the same.
_CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "409", "410", "422"]
"""
_ALLOWED = """
[keys.schemathesis]
sha256 = "{}"
rankings_per_minute = 1_000_000
burst = 1_000_000
"""


@pytest.mark.timeout(600)
def test_it_does_what_its_openapi_document_says(shared_server: ValkeyProcess, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(_CONFIG)
    keys = write_keys(tmp_path, _ALLOWED.format(hashlib.sha256(_KEY.encode()).hexdigest()))
    with worker_process(shared_server.url), served(shared_server.url, keys_file=keys) as url:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(tmp_path / "schemathesis.toml"), "run", f"{url}/v1/openapi.json"),
                *("--header", f"Authorization: Bearer {_KEY}", "--checks", "all", "--no-color"),
                *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "10", "--seed", "1"),
                "--generation-database=none",
            ],
            cwd=tmp_path,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 selected / 10 total" in done.stdout
