"""Where an application listens: counts who comes before anything is read or decrypted."""

import asyncio
import logging
import socket
from asyncio import sslproto
from typing import Any

from aiohttp import web

from wattkeeper.listening.connection import Connection
from wattkeeper.listening.keeper import Keeper
from wattkeeper.tls.server import ServerCertificates

_BACKLOG = 4096
_TLS_BUFFER = 16 << 10
"""Bytes that asyncio keeps for each TLS connection: a record. Its own 256 KiB are 3 GB for 10,000
agents, and no faster."""
_NO_MORE_FILES_S = 1.0
"""Pause where the system gives no descriptor for another connection."""
_TELL_S = 60.0

_log = logging.getLogger(__name__)


def runner(app: web.Application, keeper: Keeper, *, shutdown_s: float) -> web.AppRunner:
    """Return a runner of an application whose bodies arrive as they were sent.

    Left to itself aiohttp inflates what says to be compressed, before anybody asked whether it may
    be.
    """
    return web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=shutdown_s,
        keepalive_timeout=keeper.limits.idle_s,
        auto_decompress=False,
    )


class Door(web.BaseSite):
    """Listens on `host` and `port` for an application, over TLS with `certificates`.

    asyncio's own server knows a connection only after its TLS handshake, so this one accepts by
    itself.
    """

    def __init__(
        self,
        site: web.AppRunner,
        host: str,
        port: int,
        keeper: Keeper,
        certificates: ServerCertificates | None = None,
    ) -> None:
        super().__init__(site)
        self._host = host
        self._port = port
        self._keeper = keeper
        self._certificates = certificates
        self._listeners: list[socket.socket] = []
        self._loops: list[asyncio.Task[None]] = []
        self._opening: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = 0.0

    @property
    def name(self) -> str:
        """The URL by which it is reached."""
        scheme = "http" if self._certificates is None else "https"
        return f"{scheme}://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def port(self) -> int:
        """The port, also where the system chose it."""
        return int(self._listeners[0].getsockname()[1]) if self._listeners else self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be used.

        """
        await super().start()
        loop = asyncio.get_running_loop()
        if self._certificates is not None:
            sslproto.SSLProtocol.max_size = _TLS_BUFFER
        for listener in await self._bind():
            listener.setblocking(False)
            self._listeners.append(listener)
            self._loops.append(loop.create_task(self._accept(listener)))
        if self._certificates is not None:
            self._loops.append(loop.create_task(self._certificates.follow()))

    async def _bind(self) -> list[socket.socket]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return [
            socket.create_server(address[:2], family=family, backlog=_BACKLOG)
            for family, address in dict.fromkeys((info[0], info[4]) for info in found)
        ]

    async def stop(self) -> None:
        """Listen no more; what is connected stays, and what is not yet ends."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for connection in self._opening:
            connection.hang_up()
        await asyncio.gather(*self._tasks)
        await super().stop()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # it went before it was its turn
            except OSError as error:
                self._tell("no connection can be taken: %s; raise LimitNOFILE", error)
                await asyncio.sleep(_NO_MORE_FILES_S)
                continue
            self._enter(sock, peer)
            await asyncio.sleep(0)  # many may wait: others have their turn in between

    def _enter(self, sock: socket.socket, peer: Any) -> None:
        server, certificates = self._runner.server, self._certificates
        assert server is not None
        admits = _anybody if certificates is None else certificates.admits
        connection = self._keeper.enter(server, sock, peer, admits)
        if connection is None:
            sock.close()
            return
        self._opening.add(connection)
        task = asyncio.get_running_loop().create_task(self._open(sock, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, sock: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        context = None if self._certificates is None else self._certificates.context
        handshake_s = None if context is None else self._keeper.limits.header_s
        try:
            await loop.connect_accepted_socket(
                lambda: connection, sock, ssl=context, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:  # of TLS too, and of time
            self._keeper.leave(connection)
            if connection.cut_short:
                return
            self._keeper.refused["handshake"] += 1
            why = getattr(error, "reason", None) or str(error) or "the client closed it"
            self._tell("%s: no TLS connection: %s", connection.address, why)
        finally:
            self._opening.discard(connection)

    def _tell(self, message: str, *values: object) -> None:
        """Log at most once a minute: the metrics count them all."""
        now = asyncio.get_running_loop().time()
        if now >= self._told:
            self._told = now + _TELL_S
            _log.warning(message, *values)


def _anybody(_: object) -> bool:
    return True
