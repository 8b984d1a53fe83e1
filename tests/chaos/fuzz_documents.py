"""`python -m tests.chaos.fuzz_documents --kind .tex --seconds 60`: bytes made to break a reader.

They are guided by coverage: wants atheris (`pip install atheris`), which is no dependency, because it is
built for few versions of Python. Begins with the files of tests/data/documents. Ends with an error at the
first input that makes a reader raise anything but `Unreadable`, take more than ten seconds, or answer without
a reason; libFuzzer leaves that input in a file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).parents[1] / "data" / "documents"
MAX_BYTES: Final = 20_000


def main() -> None:
    """Fuzz until the time is over."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--kind", default=".tex", help="the ending of the file's name")
    options.add_argument("--seconds", type=int, default=60)
    asked = options.parse_args()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["xuankan"]):
        documents: Any = importlib.import_module("xuankan.documents")
        errors: Any = importlib.import_module("xuankan.errors")
        importlib.import_module("xuankan.documents.latex")
        importlib.import_module("xuankan.documents.markdown")

    def once(data: bytes) -> None:
        try:
            for record in documents.read(documents.File(f"file{asked.kind}", data=data)):
                if isinstance(record, documents.Problem) and not record.problem.strip():
                    raise AssertionError("a record is refused without a reason")
        except errors.Unreadable as refused:
            if not str(refused).removeprefix(f"{refused.field}: ").strip():
                raise AssertionError("a file is refused without a reason") from refused

    with tempfile.TemporaryDirectory() as folder:
        for seed in DATA.rglob(f"*{asked.kind}"):
            (Path(folder) / seed.name).write_bytes(seed.read_bytes()[:MAX_BYTES])
        limits = [
            f"-max_total_time={asked.seconds}",
            "-timeout=10",
            "-rss_limit_mb=4096",
            f"-max_len={MAX_BYTES}",
        ]
        atheris.Setup([sys.argv[0], folder, *limits], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
