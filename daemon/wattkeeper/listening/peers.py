"""Who is at the other end of a unix socket, by the kernel's word."""

import asyncio
import asyncio.trsock
import grp
import os
import pwd
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

_CREDENTIALS = struct.Struct("3i")
_KEPT_S = 60.0
_MOST_KEPT = 4096
_PATIENCE_S = 10.0
_THREADS = 2


class Peer(NamedTuple):
    """A process at the other end: its effective user and group when it connected."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Account:
    """What this machine calls a user, and the user's groups; no name where it knows none."""

    name: str = ""
    groups: frozenset[str] = frozenset()


def peer_of(transport: asyncio.BaseTransport | None) -> Peer | None:
    """Return who is at the other end, None if it is no unix socket."""
    end = None if transport is None else transport.get_extra_info("socket")
    if end is None or end.family != socket.AF_UNIX:
        return None
    return credentials(end)


def credentials(end: socket.socket | asyncio.trsock.TransportSocket) -> Peer:
    """Return who is at the other end of a unix socket."""
    told = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(told)
    return Peer(uid, gid)


class Accounts:
    """Accounts of this machine by uid. A directory service may take its time: it has threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "accounts")
        self._kept: dict[int, tuple[float, asyncio.Future[Account]]] = {}

    async def of(self, peer: Peer) -> Account:
        """Return the account of a peer; it may be a minute old.

        Raises:
            TimeoutError: the directory service does not answer.

        """
        loop = asyncio.get_running_loop()
        until_s, found = self._kept.get(peer.uid, (0.0, None))
        if found is None or time.monotonic() >= until_s:
            found = loop.run_in_executor(self._pool, look_up, peer)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[peer.uid] = (time.monotonic() + _KEPT_S, found)
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.shield(found)

    def close(self) -> None:
        """Look nobody up any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def look_up(peer: Peer) -> Account:
    """Return the account of a peer. Blocks."""
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        return Account()
    groups = set()
    for gid in os.getgrouplist(name, peer.gid):
        try:
            groups.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Account(name, frozenset(groups))
