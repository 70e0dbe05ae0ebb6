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

_CREDENTIALS = struct.Struct("iII")
_KEPT_S = 60.0
_MOST_KEPT = 4096
_PATIENCE_S = 10.0
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Account:
    """What this machine calls a user, and the user's groups; no name where it knows none."""

    name: str = ""
    groups: frozenset[str] = frozenset()


def uid_of(transport: asyncio.BaseTransport | None) -> int | None:
    """Return who is at the other end, None if it is no unix socket."""
    end = None if transport is None else transport.get_extra_info("socket")
    if end is None or end.family != socket.AF_UNIX:
        return None
    return peer_uid(end)


def peer_uid(end: socket.socket | asyncio.trsock.TransportSocket) -> int:
    """Return the effective user of who is at the other end of a unix socket, when it connected."""
    told = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid


class Accounts:
    """Accounts of this machine by uid. A directory service may take its time: it has threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "accounts")
        self._kept: dict[int, tuple[float, asyncio.Future[Account]]] = {}

    async def of(self, uid: int) -> Account:
        """Return a user's account; it may be a minute old.

        Raises:
            TimeoutError: the directory service does not answer.

        """
        loop = asyncio.get_running_loop()
        until_s, found = self._kept.get(uid, (0.0, None))
        if found is None or time.monotonic() >= until_s:
            found = loop.run_in_executor(self._pool, look_up, uid)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[uid] = (time.monotonic() + _KEPT_S, found)
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.shield(found)

    def close(self) -> None:
        """Look nobody up any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def look_up(uid: int) -> Account:
    """Return a user's account. Blocks.

    Groups are those of the directory, not of the process: it may be one that changes its group.
    """
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return Account()
    groups = set()
    for gid in os.getgrouplist(found.pw_name, found.pw_gid):
        try:
            groups.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Account(found.pw_name, frozenset(groups))
