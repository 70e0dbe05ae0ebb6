"""A node whose every fault is on a schedule, and what must hold of the records it leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.metering.book import BookState, Ruling
from wattkeeper.metering.counter import Break, Identity
from wattkeeper.metering.dictionary import EPOCH, METER, Dictionary
from wattkeeper.metering.sampler import Sampler
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method
from wattkeeper.model.reading import Reading
from wattkeeper.model.window import (
    ClockStep,
    Point,
    Policy,
    Record,
    Tombstone,
    Unmeasured,
    Window,
)

SLOT_MS = 300_000
WALL_NS = 1_790_000_000_000_000_000
GPU = "gpu/GPU-0001"


def gpu(load: str = "A", wrap_uj: int | None = None, limit_mw: int | None = 700_000) -> MeterSpec:
    """Return a GPU's meter."""
    info = MeterInfo(GPU, Component.GPU, "simulated", {"uuid": "GPU-0001"})
    return MeterSpec(info, Method.COUNTER, wrap_uj, limit_mw, load)


def job(number: int, birth_ms: int = 0) -> HolderKey:
    """Return a holder."""
    return HolderKey("slurm", str(number), birth_ms)


def on_gpu(*holders: HolderKey) -> dict[str, list[Claim]]:
    """Return claims on the one GPU."""
    return {GPU: [Claim(holder) for holder in holders]}


@dataclass
class Node:
    """One GPU, its true energy, its hardware counter, two clocks and a sampler to be restarted."""

    spec: MeterSpec = field(default_factory=gpu)
    boot: str = "boot-0"
    boot_ns: int = 10**12
    wall_ns: int = WALL_NS
    raw_uj: int = 5_000_000
    power_mw: int = 300_000
    true_uj: int = 0
    use_ppm: int | None = None
    claims: dict[str, list[Claim]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    dictionary: Dictionary = field(default_factory=Dictionary)
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        self._boots = 0
        self._start({})

    def _start(self, states: dict[str, BookState], policy: Policy = Policy.IDLE) -> None:
        self.sampler = Sampler(
            Ruling(10_000, SLOT_MS, 8, policy),
            self.dictionary,
            Identity(self.boot, "nonce"),
            states,
            max_gap_ns=10 * 10**9,
            log=lambda _, step: self.breaks.append(step),
        )

    def pass_time(self, ms: int, *, counting: bool = True) -> None:
        """Let time go by; a counter that does not count has lost this energy for good."""
        self.boot_ns += ms * 10**6
        self.wall_ns += ms * 10**6
        uj = self.power_mw * ms
        self.true_uj += uj
        if counting:
            self.raw_uj += uj
            if self.spec.wrap_uj is not None:
                self.raw_uj %= self.spec.wrap_uj

    def tick(
        self,
        *,
        energy: bool = True,
        power: bool = True,
        answer: bool = True,
        off_uj: int = 0,
        use_ppm: int | None = None,
    ) -> None:
        """Read once; leave out what does not answer."""
        reading = Reading(
            self.spec.info.name,
            self.boot_ns,
            energy_uj=self.raw_uj + off_uj if energy else None,
            power_mw=self.power_mw if power else None,
            utilization_ppm=self.use_ppm if use_ppm is None else use_ppm,
        )
        self.sampler.step(
            [self.spec], [reading] if answer else [], self.claims, self.boot_ns, self.wall_ns
        )
        self.records += self.sampler.take()

    def run(self, seconds: int, **how: bool) -> None:
        """Read once a second."""
        for _ in range(seconds):
            self.pass_time(1000)
            self.tick(**how)

    def restart(self, policy: Policy = Policy.IDLE) -> None:
        """Kill the agent and start it again from the encoded state."""
        encoded = msgspec.msgpack.encode(self.sampler.states())
        self._start(msgspec.msgpack.decode(encoded, type=dict[str, BookState]), policy)

    def reboot(self, down_ms: int) -> None:
        """Boot the machine: another boot id, clocks from zero, the counter as well."""
        self._boots += 1
        self.boot = f"boot-{self._boots}"
        self.wall_ns += down_ms * 10**6
        self.boot_ns = 5 * 10**9
        self.raw_uj = 0
        self.restart()

    def finish(self) -> None:
        """Close the open window as a new epoch would."""
        for metered in self.sampler.metered.values():
            metered.book.step_clock(metered.book.offset_ms)
        self.records += self.sampler.take()

    @property
    def windows(self) -> list[Window]:
        """Every window so far."""
        return [record for record in self.records if isinstance(record, Window)]

    def booked(self) -> dict[str, int]:
        """Microjoules by raw id of the holder, or number of the account."""
        sums: dict[str, int] = {}
        holders = self.dictionary.entries["holder"]
        for window in self.windows:
            for part in window.shares:
                name = holders[part.holder].raw_id if part.holder >= 16 else f"@{part.holder}"
                sums[name] = sums.get(name, 0) + part.uj
        return sums


def own(records: Iterable[Record], dictionary: Dictionary) -> dict[str, list[Record]]:
    """Return the records by the name of their meter, in their order."""
    by_name: dict[str, list[Record]] = {}
    for record in records:
        if not isinstance(record, ClockStep):
            name = dictionary.entries[METER][record.meter].name
            by_name.setdefault(name, []).append(record)
    return by_name


def check(records: Sequence[Record], dictionary: Dictionary) -> None:
    """Assert everything that the ledger's balance per slot stands on."""
    for window in records:
        if isinstance(window, Window):
            assert window.flaw() is None, window
    for mine in own(records, dictionary).values():
        _check_meter(mine)
    assert len(set(dictionary.entries[EPOCH].values())) == len(dictionary.entries[EPOCH])


def _check_meter(records: Sequence[Record]) -> None:
    point: Point | None = None
    between: list[Window] = []
    ended: set[int] = set()
    count = 0
    for record in records:
        if isinstance(record, Window):
            assert point is not None, "a window before any point"
            assert record.epoch == point.epoch, "a window before its epoch's point"
            assert count == record.first_uj, (count, record)
            count = record.last_uj
            between.append(record)
        elif isinstance(record, Point):
            if point is not None and point.epoch == record.epoch:
                assert count == record.value_uj, (count, record)
                check_stretch(point, between, record)
            else:
                assert not between, "the old epoch was not closed by a point"
                assert record.epoch not in ended, "an epoch came back"
                if point is not None:
                    ended.add(point.epoch)
            point, between, count = record, [], record.value_uj
        else:
            assert isinstance(record, Unmeasured | Tombstone)
            assert not between, "unmeasured time in the middle of a stretch"


def check_stretch(first: Point, between: Sequence[Window], last: Point) -> None:
    """Assert that a stretch between two points lies in one slot, or is one window."""
    if not between:
        assert first.value_uj == last.value_uj
        return
    if len(between) == 1:
        (window,) = between
        if (window.start_ms, window.end_ms) == (first.at_ms, last.at_ms):
            return
    line = first.at_ms // SLOT_MS * SLOT_MS
    edges = [edge for w in between for edge in (w.start_ms, w.end_ms)] + [last.at_ms]
    assert all(line <= edge <= line + SLOT_MS for edge in edges), (first, between, last)
    assert first.at_ms <= between[0].start_ms
    assert between[-1].end_ms <= last.at_ms
