"""What `wattkeeper doctor` finds out about this machine."""

import asyncio
from dataclasses import dataclass

from wattkeeper.agent import place, slurm_doctor
from wattkeeper.agent.build import Node, transport
from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.place import boot_id
from wattkeeper.agent.transport import RefusedError, UnreachableError
from wattkeeper.flags import ConfigError
from wattkeeper.model.clock import SystemClock
from wattkeeper.model.meter import MeterSpec
from wattkeeper.model.reading import Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.tls.server import ServerCertificates

_READ_S = 2.0
_BETWEEN_S = 1.0


@dataclass(frozen=True, slots=True)
class MeterSeen:
    """A meter with two readings a second apart."""

    spec: MeterSpec
    first: Reading | None
    second: Reading | None

    @property
    def watts(self) -> float | None:
        """Power as it says itself, else by its counter; None if neither can be read."""
        first, second = self.first, self.second
        if second is not None and second.power_mw is not None:
            return second.power_mw / 1000
        if first is None or second is None:
            return None
        if first.energy_uj is None or second.energy_uj is None:
            return None
        advance_uj = second.energy_uj - first.energy_uj
        if advance_uj < 0:
            advance_uj += self.spec.wrap_uj or 0
        return advance_uj * 1000 / (second.boot_ns - first.boot_ns)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found, and the meters that answered."""

    findings: tuple[Finding, ...]
    meters: tuple[MeterSeen, ...]


async def diagnose(settings: AgentSettings) -> Diagnosis:
    """Look at this machine as an agent would, without touching its journal."""
    clock = SystemClock()
    node = Node(
        settings, clock, boot_id(settings.path.procfs), lambda: None, lambda _: None, peek=True
    )
    try:
        await asyncio.gather(*(source.start() for source in node.sources))
        first = await _readings(node)
        await asyncio.sleep(_BETWEEN_S)
        second = await _readings(node)
        await node.holders.look()
        findings = [finding for source in node.sources for finding in source.findings()]
        findings += node.holders.findings()
        findings += node.slurm_devices.findings()
        specs = [spec for source in node.sources for spec in source.meters()]
    finally:
        await node.holders.close()
        await asyncio.gather(*(source.close() for source in node.sources))
    findings.append(place.look(settings.data_dir, settings.path.procfs))
    findings += await slurm_doctor.findings(settings.slurm.nodename or settings.node)
    findings += await asyncio.to_thread(_certificates, settings)
    findings.append(await _delivery(settings))
    seen = [MeterSeen(s, first.get(s.info.name), second.get(s.info.name)) for s in specs]
    return Diagnosis(tuple(findings), tuple(seen))


async def _readings(node: Node) -> dict[str, Reading]:
    answers = await asyncio.gather(*(source.read(_READ_S) for source in node.sources))
    return {reading.meter: reading for answer in answers for reading in answer}


def _certificates(settings: AgentSettings) -> list[Finding]:
    """Look at what /metrics would be served with. Blocks."""
    if not settings.tls_server_config.on:
        return []
    try:
        return [ServerCertificates(settings.tls_server_config).finding()]
    except ConfigError as error:
        return [Finding("tls", State.FAILING, str(error), "the agent does not start with these")]


async def _delivery(settings: AgentSettings) -> Finding:
    """Knock at the aggregator."""
    way = transport(settings)
    if way is None:
        return Finding(
            "delivery",
            State.ABSENT,
            "aggregator.url is not set: windows are journaled and exported only",
            "set aggregator.url, or WATTKEEPER_AGENT_AGGREGATOR__URL=http://HOST:9746",
        )
    try:
        await way.knock()
    except RefusedError as refusal:
        state = State.DENIED if refusal.kind == "denied" else State.FAILING
        return Finding("delivery", state, str(refusal), "correct aggregator.url or its token")
    except UnreachableError as error:
        usual = "start the aggregator, or correct aggregator.url; windows wait in the journal"
        told = str(error).removesuffix(f"; {error.fix}")
        return Finding("delivery", State.FAILING, told, error.fix or usual)
    finally:
        await way.close()
    return Finding("delivery", State.OK, f"{settings.aggregator.url} takes deliveries")
