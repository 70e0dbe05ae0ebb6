"""`wattkeeper up`."""

import asyncio
import contextlib
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import Field

from wattkeeper.agent.config import AgentSettings
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.cli.agent import Agent
from wattkeeper.cli.command import PROGRAM, Command, CommandError
from wattkeeper.settings import load
from wattkeeper.values import host_port

_NO_METER = f"""\
No power meter is seen on this machine: no NVIDIA driver, no RAPL, no Grace
or host sensor (`{PROGRAM} doctor` says why, and what to do).
Instead you see a SIMULATED fleet for a moment: the real agents and the real
aggregator on devices that are computed, with books of their own.
"""
_DEMO = timedelta(minutes=20)
"""Simulated time; at the demo's speed, 20 seconds."""


class Up(Command):
    """Start an agent and an aggregator on this machine, and let them work together.

    Both take their configuration from their files and environment variables. On a machine
    without any power meter the simulated fleet of `wattkeeper demo` runs instead.

    Examples:
      wattkeeper up
      wattkeeper up --data-dir /srv/wattkeeper
    """

    data_dir: Path | None = Field(None, description="parent folder of the books of both")

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM."""
        from wattkeeper.aggregator.opening import StartError
        from wattkeeper.supervised.daemon import Daemon, run_until_signal
        from wattkeeper.supervised.journal import set_up

        agent, aggregator = self._settings()
        if not asyncio.run(_has_meter(agent)):
            return self._demo()
        set_up(agent.log_level)

        async def serve(daemon: Daemon) -> None:
            await _serve(agent, aggregator, daemon.stop)

        try:
            run_until_signal(serve)
        except StartError as error:
            raise CommandError(str(error)) from error
        return 0

    def _settings(self) -> tuple[AgentSettings, AggregatorSettings]:
        parent = self.data_dir
        folders: list[dict[str, Any]] = [
            {} if parent is None else {"data_dir": parent / name}
            for name in ("agent", "aggregator")
        ]
        aggregator = load(AggregatorSettings, program="aggregator", overrides=folders[1])
        token = aggregator.token.get_secret_value() if aggregator.token else None
        delivery = {"url": _near(aggregator)} | ({"token": token} if token else {})
        agent = load(
            AgentSettings, program="agent", overrides=folders[0] | {"aggregator": delivery}
        )
        return agent, aggregator

    def _demo(self) -> int:
        from wattkeeper.cli.demo import Demo

        print(_NO_METER, flush=True)
        folder: dict[str, Any] = (
            {} if self.data_dir is None else {"data_dir": self.data_dir / "demo"}
        )
        return Demo(duration=_DEMO, **folder).run()


def _near(aggregator: AggregatorSettings) -> str:
    """Return the URL by which this machine reaches the aggregator."""
    host, port = host_port(aggregator.listen)
    with contextlib.suppress(ValueError):  # a name, not an address
        if ip_address(host).is_unspecified:
            host = "127.0.0.1"
    scheme = "https" if aggregator.tls_server_config.on else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _has_meter(settings: AgentSettings) -> bool:
    from wattkeeper.agent.build import Node
    from wattkeeper.agent.place import boot_id
    from wattkeeper.model.clock import SystemClock

    boot = boot_id(settings.path.procfs)
    node = Node(settings, SystemClock(), boot, lambda: None, lambda _: None, peek=True)
    try:
        await asyncio.gather(*(source.start() for source in node.sources))
        return any(source.meters() for source in node.sources)
    finally:
        await node.holders.close()
        await asyncio.gather(*(source.close() for source in node.sources))


async def _serve(agent: AgentSettings, aggregator: AggregatorSettings, stop: asyncio.Event) -> None:
    """Run both; the agent ends first, so that its last windows are still taken."""
    from wattkeeper.aggregator.runtime import Aggregator
    from wattkeeper.aggregator.schedulers import schedulers

    centre = Aggregator(aggregator, schedulers(aggregator))
    await centre.start()
    print(f"The page: {centre.url}/   Agent: {agent.listen}/metrics   (Ctrl-C ends both)")
    try:
        await Agent(agent).serve(stop)
    finally:
        await centre.stop()
