"""One connection on which anything is asked, and what an answer may be."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.page.serving import Served

FAULTLESS = {200, 206, 304, 400, 401, 403, 404, 405, 406, 409, 413, 415, 416, 417}
"""What an answer may be that nothing is wrong with here."""


@dataclass
class Client:
    """Asks over one connection, which is opened anew where the other side has closed it."""

    connection: http.client.HTTPConnection

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        for last in (False, True):
            try:
                self.connection.request(method, target, body, dict(headers))
                answer = self.connection.getresponse()
                return answer.status, answer.headers.get_content_type(), answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.connection.close()
                if last:
                    raise
        raise AssertionError


@contextmanager
def client(served: Served) -> Iterator[Client]:
    """Connect."""
    connection = http.client.HTTPConnection(urlsplit(served.url("small")).netloc, timeout=30)
    yield Client(connection)
    connection.close()


def check(status: int, kind: str, body: bytes, asked: object) -> None:
    """Check that an answer is one of ours."""
    assert status in FAULTLESS, (status, asked, body[:500])
    if kind == "text/plain":
        # What is no HTTP never comes as far as to us; aiohttp says so itself.
        assert status < 400 or (status == 400 and b"Invalid" in body), asked
    elif status >= 400 and kind != "text/html":
        assert kind == "application/problem+json", (status, kind, asked, body[:200])
        assert {"type", "title", "status", "detail"} <= json.loads(body).keys(), asked
