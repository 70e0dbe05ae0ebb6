"""The agent's control socket: root only, one JSON object per line, one answer each.

`{"op": "mark"}` reads every counter now and applies the marks in the spool;
`{"op": "release", "meter": "gpu/GPU-…" or null, "for_s": 600}` lets go of a driver.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger(__name__)

SOCKET = "control.sock"
_LINE = 4096

Handler = Callable[["Order"], Awaitable[dict[str, Any]]]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked for."""

    op: str
    meter: str | None = None
    for_s: float = 0.0


async def serve(data_dir: Path, handle: Handler) -> asyncio.AbstractServer:
    """Listen on `data_dir`/control.sock, readable and writable by this user only."""
    path = data_dir / SOCKET
    path.unlink(missing_ok=True)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), timeout=5)
            writer.write(msgspec.json.encode(await _answer(line, handle)) + b"\n")
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError) as error:
            log.debug("control: %s", error)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, path, limit=_LINE)
    path.chmod(0o600)
    return server


async def _answer(line: bytes, handle: Handler) -> dict[str, Any]:
    try:
        order = msgspec.json.decode(line, type=Order)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return {"ok": False, "error": f"not an order: {error}"}
    return await handle(order)


async def ask(data_dir: Path, order: Order, timeout_s: float) -> dict[str, Any]:
    """Give an order to the agent of `data_dir` and return its answer.

    Raises:
        OSError: no agent listens there, or it may not be asked by this user.
        TimeoutError: it did not answer in time.

    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(data_dir / SOCKET)
        try:
            writer.write(msgspec.json.encode(order) + b"\n")
            answer: dict[str, Any] = msgspec.json.decode(await reader.readline())
        finally:
            writer.close()
    return answer
