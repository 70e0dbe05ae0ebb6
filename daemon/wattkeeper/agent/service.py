"""The agent as a service: its loops, its listeners, and a clean end."""

import asyncio
import contextlib
import errno
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from wattkeeper.agent import control
from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.http import application
from wattkeeper.agent.runtime import Agent
from wattkeeper.flags import ConfigError
from wattkeeper.listening import door
from wattkeeper.listening.connection import Limits
from wattkeeper.listening.keeper import Keeper
from wattkeeper.model.clock import NS_PER_MS, Clock
from wattkeeper.sources.base import Releasable
from wattkeeper.tls.server import ServerCertificates
from wattkeeper.values import host_port, milliseconds

log = logging.getLogger(__name__)

_LIMITS = Limits(connections=256, per_address=64, body_s=5.0, idle_s=1800.0)
"""Those who scrape are a few, keep a connection each, and may rest for long between two scrapes."""
_EDGES_S = 0.02
"""Births and deaths of cgroups come in bursts; one reading serves those this close together."""


class Service:
    """Runs an agent until `stop` is set.

    `edge` is set by whoever sees a holder come or go. `ready` is called after the first reading.
    """

    def __init__(
        self, agent: Agent, edge: asyncio.Event, ready: Callable[[], None] = lambda: None
    ) -> None:
        self._agent = agent
        self._edge = edge
        self._ready = ready
        self._sampling = asyncio.Lock()
        self._checkpoints = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Listen, sample and deliver; on `stop` commit what is open and close everything.

        Raises:
            ConfigError: an address is taken.

        """
        agent = self._agent
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(agent.close)
            await agent.start()
            await stack.enter_async_context(listening(agent))
            server = await control.serve(agent.settings.data_dir, self._order)
            stack.callback(_forget, server, agent.settings.data_dir / control.SOCKET)
            loops = [
                asyncio.create_task(self._sample_loop(), name="sample"),
                asyncio.create_task(self._edge_loop(), name="edges"),
                asyncio.create_task(self._deliver_loop(), name="deliver"),
            ]
            stack.push_async_callback(_cancel, loops)
            stopping = asyncio.create_task(stop.wait(), name="stop")
            done, _ = await asyncio.wait([*loops, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            for task in done - {stopping}:
                task.result()

    async def sample(self, *, checkpoint: bool = False) -> None:
        """Read every counter now.

        A checkpoint that another has begun and ended meanwhile is not made again: marks may come
        faster than a hanging driver lets them be served one by one.
        """
        asked = self._checkpoints
        async with self._sampling:
            if checkpoint:
                if self._checkpoints > asked:
                    return
                self._checkpoints += 1
            await self._agent.tick(checkpoint=checkpoint)

    async def _sample_loop(self) -> None:
        clock, interval = self._agent.clock, self._agent.settings.sample_interval
        await self.sample()
        self._ready()
        while True:
            due_ns = next_grid_line(clock, interval)
            await clock.sleep_until(due_ns)
            await self.sample()
            behind = (clock.boot_ns() - due_ns) // (milliseconds(interval) * NS_PER_MS)
            self._agent.missed_ticks += behind

    async def _edge_loop(self) -> None:
        while True:
            await self._edge.wait()
            self._edge.clear()
            await self.sample(checkpoint=True)
            await asyncio.sleep(_EDGES_S)

    async def _deliver_loop(self) -> None:
        agent = self._agent
        if agent.sender is None:
            await asyncio.Event().wait()
            return
        window = agent.settings.window
        # Spread the fleet over the window, each node always at its own point of it.
        digest = hashlib.blake2b(agent.settings.node.encode(), digest_size=4).digest()
        phase = window * (int.from_bytes(digest) / 2**32 * 0.8)
        while True:
            while await agent.deliver_once():
                pass
            if agent.sender.failing:
                await asyncio.sleep(agent.sender.pause_s())
            else:
                due_ns = next_grid_line(agent.clock, window)
                await agent.clock.sleep_until(due_ns)
                await asyncio.sleep(phase.total_seconds())

    async def _order(self, order: control.Order) -> dict[str, Any]:
        if order.op == "mark":
            await self.sample(checkpoint=True)
            return {"ok": True}
        if order.op == "release":
            return await self._release(order)
        return {"ok": False, "error": f"op: {order.op!r} is unknown; use mark or release"}

    async def _release(self, order: control.Order) -> dict[str, Any]:
        if not 0 < order.for_s <= 86_400:
            return {"ok": False, "error": "--for: choose between 1s and 1d"}
        known = {spec.info.name for spec in self._agent.specs()}
        if order.meter is not None and order.meter not in known:
            gpu = order.meter.removeprefix("gpu/")
            return {"ok": False, "error": f"--gpu: {gpu} is not metered here; ask `doctor`"}
        await self.sample(checkpoint=True)
        released: list[str] = []
        for source in self._agent.sources:
            own = {spec.info.name for spec in source.meters()}
            if isinstance(source, Releasable) and (order.meter is None or order.meter in own):
                released += await source.release(order.meter, order.for_s)
        return {"ok": True, "released": released}


def next_grid_line(clock: Clock, step: timedelta) -> int:
    """Return the boot instant of the next multiple of `step` in UTC: the grid never drifts."""
    step_ns = milliseconds(step) * NS_PER_MS
    wall_ns = clock.wall_ns()
    return clock.boot_ns() + step_ns - wall_ns % step_ns


@contextlib.asynccontextmanager
async def listening(agent: Agent) -> AsyncIterator[str]:
    """Answer Prometheus on `listen` of the agent's settings; give the URL.

    Raises:
        ConfigError: the address is taken, or not this machine's; certificates cannot be used.

    """
    settings: AgentSettings = agent.settings
    if settings.tls_server_config.on:
        agent.certificates = await asyncio.to_thread(ServerCertificates, settings.tls_server_config)
    keeper = Keeper(_LIMITS, agent.refused)
    runner = door.runner(application(agent, [keeper.hurry]), keeper, shutdown_s=1.0)
    await runner.setup()
    listener = door.Door(runner, *host_port(settings.listen), keeper, agent.certificates)
    try:
        await listener.start()
    except OSError as error:
        await runner.cleanup()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"listen: {settings.listen} is in use; stop the other program (is an agent "
                "running already?) or choose another port"
            ) from error
        raise ConfigError(f"listen: cannot listen on {settings.listen}: {error}") from error
    log.info("listening on %s/metrics", listener.name)
    try:
        yield listener.name
    finally:
        await runner.cleanup()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _forget(server: asyncio.AbstractServer, path: Path) -> None:
    server.close()
    path.unlink(missing_ok=True)
