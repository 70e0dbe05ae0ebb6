"""A unix socket that every user of this machine may connect to."""

import asyncio
import socket
from pathlib import Path

from aiohttp import web

_BACKLOG = 128


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
        made.setblocking(False)
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


class _Site(web.SockSite):
    """Serves at a socket, and takes it away at the end."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket, path: Path) -> None:
        super().__init__(runner, listening)
        self._path = path

    async def stop(self) -> None:
        await super().stop()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)


async def serve_at(runner: web.AppRunner, path: Path) -> None:
    """Serve at a new socket until the runner is cleaned up.

    Raises:
        SocketError: as `open_socket`.

    """
    await _Site(runner, await asyncio.to_thread(open_socket, path), path).start()
