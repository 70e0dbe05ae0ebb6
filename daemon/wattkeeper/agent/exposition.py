"""`/metrics` of the agent: views of what was last read. Asking changes nothing."""

from collections import defaultdict
from collections.abc import Iterator

from wattkeeper import __version__
from wattkeeper.agent.families import FAMILIES
from wattkeeper.agent.runtime import Agent
from wattkeeper.agent.text_format import heading, sample
from wattkeeper.metering.dictionary import HOLDER
from wattkeeper.metering.sampler import Metered
from wattkeeper.model.holder import FIRST_HOLDER
from wattkeeper.model.meter import Component
from wattkeeper.model.microjoules import joules
from wattkeeper.model.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The metrics of an agent. Names and help are in `families`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def render(self) -> bytes:
        """Return the text format: every family that has a sample, in the order of the table."""
        settings = self._agent.settings
        common = {"node": settings.node}
        if settings.cluster:
            common["cluster"] = settings.cluster
        lines: dict[str, list[str]] = defaultdict(list)
        for name, labels, value in self._samples():
            lines[name].append(sample(f"wattkeeper_{name}", {**common, **labels}, value))
        text: list[str] = []
        for name, help_text in FAMILIES.items():
            if name in lines:
                text.append(heading(f"wattkeeper_{name}", help_text))
                text += lines[name]
        return "".join(text).encode()

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        agent = self._agent
        yield "agent_info", {"version": __version__}, 1
        for metered in agent.sampler.metered.values():
            yield from _of_meter(metered)
            yield from self._holders(metered)
        for gauge in agent.gauges():
            yield gauge.name, dict(gauge.labels), gauge.value
        for finding in agent.findings():
            for state in State:
                labels = {"source": finding.subject, "state": state}
                yield "source_state", labels, float(state is finding.state)
        for source, seconds in agent.read_seconds.items():
            yield "source_read_seconds", {"source": source}, seconds
        yield from self._journal()
        for reason, count in sorted(agent.refused.items()):
            yield "refused_connections_total", {"reason": reason}, count

    def _holders(self, metered: Metered) -> Iterator[tuple[str, dict[str, str], float]]:
        window = metered.book.state.last
        if window is None or not window.energy_uj:
            return
        known = self._agent.journal.dictionary.entries[HOLDER]
        # A job that was requeued is another holder of the same name: one series for both.
        held: dict[tuple[str, str], int] = defaultdict(int)
        for part in window.shares:
            holder = known.get(part.holder) if part.holder >= FIRST_HOLDER else None
            if holder is not None:
                held[holder.manager, holder.raw_id] += part.uj
        for (manager, workload), uj in held.items():
            labels = {
                **_device(metered),
                "meter": metered.spec.info.name,
                "manager": manager,
                "workload": workload,
            }
            yield "holder_ratio", labels, uj / window.energy_uj

    def _journal(self) -> Iterator[tuple[str, dict[str, str], float]]:
        agent = self._agent
        yield "journal_pending_windows", {}, agent.journal.pending
        yield "journal_oldest_pending_seconds", {}, agent.oldest_pending_s
        yield "tick_seconds", {}, agent.tick_seconds
        yield "missed_ticks_total", {}, agent.missed_ticks
        if agent.sender is not None:
            yield "delivered_records_total", {}, agent.sender.delivered_records
            yield "failed_deliveries_total", {}, agent.sender.failed_deliveries


def _device(metered: Metered) -> dict[str, str]:
    """Return the labels by which a GPU's or CPU's own series are found; a host has no other."""
    return {} if metered.spec.info.component is Component.HOST else _labels(metered)


def _of_meter(metered: Metered) -> Iterator[tuple[str, dict[str, str], float]]:
    info, reading, state = metered.spec.info, metered.reading, metered.book.state
    component, labels = info.component, _labels(metered)
    if component is Component.GPU:
        named = {k: info.labels.get(k, "") for k in _INFO_LABELS}
        yield "gpu_info", {**named, **labels, "source": info.source}, 1
    if reading is None:
        return
    family = "cpu" if component is Component.DRAM else component.value
    yield f"{family}_energy_joules_total", labels, joules(_exported_uj(metered))
    if not metered.live:
        return
    power_mw = metered.power_mw
    if component in (Component.CPU, Component.DRAM) and reading.power_mw is None:
        # A live RAPL reading is a side channel into other people's secrets; a window's is not.
        window = state.last
        spread = window.stats.power_mw if window is not None and window.stats else None
        power_mw = None if spread is None else spread.mean
    if power_mw is not None:
        yield f"{family}_power_watts", labels, power_mw / 1000
    if reading.power_limit_mw is not None:
        yield f"{family}_power_limit_watts", labels, reading.power_limit_mw / 1000
    if reading.memory_used_bytes is not None:
        yield f"{family}_memory_used_bytes", labels, reading.memory_used_bytes
    for gauge in reading.gauges:
        yield gauge.name, dict(gauge.labels), gauge.value
    if metered.counter is not None and metered.counter.crosscheck is not None:
        yield "meter_crosscheck_ratio", {"meter": info.name}, metered.counter.crosscheck


_INFO_LABELS = ("gpu", "pci_bus_id", "model", "driver", "vendor", "scope")


def _labels(metered: Metered) -> dict[str, str]:
    info = metered.spec.info
    if info.component is Component.GPU:
        return {"uuid": info.labels.get("uuid", info.name.removeprefix("gpu/"))}
    if info.component is Component.HOST:
        return {"meter": info.name.removeprefix("host/")}
    _, socket, domain = info.name.split("/")
    return {"socket": socket, "domain": domain}


def _exported_uj(metered: Metered) -> int:
    """Energy since the journal began; of CPUs only what finished windows hold."""
    state = metered.book.state
    booked_uj = state.booked_uj
    if metered.spec.info.component in (Component.CPU, Component.DRAM) and state.open is not None:
        booked_uj -= sum(entry.uj for entry in state.open.entries.values())
    return booked_uj
