"""`xuankan` as a process: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.portal import manuscript, worker_process
from tests.support.server import ValkeyProcess, free_port
from tests.support.world import KEYS, catalogue

_ABSTRACT = "We study the flow of a fluid past a cylinder and show that it is stable for small numbers."


def xuankan(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    command = [sys.executable, "-m", "xuankan.cli.main", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "160"}
    environment.pop("XUANKAN_REDIS", None)
    ended = subprocess.run(
        command, input=stdin, capture_output=True, timeout=60, check=False, env=environment
    )
    assert b"Traceback" not in ended.stderr, ended.stderr.decode()
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.fixture(scope="module")
def catalogue_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.json.gz"
    catalogue().save(path)
    return path


@pytest.fixture(scope="module")
def asked(shared_server: ValkeyProcess, catalogue_file: Path) -> Iterator[tuple[str, ...]]:
    """`recommend` with the options for a server on which a worker runs."""
    with worker_process(shared_server.url):
        yield (
            *("recommend", "--redis", shared_server.url, "--namespace", KEYS.namespace),
            *("--catalogue", str(catalogue_file)),
        )


def test_a_text_file_gives_a_table(asked: tuple[str, ...], tmp_path: Path) -> None:
    paper = tmp_path / "paper.txt"
    paper.write_text(f"Flow past a [bold]cylinder\n\n{_ABSTRACT}\n", "utf-8")
    code, out, err = xuankan(*asked, paper, "--top-k", "3")
    assert (code, err) == (0, "")
    assert "Flow past a [bold]cylinder" in out
    for fact in ("Example Press", "1234-5679", "engine", "commit", "40 journals scored", "release-1"):
        assert fact in out
    assert out.count("Journal ") == 3


def test_title_and_abstract_give_json(asked: tuple[str, ...]) -> None:
    options = ("--journal", "journal-1", "--journal", "journal-7", "--json")
    code, out, _ = xuankan(*asked, "--title", "Flow past a cylinder", *options)
    assert code == 0
    ranking: dict[str, Any] = json.loads(out)
    assert {place["journal"] for place in ranking["journals"]} == {"journal-1", "journal-7"}
    assert ranking["title"] == "Flow past a cylinder"
    assert ranking["timings"]["total_ms"] > ranking["timings"]["engine_ms"] > 0
    assert any("no abstract" in warning for warning in ranking["warnings"])


def test_json_lines_come_back_in_their_order_and_bad_ones_do_not_stop_others(asked: tuple[str, ...]) -> None:
    rows: list[dict[str, Any]] = [
        {"title": one.title, "abstract": one.abstract} for one in map(manuscript, range(20))
    ]
    rows[5] = {"title": "关于图论的研究与应用", "abstract": ""}
    stdin = "\n\n".join(json.dumps(row) for row in rows).encode()
    code, out, err = xuankan(*asked, "-", "--json", "--subject", "surgery", stdin=stdin)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["title"] for answer in answers] == [row["title"] for row in rows]
    assert [index for index, answer in enumerate(answers) if "error" in answer] == [5]
    assert code == 4
    assert "manuscript 6" in err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("paper.pdf", b"%PDF-1.7 \xff", "damaged"),
        ("paper.docx", b"PK\x03\x04\x14\x00", "damaged zip file"),
        ("paper.txt", b"   \n", "it is empty"),
        ("paper.json", b'{"title": ', "JSON"),
        ("paper.json", b'{"name": "x"}', "title"),
        ("papers.jsonl", b'{"title": "Flow"}\n[1, 2]\n', "line 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_way_out(
    asked: tuple[str, ...], tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    code, _, err = xuankan(*asked, path)
    assert code in (2, 4)
    assert told in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("recommend",),
        ("recommend", "no-such-file.txt"),
        ("recommend", "-", "--title", "Flow"),
        ("recommend", "--title", "Flow", "--redis", "redis://h", "--embedded"),
        ("recommend", "--title", "Flow", "--redis", "http://h"),
        ("recommend", "--title", "Flow", "--top-k", "0"),
        ("recommend", "--title", "Flow", "--redis", "redis://h", "--namespace", "a b"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...]) -> None:
    code, out, err = xuankan(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_no_server_is_code_3() -> None:
    code, out, err = xuankan(
        "recommend", "--title", "Flow", "--redis", f"redis://u:hush@127.0.0.1:{free_port()}"
    )
    assert (code, out) == (3, "")
    assert "Is the server running" in err
    assert "hush" not in err


def test_no_worker_is_code_4_with_a_hint(server_url: str) -> None:
    code, _, err = xuankan("recommend", "--title", "Flow", "--redis", server_url, "--timeout-s", "0.3")
    assert code == 4
    assert "Is a worker running?" in err


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert version("xuankan") in xuankan("--version")[1]


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code, out, _ = xuankan("--help")
    assert code == 0
    for name in ("recommend", "demo", "catalogue", "worker", "model", "bench"):
        assert name in out
    script = (
        "import sys\n"
        "from xuankan.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    for arguments in (["--help"], ["recommend", "--help"]):
        shown = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
        ).stdout
        loaded = set(shown.splitlines()[-1].split())
        assert "click" in loaded
        assert not loaded & {"numpy", "redis", "tokenizers", "rich", "asyncio", "onnxruntime", "msgpack"}
