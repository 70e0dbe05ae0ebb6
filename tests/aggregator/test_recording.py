"""Books and history take the same deliveries, each exactly once, whatever fails between them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, STEP_MS, UUID, Feeder
from tests.telemetry.memory_store import MemoryStore
from wattkeeper.aggregator.recording import Recording
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.delivery import wire
from wattkeeper.delivery.wire import Ack
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.store import Ledger
from wattkeeper.telemetry import recorder
from wattkeeper.telemetry.base import Cursor, Part


@dataclass
class Agent:
    """A journal that is sent from what the last answer accepted, and released by `committed`."""

    feeder: Feeder = field(default_factory=Feeder)
    payloads: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=lambda: [wire.GENESIS])
    windows: int = 0
    released: int = 0
    known: Ack | None = None

    def run(self, windows: int) -> None:
        """Meter on."""
        self.windows += 2 * windows
        for record in self.feeder.run(windows):
            self.payloads.append(wire.encode_record(record))
            self.hashes.append(wire.chain(self.hashes[-1], self.payloads[-1]))

    def send(self, accept: Callable[[wire.Batch, int], Ack], most: int = 1000) -> Ack:
        """Send the next records."""
        known = self.known
        done = max(known.accepted if known else 0, self.released)
        ack = accept(
            wire.Batch(
                cluster=self.feeder.cluster,
                node=self.feeder.node,
                journal=self.feeder.journal,
                boot=self.feeder.boot,
                agent="0.1.0",
                wall_ms=self.feeder.at_ms,
                boot_ms=self.feeder.at_ms - START_MS + 1000,
                oldest=self.released + 1,
                first=done + 1,
                previous=self.hashes[done],
                records=tuple(self.payloads[done : done + most]),
                meters={n: m for n, m in METERS.items() if not known or n > known.meters},
                holders={n: h for n, h in HOLDERS.items() if not known or n > known.holders},
                epochs={} if known and known.epochs else EPOCHS,
            ),
            self.feeder.at_ms,
        )
        assert self.hashes[ack.accepted].hex() == ack.accepted_hash
        assert ack.committed <= ack.accepted
        self.known = ack
        self.released = max(self.released, ack.committed)
        return ack


_first = Feeder().batch([])
METERS, HOLDERS, EPOCHS = _first.meters, _first.holders, _first.epochs


class Centre:
    """A ledger on disk, a store that survives, and what is in memory between them."""

    def __init__(self, path: Path) -> None:
        self.store = MemoryStore()
        self.ledger = Ledger.open(path)
        self.start()

    def start(self) -> None:
        """Begin with what is on disk: what was in memory is gone, as after kill -9."""
        self.intake = Intake(self.ledger)
        self.recording = Recording(self.store, self.ledger, self.intake, Troubles())

    def settle(self, agent: Agent) -> None:
        """Let everything arrive."""
        self.store.fails = ""
        for _ in range(6):
            self.recording.flush()
            self.intake.commit_sync()
            agent.send(self.recording.accept)
        self.recording.flush()
        self.intake.commit_sync()

    def check(self, agent: Agent) -> None:
        """Every window stands once in both."""
        rows = self.store.rows
        starts = sorted((row.place.meter, row.start_ms) for row in rows)
        assert len(set(starts)) == len(starts) == agent.windows
        steps = agent.windows // 2
        assert sum(row.uj for row in rows) == steps * (GPU_UJ + CPU_UJ)
        books = balance(self.ledger)
        assert books.residual_uj == 0
        assert not books.problems
        assert sum(m.measured_uj for m in books.meters) == steps * (GPU_UJ + CPU_UJ)


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    """A new one."""
    return Centre(tmp_path / "ledger.sqlite")


def test_rows_say_who_and_where(centre: Centre) -> None:
    """Names stand where the journal has numbers."""
    agent = Agent()
    agent.run(1)
    agent.send(centre.recording.accept)
    assert centre.recording.flush()
    gpu, cpu = centre.store.rows
    assert gpu.place == ("west", "node001", f"gpu/{UUID}", "gpu", UUID, "0", "", "nvml")
    assert (cpu.place.component, cpu.place.device) == ("cpu", "0/package")
    (part,) = gpu.parts
    assert part == Part("workload", "slurm", "123", START_MS, 0, STEP_MS, GPU_UJ, 0)
    assert ["workload", "system", "idle"] == [part.account for part in cpu.parts]


def test_a_store_that_fails_holds_back_only_what_agents_release(centre: Centre) -> None:
    """The books go on; when the store is back it gets what it missed."""
    agent = Agent()
    agent.run(3)
    centre.store.fails = "no space"
    assert agent.send(centre.recording.accept).accepted == len(agent.payloads)
    assert not centre.recording.flush()
    centre.intake.commit_sync()
    assert agent.send(centre.recording.accept).committed == 0
    assert [f.state.value for f in centre.recording.findings()] == ["failing"]
    centre.start()  # now only the agent has what the store lacks
    agent.run(3)
    centre.settle(agent)
    centre.check(agent)
    assert agent.released == len(agent.payloads)


def test_a_full_recorder_lets_the_books_go_on(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not take is asked for when there is room again."""
    monkeypatch.setattr(recorder, "MOST_WAITING", 4)
    agent = Agent()
    centre.store.fails = "down"
    for _ in range(4):
        agent.run(2)
        assert agent.send(centre.recording.accept).accepted == len(agent.payloads)
        centre.recording.flush()
    assert 4 <= centre.recording.recorder.waiting <= 8
    centre.intake.commit_sync()
    centre.settle(agent)
    centre.check(agent)


def test_a_new_store_begins_with_what_comes(centre: Centre) -> None:
    """Beside a ledger that is years old nothing is asked for that agents have released."""
    agent = Agent()
    agent.run(5)
    agent.send(centre.intake.accept)
    centre.intake.commit_sync()
    agent.send(centre.intake.accept)
    assert agent.released == len(agent.payloads)
    before = agent.windows
    agent.run(2)
    ack = agent.send(centre.recording.accept)
    assert ack.accepted == len(agent.payloads)
    assert centre.recording.flush()
    assert len(centre.store.rows) == agent.windows - before


def test_a_store_with_other_records_goes_on_with_the_next(
    centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of another installation: its cursor is not believed."""
    agent = Agent()
    agent.run(2)
    centre.store.kept[agent.feeder.journal] = Cursor(2, b"x" * 16)
    centre.start()
    agent.send(centre.recording.accept)
    assert "record 2 of journal journal-1 is another" in caplog.text
    centre.settle(agent)
    centre.check(agent)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 40)),
        st.tuples(st.just("send"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["flush", "commit", "kill", "fail", "mend"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_both_have_every_window_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Sent in any pieces, flushed and committed in any order, killed at any moment."""
    centre = Centre(tmp_path_factory.mktemp("centre") / "ledger.sqlite")
    agent = Agent()
    for step, count in steps:
        match step:
            case "run":
                agent.run(count)
            case "send":
                agent.send(centre.recording.accept, count)
            case "flush":
                centre.recording.flush()
            case "commit":
                centre.intake.commit_sync()
            case "kill":
                centre.start()
            case "fail" | "mend":
                centre.store.fails = "down" if step == "fail" else ""
    centre.settle(agent)
    centre.check(agent)
    centre.ledger.close()
