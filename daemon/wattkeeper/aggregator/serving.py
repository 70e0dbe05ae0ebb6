"""Where the aggregator answers: at its address, and at the socket that knows who asks."""

import os

from aiohttp import web

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.opening import StartError
from wattkeeper.listening.door import Door
from wattkeeper.listening.keeper import Keeper
from wattkeeper.listening.unix_door import SocketError, UnixDoor
from wattkeeper.tls.server import ServerCertificates
from wattkeeper.values import host_port


async def serve(
    runner: web.AppRunner,
    settings: AggregatorSettings,
    keeper: Keeper,
    certificates: ServerCertificates | None,
) -> int:
    """Let a runner answer at the address that is set, and at the socket, if there is to be one.

    Return the port. What listens ends with the runner.

    Raises:
        StartError: one of them cannot be used.

    """
    await runner.setup()
    door = Door(runner, *host_port(settings.listen), keeper, certificates)
    try:
        await door.start()
    except OSError as error:
        raise StartError(
            f"listen: {settings.listen} cannot be used ({os.strerror(error.errno or 0)}); "
            "is an aggregator running already? Choose another with --listen"
        ) from error
    if settings.access.socket is not None:
        try:
            await UnixDoor(runner, settings.access.socket, keeper).start()
        except SocketError as error:
            raise StartError(f"access.socket: {error}") from error
    return door.port
