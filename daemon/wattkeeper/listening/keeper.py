"""Keeps the book of a listener's connections: how many, whose, and which have asked nothing yet."""

import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from wattkeeper.listening.connection import Connection, Limits, Times

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


USER = "uid "
"""What the address of a user of this machine begins with, who asks through a unix socket."""


class Keeper:
    """One book for an application, however many addresses it listens on.

    Where there is no room, the connection that has asked nothing for longest makes some: whoever
    opens many to keep others out keeps himself out. `refused` counts by reason what was not served.
    """

    def __init__(self, limits: Limits, refused: Counter[str]) -> None:
        self.limits = limits
        self.refused = refused
        self._times = Times(limits)
        self._by_address: Counter[str] = Counter()
        self._all: dict[Connection, None] = {}
        self._silent: dict[Connection, None] = {}
        self._by_handler: dict[object, Connection] = {}

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._all)

    def enter(
        self,
        make: Callable[[], web.RequestHandler],
        sock: socket.socket,
        peer: Any,
        admits: Callable[[Any], bool],
    ) -> Connection | None:
        """Return a new connection from `peer` (as a socket tells it); None where it is refused.

        `make` gives it a handler, `admits` judges its client's certificate.
        """
        address = address_of(peer)
        most = self.limits.per_user if address.startswith(USER) else self.limits.per_address
        crowd = self._by_address[address] >= most
        if (crowd or len(self._all) >= self.limits.connections) and not self._make_room(
            address if crowd else None
        ):
            self.refused["address" if crowd else "full"] += 1
            return None
        inner = make()
        connection = Connection(
            inner,
            sock,
            address,
            self._times,
            admits=admits,
            refused=self._refuse,
            closed=self.leave,
        )
        self._all[connection] = self._silent[connection] = None
        self._by_address[address] += 1
        self._by_handler[inner] = connection
        return connection

    def leave(self, connection: Connection) -> None:
        """Strike a connection out, if it is not yet."""
        if connection not in self._all:
            return
        del self._all[connection]
        self._silent.pop(connection, None)
        del self._by_handler[connection.inner]
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    @web.middleware
    async def hurry(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give a request's body its time. It has to be the outermost middleware."""
        connection = self._by_handler.get(request.protocol)
        if connection is not None:
            self._silent.pop(connection, None)
            connection.header_came(request)
        try:
            return await handler(request)
        finally:
            if connection is not None:
                connection.answered()

    def _make_room(self, address: str | None) -> bool:
        """End the connection that has been silent for longest, of an address or of all."""
        of_it = (one for one in self._silent if address is None or one.address == address)
        found = next(of_it, None)
        if found is None:
            return False
        self.leave(found)
        found.cut("full" if address is None else "address")
        return True

    def _refuse(self, why: str) -> None:
        self.refused[why] += 1


def address_of(peer: Any) -> str:
    """Return whose a connection is: an IPv4 address, or the network of an IPv6 one (/64)."""
    host = str(peer[0]).partition("%")[0] if isinstance(peer, tuple) and peer else ""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))
