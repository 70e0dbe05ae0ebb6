"""One connection, between its transport and aiohttp's handler: who dawdles is cut off.

aiohttp limits how long a connection may rest between requests, and nothing of a request itself.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from wattkeeper.listening.deadlines import Deadlines


@dataclass(frozen=True, slots=True)
class Limits:
    """What a listener bears: connections in all, of an address, of a user of this machine; seconds.

    `header_s`: from a request's first byte, or the connection's begin, to its whole header, and for
    the TLS handshake; `body_s`: from there to its whole body; `answer_s`: in which a client has to
    take some of its answer; `idle_s`: of silence between two requests.
    """

    connections: int
    per_address: int
    header_s: float = 10.0
    body_s: float = 60.0
    answer_s: float = 60.0
    idle_s: float = 400.0
    per_user: int = 256


class SlowBodyError(TimeoutError):
    """A body that did not arrive in time."""


class Connection(asyncio.Protocol):
    """Passes everything on to `inner`, and ends the connection when one of its `times` is up.

    `refused` is told why it ended it, `closed` that it is gone, `admits` what the transport says of
    a client's certificate.
    """

    def __init__(
        self,
        inner: web.RequestHandler,
        sock: socket.socket,
        address: str,
        times: "Times",
        *,
        admits: Callable[[Any], bool],
        refused: Callable[[str], None],
        closed: Callable[["Connection"], None],
    ) -> None:
        self.inner = inner
        self.address = address
        self._sock = sock
        self.cut_short = False
        self._times = times
        self._admits = admits
        self._refused = refused
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._answering = False
        self._request: web.Request | None = None

    def cut(self, why: str) -> None:
        """End it now, for a reason that is counted."""
        self._refused(why)
        self.hang_up()

    def hang_up(self) -> None:
        """End it now, also in its TLS handshake."""
        self.cut_short = True
        if self._transport is not None:
            self._transport.abort()
            return
        # Not by a cancelled task: asyncio leaks the socket of a handshake that is not begun yet.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def header_came(self, request: web.Request) -> None:
        """Note that a request's header is complete."""
        self._answering = True
        self._times.header.end(self)
        if request.body_exists:
            self._request = request
            self._times.body.begin(self)
            request.content.on_eof(self._body_came)

    def answered(self) -> None:
        """Note that a request has its answer: from the next byte on another one begins."""
        self._answering = False
        self._body_came()

    def body_is_late(self) -> None:
        """Let whoever reads the body see that it did not come in time."""
        if self._request is not None:
            self._refused("body")
            self._request.content.set_exception(SlowBodyError("the body did not come in time"))

    def _body_came(self) -> None:
        self._request = None
        self._times.body.end(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.inner.connection_made(transport)
        if not self._admits(transport.get_extra_info("peercert")):
            self.cut("certificate")
            return
        self._times.header.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        for deadlines in (self._times.header, self._times.body, self._times.answer):
            deadlines.end(self)
        self._closed(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if not self._answering and self not in self._times.header:
            self._times.header.begin(self)
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Take the end of what the client sends."""
        self.inner.eof_received()
        return None

    def pause_writing(self) -> None:
        """Begin to wait until the client takes some of its answer."""
        self._times.answer.begin(self)
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Note that it did."""
        self._times.answer.end(self)
        self.inner.resume_writing()


class Times:
    """What runs out for a listener's connections."""

    def __init__(self, limits: Limits) -> None:
        self.header = Deadlines[Connection](limits.header_s, lambda one: one.cut("header"))
        self.body = Deadlines[Connection](limits.body_s, Connection.body_is_late)
        self.answer = Deadlines[Connection](limits.answer_s, lambda one: one.cut("answer"))
