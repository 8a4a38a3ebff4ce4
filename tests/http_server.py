"""A small HTTP file server on the loopback interface, for tests of downloads: it also fails on demand.

    with FileServer({"/train.tsv": Reply(b"...")}) as server:
        fetch(server.url("/train.tsv"))

`replies` may be changed while the server runs; `requests` lists what was asked for, in order.
"""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclasses.dataclass
class Reply:
    """What one address answers: `cut_at` closes the connection after that many bytes of the body."""

    body: bytes = b""
    status: int = 200
    cut_at: int | None = None
    send_length: bool = True


class LoopbackServer:
    """An HTTP server on 127.0.0.1 that runs in a thread for as long as it is entered."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0):
        self.requests: list[str] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def port(self) -> int:
        return self.http.server_address[1]


class FileServer(LoopbackServer):
    """Serves `replies` (path -> Reply); 404 for any other path."""

    def __init__(self, replies: dict[str, Reply], port: int = 0):
        super().__init__(self.handler(), port)
        self.replies = replies

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(f"{self.command} {self.path}")
                reply = server.replies.get(self.path, Reply(status=404))
                self.send_response(reply.status)
                if reply.send_length:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(reply.body[: reply.cut_at])
                # HTTP/1.0: the connection closes here, also when fewer bytes went out than were announced.

            do_HEAD = do_GET

            def log_message(self, *words):
                """Keep the tests' output to what the tests say."""

        return Handler


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port of the loopback interface on which nothing listens, kept from others for the while."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
