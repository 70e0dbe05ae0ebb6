"""The sampler: readings and claims go in at each tick and mark, records of all books come out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from wattkeeper.holders.base import Claim, HolderEdge
from wattkeeper.metering.book import Book, BookState, Claims, Ruling
from wattkeeper.metering.changes import changes
from wattkeeper.metering.counter import Advance, Break, Counter, Identity, begin
from wattkeeper.metering.dictionary import Dictionary
from wattkeeper.model.clock import NS_PER_MS
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component, MeterSpec
from wattkeeper.model.reading import Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.model.window import ClockStep, Record

CPU_CLAIMS = "cpu/*"
"""Key of the claims by CPU time that stand for every CPU and memory meter of the node.

Those under `cpu/<socket>/*` go before them, for the meters of that socket.
"""

_CLOCK_STEP_MS = 500


@dataclass(slots=True)
class Metered:
    """One meter as it stands: its book, its count, what it last said and last drew.

    `live`: it answered at the last step; else what it said is old and not to be shown.
    """

    spec: MeterSpec
    book: Book
    counter: Counter | None = None
    reading: Reading | None = None
    power_mw: int | None = None
    live: bool = False


class Sampler:
    """All books of a node.

    `states` are the books that the journal remembers, by meter name. `identity` names this boot
    and journal. `log` is told of each broken count, once. `changed_hands` tells whether a meter
    got or lost a holder since a boot instant, also while nobody sampled.
    """

    def __init__(
        self,
        ruling: Ruling,
        dictionary: Dictionary,
        identity: Identity,
        states: Mapping[str, BookState],
        max_gap_ns: int,
        log: Callable[[str, Break], None],
        changed_hands: Callable[[str, int], bool] = lambda _meter, _since_ns: False,
    ) -> None:
        self.metered: dict[str, Metered] = {}
        self._ruling = ruling
        self._dictionary = dictionary
        self._identity = identity
        self._remembered = dict(states)
        self._max_gap_ns = max_gap_ns
        self._log = log
        self._changed_hands = changed_hands
        self._offset_ms = _last_offset(states.values(), identity)
        self._out: list[Record] = []

    def step(
        self,
        specs: Iterable[MeterSpec],
        readings: Sequence[Reading],
        claims: Mapping[str, Sequence[Claim]],
        boot_ns: int,
        wall_ns: int,
        edges: Sequence[HolderEdge] = (),
    ) -> None:
        """Book what the readings tell.

        `claims` say who holds what from now on, and what each did since the last step; `edges`
        when holders really came and went since then. Component meters come before host meters,
        whose overhead is what is left.
        """
        self._keep_time(boot_ns, wall_ns)
        self._tell_rest()
        known = {spec.info.name: spec for spec in specs}
        readings = sorted(readings, key=lambda r: _is_host(known.get(r.meter)))
        instants = {reading.meter: reading.boot_ns for reading in readings}
        for name, metered in self.metered.items():
            here = [edge for edge in edges if name in edge.meters]
            if here and metered.reading is not None:
                self._change_hands(metered, here, claims)
        for reading in readings:
            spec = known.get(reading.meter)
            if spec is not None:
                self._read(self._meter(spec), reading, claims)
        for name, metered in self.metered.items():
            metered.live = name in instants
            if metered.reading is not None:
                self._note_holders(metered, claims, instants.get(name, boot_ns))

    def take(self) -> list[Record]:
        """Return the records that are done since the last call, in the order of their meters."""
        records, self._out = self._out, []
        for metered in self.metered.values():
            records += metered.book.out
            metered.book.out = []
        return records

    def states(self) -> dict[str, BookState]:
        """Return the state of every book, to be committed with the records."""
        return self._remembered | {
            name: metered.book.state for name, metered in self.metered.items()
        }

    def findings(self) -> list[Finding]:
        """Return the meters whose counters are not believed at the moment."""
        return [
            Finding(name, State.QUARANTINED, f"counter {metered.counter.state.quarantine}")
            for name, metered in self.metered.items()
            if metered.counter is not None and metered.counter.state.quarantine
        ]

    def _tell_rest(self) -> None:
        """Tell the books of meters of one kind how little any of them was seen to draw."""
        least: dict[tuple[str, ...], int] = {}
        for metered in self.metered.values():
            kind, rest_mw = _kind(metered.spec), metered.book.state.rest_mw
            if kind and rest_mw is not None:
                least[kind] = min(rest_mw, least.get(kind, rest_mw))
        for metered in self.metered.values():
            metered.book.kind_rest_mw = least.get(_kind(metered.spec))

    def _keep_time(self, boot_ns: int, wall_ns: int) -> None:
        offset_ms = (wall_ns - boot_ns) // NS_PER_MS
        step_ms = 0 if self._offset_ms is None else offset_ms - self._offset_ms
        self._offset_ms = offset_ms
        if abs(step_ms) < _CLOCK_STEP_MS:
            for metered in self.metered.values():
                metered.book.offset_ms = offset_ms
            return
        self._out.append(ClockStep(wall_ns // NS_PER_MS, boot_ns // NS_PER_MS, step_ms))
        for metered in self.metered.values():
            metered.book.step_clock(offset_ms)

    def _meter(self, spec: MeterSpec) -> Metered:
        metered = self.metered.get(spec.info.name)
        if metered is None:
            metered = self.metered[spec.info.name] = self._remember(spec)
        elif metered.spec.info != spec.info:
            metered.book.state.number = self._dictionary.meter(spec.info)
        metered.spec, metered.book.limit_mw = spec, spec.limit_mw
        return metered

    def _remember(self, spec: MeterSpec) -> Metered:
        name = spec.info.name
        number = self._dictionary.meter(spec.info)
        state = self._remembered.pop(name, None) or BookState(number)
        state.number = number
        assert self._offset_ms is not None, "time is kept before meters are read"
        book = Book(
            spec.info.component, self._ruling, self._dictionary, state, offset_ms=self._offset_ms
        )
        counter = None
        if state.counter is not None:
            same_boot = state.counter.epoch.boot == self._identity.boot
            if not same_boot:
                state.since_ns = 0
            if same_boot and abs(state.offset_ms - self._offset_ms) >= _CLOCK_STEP_MS:
                book.offset_ms = state.offset_ms
                book.step_clock(self._offset_ms)
            counter = Counter(state.counter, self._identity, self._max_gap_ns)
            book.timeline = [(0, state.claims)]
        return Metered(spec, book, counter)

    def _read(
        self, metered: Metered, reading: Reading, claims: Mapping[str, Sequence[Claim]]
    ) -> None:
        book, first = metered.book, metered.reading is None
        metered.reading = reading
        if metered.counter is None:
            self._begin(metered, reading)
            return
        self._settle_holders(metered, claims, resumed=first)
        for step in metered.counter.advance(reading, metered.spec):
            if isinstance(step, Break):
                book.begin_epoch(step, self._label(step.at_ns))
                self._log(metered.spec.info.name, step)
            else:
                self._advance(metered, step, reading)
        book.state.counter = metered.counter.state

    def _begin(self, metered: Metered, reading: Reading) -> None:
        state = begin(reading, metered.spec, self._identity)
        if state is None:
            return
        metered.counter = Counter(state, self._identity, self._max_gap_ns)
        start = Break(
            state.boot_ns, state.boot_ns, state.epoch, state.method, state.total_uj, "first seen"
        )
        metered.book.begin_epoch(start, self._label(state.boot_ns))
        metered.book.state.counter = state
        metered.power_mw = reading.power_mw

    def _advance(self, metered: Metered, step: Advance, reading: Reading) -> None:
        elapsed_ns = step.to_ns - step.from_ns
        metered.power_mw = reading.power_mw
        if reading.power_mw is None:
            metered.power_mw = step.uj * NS_PER_MS // elapsed_ns
        metered.book.advance(step, self._label(step.to_ns), reading)
        timeline = metered.book.timeline
        booked = sum(at <= step.to_ns for at, _ in timeline)
        metered.book.timeline = timeline[max(0, booked - 1) :]
        if not _is_host(metered.spec):
            for other in self.metered.values():
                if _is_host(other.spec):
                    other.book.state.owed_uj += step.uj

    def _settle_holders(
        self, metered: Metered, claims: Mapping[str, Sequence[Claim]], *, resumed: bool
    ) -> None:
        """Decide who held the meter since the last reading, where that is known only now."""
        book, now = metered.book, _claims_on(metered.spec, claims)
        if resumed:
            assert metered.counter is not None, "only a counted meter has holders to settle"
            state = book.state
            same = _holders(state.claims) == _holders(now) and not self._changed_hands(
                metered.spec.info.name, metered.counter.state.boot_ns
            )
            book.timeline = [(0, None), *([(state.since_ns, state.claims)] if same else ())]
        elif _by_cpu_time(metered.spec) and None not in (known for _, known in book.timeline):
            book.timeline = [(0, now)]
        elif book.timeline and _holders(book.timeline[-1][1]) == _holders(now):
            # Activity is told of the time before a look, not after it.
            book.timeline[-1] = (book.timeline[-1][0], now)

    def _change_hands(
        self,
        metered: Metered,
        edges: Sequence[HolderEdge],
        claims: Mapping[str, Sequence[Claim]],
    ) -> None:
        """Let holders come and go when they did, as far as that is not booked yet."""
        timeline, counter = metered.book.timeline, metered.counter
        since_ns, held = timeline[-1] if timeline else (0, None)
        if counter is not None and held is not None:
            from_ns = max(since_ns, counter.state.boot_ns)
            timeline += changes(edges, held, _claims_on(metered.spec, claims), from_ns)

    def _note_holders(
        self, metered: Metered, claims: Mapping[str, Sequence[Claim]], from_ns: int
    ) -> None:
        """Remember who holds the meter from now on."""
        book, now = metered.book, _claims_on(metered.spec, claims)
        if book.timeline and _holders(book.timeline[-1][1]) == _holders(now):
            from_ns, _ = book.timeline.pop()
        elif book.timeline:
            # An edge can be younger than the reading that was taken just before the look.
            from_ns = max(from_ns, book.timeline[-1][0])
        book.timeline.append((from_ns, now))
        book.state.claims, book.state.since_ns = now, from_ns

    def _label(self, boot_ns: int) -> int:
        assert self._offset_ms is not None
        return boot_ns // NS_PER_MS + self._offset_ms


def _last_offset(states: Iterable[BookState], identity: Identity) -> int | None:
    """Return UTC minus boot time as last kept in this boot, None if this is its first run."""
    kept = [
        (state.counter.boot_ns, state.offset_ms)
        for state in states
        if state.counter is not None and state.counter.epoch.boot == identity.boot
    ]
    return max(kept)[1] if kept else None


def _claims_on(spec: MeterSpec, claims: Mapping[str, Sequence[Claim]]) -> tuple[Claim, ...]:
    names = [spec.info.name]
    if _by_cpu_time(spec):
        # Of a package with several dies (`cpu/0.1/package`) only the socket is known.
        socket = spec.info.name.split("/")[1].partition(".")[0]
        names += [f"cpu/{socket}/*", CPU_CLAIMS]
    return tuple(next((claims[name] for name in names if name in claims), ()))


def _kind(spec: MeterSpec) -> tuple[str, ...]:
    """Return what meters have in common that rest alike: GPUs of one model, sockets of one node."""
    labels = spec.info.labels
    told = (labels.get("model", ""), labels.get("domain", ""))
    return (spec.info.component, *told) if any(told) and not _is_host(spec) else ()


def _by_cpu_time(spec: MeterSpec) -> bool:
    return spec.info.component in (Component.CPU, Component.DRAM)


def _holders(claims: Claims) -> set[object]:
    return {claim.holder for claim in claims} if claims is not None else {Account.GAP}


def _is_host(spec: MeterSpec | None) -> bool:
    return spec is not None and spec.info.component is Component.HOST
