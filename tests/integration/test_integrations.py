"""The programs of docs/integrations, run as they stand, on a real queue; the model is a tiny one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.impatient import impatient
from tests.support.programs import need
from xuankan import Manuscript, SyncProducer
from xuankan.embedded.servers import EmbeddedServer, EmbeddedWorker, free_port

PROGRAMS = Path(__file__).parents[2] / "docs" / "integrations"
TITLE = "Galaxy morphology prediction using capsule networks"
ABSTRACT = (
    "Understanding the morphological types of galaxies is a key parameter for studying their formation and "
    "evolution. We study capsule networks, a recent kind of neural network, for the classification of images "
    "of galaxies, on data of the Galaxy Zoo."
)
CELERY_DATABASE = 1
Encode = Callable[[str, str], tuple[bytes, str]]
"""A title and an abstract as a body and its type."""


class World:
    """A server, a worker, and what they make of the manuscript."""

    def __init__(self, server: EmbeddedServer, worker: EmbeddedWorker) -> None:
        self.url = server.tcp_url
        self.worker = worker
        producer = SyncProducer(self.url)
        with contextlib.closing(producer):
            self.titles = [
                place.metadata["title"] for place in producer.rank(Manuscript(TITLE, ABSTRACT), top_k=5)
            ]

    def environment(self, **more: str) -> dict[str, str]:
        return (
            os.environ
            | {"XUANKAN_REDIS": self.url, "PYTHONPATH": str(PROGRAMS), "PYTHONUNBUFFERED": "1"}
            | more
        )


@pytest.fixture(scope="module")
def world(release: Path) -> Iterator[World]:
    options = ("--model", str(release))
    with EmbeddedServer(port=0) as server, EmbeddedWorker(server.url, options=options) as worker:
        yield World(server, worker)


@contextlib.contextmanager
def serving(
    command: Sequence[str], environment: dict[str, str], log: Path, cwd: Path = PROGRAMS
) -> Generator[subprocess.Popen[bytes]]:
    """A service, ended with the block together with what it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answer(url: str, body: bytes, kind: str, process: subprocess.Popen[bytes], log: Path) -> tuple[int, Any]:
    """What a service answers to a POST, once it listens."""
    deadline_s = time.monotonic() + 60
    while True:
        request = urllib.request.Request(url, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except urllib.error.URLError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.1)


def form(title: str, abstract: str) -> tuple[bytes, str]:
    return urlencode({"title": title, "abstract": abstract}).encode(), "application/x-www-form-urlencoded"


def as_json(title: str, abstract: str) -> tuple[bytes, str]:
    return json.dumps({"title": title, "abstract": abstract}).encode(), "application/json"


def assert_recommends(
    world: World, url: str, encode: Encode, process: subprocess.Popen[bytes], log: Path
) -> None:
    """It gives the journals, and the author's mistake as the author's."""
    status, found = answer(url, *encode(TITLE, ABSTRACT), process, log)
    assert (status, [journal["title"] for journal in found["journals"]]) == (200, world.titles)
    assert 0 < found["journals"][0]["score"] < 1
    status, found = answer(url, *encode("关于银河系的形态", ""), process, log)
    assert status == 422
    assert "title" in found["error"] or "language" in found["error"] or "English" in found["error"]


def test_django(world: World, tmp_path: Path) -> None:
    shutil.copy(PROGRAMS / "django_views.py", tmp_path)
    (tmp_path / "settings.py").write_text(
        "import os\nXUANKAN_REDIS = os.environ['XUANKAN_REDIS']\nROOT_URLCONF = 'urls'\n"
        "SECRET_KEY = 'x'\nALLOWED_HOSTS = ['127.0.0.1']\n"
    )
    (tmp_path / "urls.py").write_text(
        "import django_views\nfrom django.urls import path\n"
        "urlpatterns = [path('recommend', django_views.recommend)]\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]
    environment = world.environment(DJANGO_SETTINGS_MODULE="settings", PYTHONPATH=str(tmp_path))
    with serving(command, environment, tmp_path / "log", tmp_path) as process:
        assert_recommends(world, f"http://127.0.0.1:{port}/recommend", form, process, tmp_path / "log")


def test_flask(world: World, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "flask_app", "run", "--port", str(port)]
    with serving(command, world.environment(), tmp_path / "log") as process:
        assert_recommends(world, f"http://127.0.0.1:{port}/recommend", form, process, tmp_path / "log")


def test_fastapi(world: World, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port)]
    with serving(command, world.environment(), tmp_path / "log") as process:
        assert_recommends(world, f"http://127.0.0.1:{port}/recommend", as_json, process, tmp_path / "log")


def test_celery(world: World, tmp_path: Path) -> None:
    environment = world.environment(CELERY_BROKER=f"{world.url}/{CELERY_DATABASE}")
    command = [sys.executable, "-m", "celery", "--app", "celery_tasks", "worker", "--concurrency", "2"]
    # Two tasks, one for each process that Celery forks.
    ask = (
        "import json, sys; from celery_tasks import recommend\n"
        "asked = [recommend.delay(*sys.argv[1:]) for _ in range(2)]\n"
        "print(json.dumps([one.get(timeout=80) for one in asked]))"
    )
    with serving(command, environment, tmp_path / "log"):
        done = subprocess.run(
            [sys.executable, "-c", ask, TITLE, ABSTRACT],
            env=environment,
            cwd=PROGRAMS,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    for journals in json.loads(done.stdout):
        assert [journal["title"] for journal in journals] == world.titles


@pytest.fixture(scope="module")
def gateway(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The gateway with an API key; what its clients' environment needs."""
    directory = tmp_path_factory.mktemp("gateway")
    made = subprocess.run(
        [sys.executable, "-m", "xuankan.cli.main", "portal", "new-key", "tests"],
        capture_output=True,
        text=True,
        check=True,
    )
    (directory / "keys.toml").write_text(made.stdout)
    key = made.stderr.split()[-1]
    port = free_port()
    command = [
        *(sys.executable, "-m", "xuankan.cli.main", "portal", "--redis", world.url),
        *("--port", str(port), "--keys", str(directory / "keys.toml")),
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, world.environment(), directory / "log") as process:
        deadline_s = time.monotonic() + 60
        while not _is_ready(url):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline_s, (directory / "log").read_text()
            time.sleep(0.1)
        yield world.environment(XUANKAN_PORTAL=url, XUANKAN_API_KEY=key)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


CLIENTS = {"node": "recommend.mjs", "php": "recommend.php"}


def client(program: str, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [need(program), PROGRAMS / CLIENTS[program], *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("program", CLIENTS)
def test_through_the_gateway(world: World, gateway: dict[str, str], program: str) -> None:
    said, errors = (asked := client(program, gateway, TITLE, ABSTRACT)).communicate(timeout=100)
    assert asked.returncode == 0, errors
    lines = said.splitlines()
    assert len(lines) == len(world.titles)
    for line, title in zip(lines, world.titles, strict=True):
        assert title in line
    assert re.search(r" \d{4}-\d{3}[\dX]$", lines[0])
    refused = client(program, gateway, "", "")
    assert "there are no words in the title or abstract" in "".join(refused.communicate(timeout=60))
    assert refused.returncode != 0
    stranger = client(program, gateway | {"XUANKAN_API_KEY": "a-wrong-key"}, TITLE, ABSTRACT)
    assert "key" in "".join(stranger.communicate(timeout=60))
    assert stranger.returncode != 0


def test_a_ranking_that_takes_longer_than_one_answer_is_waited_for(
    world: World, gateway: dict[str, str]
) -> None:
    """The worker is held up for longer than the gateway waits at once."""
    os.kill(world.worker.pid, signal.SIGSTOP)
    try:
        with impatient(gateway["XUANKAN_PORTAL"], wait_s=1) as (url, answers):
            environment = gateway | {"XUANKAN_PORTAL": url}
            asked = [client(program, environment, TITLE, f"{ABSTRACT} {program}.") for program in CLIENTS]
            answered: list[tuple[str, int]] = []
            while answered.count(("POST", 202)) < len(CLIENTS) or ("GET", 202) not in answered:
                answered.append(answers.get(timeout=60))
            assert {status for _, status in answered} == {202}
            os.kill(world.worker.pid, signal.SIGCONT)
            for one in asked:
                said, errors = one.communicate(timeout=100)
                assert one.returncode == 0, errors
                assert world.titles[0] in said
    finally:
        os.kill(world.worker.pid, signal.SIGCONT)


def test_the_page_shows_the_programs_as_they_are() -> None:
    page = (PROGRAMS / "README.md").read_text()
    shown = re.findall(r"^\[(\S+)\]\(\1\)\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    files = {path.name for path in PROGRAMS.iterdir() if path.is_file()} - {"README.md"}
    assert {name for name, _ in shown} == files
    for name, text in shown:
        assert text == (PROGRAMS / name).read_text(), name
