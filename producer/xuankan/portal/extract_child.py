"""`python -m xuankan.portal.extract_child FORMAT`: reads one file from standard input, prints what it holds.

This is the process that may die: of a zip bomb, of a PDF that loops, of a fault in a library.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Final, cast

_MEMORY_BYTES: Final = 1536 * 2**20
_CPU_S: Final = 20
_OPEN_FILES: Final = 64


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """Answer on standard output in JSON: what was found, or `error`."""
    _limit()
    from xuankan.portal.extract import Format
    from xuankan.portal.extract_files import READERS, Unreadable, finish

    try:
        answer = finish(*READERS[cast(Format, sys.argv[1])](sys.stdin.buffer.read()))
    except Unreadable as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
