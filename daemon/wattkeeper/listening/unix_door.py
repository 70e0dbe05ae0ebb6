"""A unix socket that every user of this machine may connect to, and that knows who does."""

import asyncio
import socket
from pathlib import Path

from aiohttp import web

from wattkeeper.listening.door import Door
from wattkeeper.listening.keeper import USER, Keeper
from wattkeeper.listening.peers import peer_uid

_BACKLOG = 1024


class SocketError(Exception):
    """A socket that cannot be made; says what to do."""


def open_socket(path: Path) -> socket.socket:
    """Make and listen. Blocks.

    Who connects is known, so that anybody may. One that is left from before is replaced, if nobody
    answers there any more.

    Raises:
        SocketError: the folder is not there or not writable, or somebody else listens.

    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _check_dead(path)
            path.unlink()
        made.bind(str(path))
        path.chmod(0o666)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        why = error.strerror or str(error)
        raise SocketError(
            f"{path} cannot be made ({why}); its folder has to be there and writable, as systemd's "
            "RuntimeDirectory= has it"
        ) from error
    except SocketError:
        made.close()
        raise
    return made


def _check_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(path))
        except OSError:
            return
    raise SocketError(f"{path} is somebody else's, who answers there")


class UnixDoor(Door):
    """Listens at a path for an application; a user is to it what an address is to others."""

    def __init__(self, site: web.AppRunner, path: Path, keeper: Keeper) -> None:
        super().__init__(site, "", 0, keeper)
        self._path = path

    @property
    def name(self) -> str:
        """The URL by which clients of ours reach it."""
        return f"unix:{self._path}"

    async def stop(self) -> None:
        """Listen no more, and take the socket away."""
        await super().stop()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _bind(self) -> list[socket.socket]:
        return [await asyncio.to_thread(open_socket, self._path)]

    def _enter(self, sock: socket.socket, peer: object) -> None:
        del peer  # a unix socket's is empty
        super()._enter(sock, (f"{USER}{peer_uid(sock)}",))
