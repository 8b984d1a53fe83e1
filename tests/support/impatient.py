"""What stands before a portal and shortens how long it may wait, so that tests of long waits need not."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2


@contextlib.contextmanager
def impatient(portal: str, wait_s: int) -> Generator[tuple[str, queue.Queue[tuple[str, int]]]]:
    """Pass calls on to `portal` with their `wait_s` replaced; its own address, and what is answered."""
    answers: queue.Queue[tuple[str, int]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on(None)

        def do_POST(self) -> None:
            self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

        def _pass_on(self, body: bytes | None) -> None:
            url = portal + re.sub(r"wait_s=\d+", f"wait_s={wait_s}", self.path)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            said = httpx2.request(self.command, url, content=body, headers=headers, timeout=60)
            self.send_response(said.status_code)
            for name in ("Content-Type", "Location"):
                if name in said.headers:
                    self.send_header(name, said.headers[name])
            self.send_header("Content-Length", str(len(said.content)))
            self.end_headers()
            self.wfile.write(said.content)
            answers.put((self.command, said.status_code))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base has it
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="impatient")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
