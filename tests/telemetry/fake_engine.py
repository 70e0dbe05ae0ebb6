"""An engine in a thread that answers as a test says, and counts every sample that it takes."""

import contextlib
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.telemetry.remote_write import samples


@dataclass(frozen=True)
class Say:
    """What is answered.

    `takes`: after the samples were taken. `hangs`: nothing. `cut`: only half of the body.
    """

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: bool = False
    hangs: bool = False
    cut: bool = False


@dataclass
class FakeEngine:
    """`say` is used up first; after it `always`, and without that samples are taken."""

    url: str = ""
    say: deque[Say] = field(default_factory=deque)
    always: Say | None = None
    taken: Counter[tuple[object, int]] = field(default_factory=Counter)
    requests: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    open: list[socket.socket] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def write_url(self) -> str:
        """Where it takes samples."""
        return f"{self.url}/api/v1/write"

    def hang_up(self) -> None:
        """Close every connection; returns once that is done."""
        for connection in self.open:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        self.open.clear()

    def next(self) -> Say | None:
        """Return what to answer, None for what is right."""
        return self.say.popleft() if self.say else self.always


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for an answer; two wait for each other
    engine: FakeEngine

    def setup(self) -> None:
        self.engine.connections += 1
        self.engine.open.append(self.request)
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.engine.requests.append({k.lower(): v for k, v in self.headers.items()})
        say = self.engine.next()
        if say is not None and say.hangs:
            self.engine.released.wait(60)
            self.close_connection = True
            return
        self.engine.paths.append(self.path)
        if self.path.endswith("/query_range"):
            say = say or Say(200, b'{"status": "success", "data": {"result": []}}')
        elif say is None or say.takes:
            for labels, at_ms, _ in samples(body):
                self.engine.taken[labels, at_ms] += 1
        self._answer(say or Say())

    def _answer(self, say: Say) -> None:
        self.send_response(say.status)
        for name, value in say.headers.items():
            self.send_header(name, value)
        if say.status != 204:
            self.send_header("Content-Length", str(len(say.body)))
        self.end_headers()
        self.wfile.write(say.body[: len(say.body) // 2] if say.cut else say.body)
        self.close_connection = self.close_connection or say.cut

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away in the middle, and refuse certificates."""


@contextlib.contextmanager
def fake_engine(tls: ssl.SSLContext | None = None) -> Iterator[FakeEngine]:
    """Serve one on a free loopback port."""
    engine = FakeEngine()
    handler = type("_OfThisEngine", (_Handler,), {"engine": engine})
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        engine.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield engine
        finally:
            engine.released.set()
            server.shutdown()
            thread.join()
