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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a listener bears: connections in all and of one address, and seconds.

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


class Connection(asyncio.Protocol):
    """Passes everything on to `inner`, and ends the connection when a time is up.

    `refused` is told why it ended it, `closed` that it is gone, `admits` what the transport says of
    a client's certificate.
    """

    def __init__(
        self,
        inner: web.RequestHandler,
        sock: socket.socket,
        address: str,
        limits: Limits,
        *,
        admits: Callable[[Any], bool],
        refused: Callable[[str], None],
        closed: Callable[["Connection"], None],
    ) -> None:
        self.inner = inner
        self.address = address
        self._sock = sock
        self.cut_short = False
        self._limits = limits
        self._admits = admits
        self._refused = refused
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answering = False
        self._header: asyncio.TimerHandle | None = None
        self._answer: asyncio.TimerHandle | None = None

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

    def header_came(self) -> None:
        """Note that a request's header is complete."""
        self._answering = True
        _stop(self._header)
        self._header = None

    def answered(self) -> None:
        """Note that a request has its answer: from the next byte on another one begins."""
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.inner.connection_made(transport)
        if not self._admits(transport.get_extra_info("peercert")):
            self.cut("certificate")
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        _stop(self._header)
        _stop(self._answer)
        self._closed(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if not self._answering and self._header is None:
            self._await_header()
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Take the end of what the client sends."""
        self.inner.eof_received()
        return None

    def pause_writing(self) -> None:
        """Begin to wait until the client takes some of its answer."""
        self._answer = self._loop.call_later(self._limits.answer_s, self.cut, "answer")
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Note that it did."""
        _stop(self._answer)
        self.inner.resume_writing()

    def _await_header(self) -> None:
        self._header = self._loop.call_later(self._limits.header_s, self.cut, "header")


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
