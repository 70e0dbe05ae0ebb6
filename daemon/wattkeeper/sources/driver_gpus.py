"""The GPUs that a driver has ever told of, by UUID: their meters, values and states."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wattkeeper.model.meter import MeterInfo, MeterSpec, Partition
from wattkeeper.model.reading import Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.base import DeviceProcess
from wattkeeper.sources.driver_partitions import partitions
from wattkeeper.sources.driver_readings import (
    add_throttled,
    meter_info,
    meter_name,
    meter_spec,
    reading,
)
from wattkeeper.sources.driver_wire import Board, Failed, GpuAnswer, Slow

_PPM_PER_PERCENT = 10_000


@dataclass(frozen=True, slots=True)
class Driver:
    """What tells one maker's driver from another's.

    `name`: of the source. `vendor`: as in labels; `maker`: as people write it. `module`: of the
    kernel. `child`: the Python module of the process that owns the library. `init`: the call that
    initialises it.
    `one_by_one`: whether single GPUs can be left closed. `states`, `words`, `fixes`: what return
    codes stand for (failing, if nothing else), what they mean in words that operators know, and
    the remedies. `lost`, `hung`: what to do about a GPU that is gone, or does not answer.
    `divided`: the label of a GPU that has instances.
    """

    name: str
    vendor: str
    maker: str
    module: str
    child: str
    init: str
    one_by_one: bool
    divided: str
    states: Mapping[int, State]
    words: Mapping[int, str]
    fixes: Mapping[int, str]
    lost: str
    hung: str

    def explain(self, subject: str, failed: Failed) -> Finding:
        """Return the state that a return code stands for, with the remedy."""
        code = failed.code
        text = self.words.get(code, failed.text)
        detail = f"{failed.call} returned {code}: {text}"
        return Finding(
            subject, self.states.get(code, State.FAILING), detail, self.fixes.get(code, "")
        )


@dataclass(slots=True)
class _Gpu:
    board: Board
    finding: Finding
    slow: Slow | None = None
    boot_ns: int = 0
    throttle_ns: dict[str, int] = field(default_factory=dict)

    @property
    def divided(self) -> bool:
        return self.slow is not None and self.slow.instances is not None


class Gpus:
    """What the children said of the GPUs. `version` belongs to the present child."""

    def __init__(self, driver: Driver) -> None:
        self.answering = False
        self.missing = False
        self._driver = driver
        self._gpus: dict[str, _Gpu] = {}
        self.version = ""
        self._load = ""
        self._specs: list[MeterSpec] | None = None

    def begin(self, version: str, load: str) -> None:
        """A new child speaks from now on, of this load of the driver."""
        self.version, self._load, self._specs = version, load, None

    @property
    def healthy(self) -> int:
        """How many GPUs answered last time they were asked."""
        return sum(gpu.finding.state is State.OK for gpu in self._gpus.values())

    @property
    def ailing(self) -> bool:
        """Whether another child might see more GPUs."""
        failing = (State.FAILING, State.DENIED, State.ABSENT)
        return self.missing or any(gpu.finding.state in failing for gpu in self._gpus.values())

    def __len__(self) -> int:
        return len(self._gpus)

    def uuid(self, meter: str) -> str:
        """Return the UUID behind a meter.

        Raises:
            ValueError: no GPU of that name was ever seen.

        """
        for uuid in self._gpus:
            if meter in (uuid, meter_name(uuid)):
                return uuid
        known = ", ".join(meter_name(uuid) for uuid in self._gpus) or "none"
        raise ValueError(f"no {self._driver.maker} GPU is called {meter!r}; there are: {known}")

    def places(self, without: Collection[str | None]) -> list[str]:
        """Return the PCI addresses of the known GPUs except these UUIDs."""
        return [gpu.board.pci_bus_id for uuid, gpu in self._gpus.items() if uuid not in without]

    def specs(self) -> Sequence[MeterSpec]:
        """Return the meters, numbered in PCI order."""
        if self._specs is None:
            ordered = sorted(self._gpus.values(), key=lambda gpu: gpu.board.pci_bus_id)
            self._specs = [
                meter_spec(gpu.board, self._info(gpu, i), self._load)
                for i, gpu in enumerate(ordered)
            ]
        return self._specs

    def _info(self, gpu: _Gpu, ordinal: int) -> MeterInfo:
        """Return who a GPU's meter is. `ordinal`: its number in PCI order, as Slurm counts."""
        labels = {
            "gpu": str(ordinal),
            "driver": self.version,
            "vendor": self._driver.vendor,
            self._driver.divided: "1" if gpu.divided else "",
        }
        return meter_info(gpu.board, labels, self._driver.name)

    def overall(self, remark: str) -> Finding:
        """Return the state of the driver by that of its GPUs."""
        name = self._driver.name
        detail = f"driver {self.version}: {self.healthy} of {len(self)} GPUs answer{remark}"
        if self.healthy:
            return Finding(name, State.OK, detail)
        states = {gpu.finding.state for gpu in self._gpus.values()}
        state = states.pop() if len(states) == 1 else State.FAILING
        return Finding(name, state, detail, "see each GPU")

    def findings(self) -> list[Finding]:
        """Return the state of each GPU."""
        return [gpu.finding for gpu in self._gpus.values()]

    def processes(self) -> Mapping[str, Sequence[DeviceProcess]]:
        """Return the processes of each GPU that answers and tells them."""
        return {
            meter_name(uuid): [*_processes(gpu.slow)]
            for uuid, gpu in self._gpus.items()
            if gpu.finding.state is State.OK and gpu.slow and gpu.slow.processes is not None
        }

    def partitions(self) -> Mapping[str, Partition]:
        """Return the parts of every GPU by their UUIDs, as of the last ten seconds."""
        return {
            partition.uuid: partition
            for uuid, gpu in self._gpus.items()
            if gpu.slow is not None
            for partition in partitions(gpu.slow, meter_name(uuid))
        }

    def learn(
        self, answers: Sequence[GpuAnswer], released: Collection[str | None]
    ) -> list[Reading]:
        """Take in the answers of one tick and return the readings among them."""
        readings = []
        strangers = []
        seen = set(released)
        for answer in answers:
            uuid = self._identify(answer)
            if uuid is None:
                strangers.append(answer)
                continue
            seen.add(uuid)
            taken = self._take(uuid, self._gpus[uuid], answer)
            if taken is not None:
                readings.append(taken)
        self._note_missing(seen, strangers)
        self.answering = any(answer.stuck_s is None for answer in answers)
        return readings

    def all_are(
        self, state: State, detail: str, fix: str = "", but: Collection[str | None] = ()
    ) -> None:
        """Put all GPUs but these UUIDs into a state."""
        for uuid in self._gpus:
            if uuid not in but:
                self.one_is(uuid, state, detail, fix)
        self.answering = False

    def one_is(self, uuid: str, state: State, detail: str, fix: str = "") -> None:
        """Put one GPU into a state."""
        self._gpus[uuid].finding = Finding(meter_name(uuid), state, detail, fix)

    def _identify(self, answer: GpuAnswer) -> str | None:
        board = answer.board
        if board is not None:
            gpu = self._gpus.get(board.uuid)
            if gpu is None:
                self._gpus[board.uuid] = _Gpu(board, _ok(board))
            else:
                gpu.board = board
            self._specs = None
            return board.uuid
        if answer.uuid is not None:
            return answer.uuid if answer.uuid in self._gpus else None
        for uuid, gpu in self._gpus.items():
            if gpu.board.pci_bus_id == answer.place:
                return uuid
        return None

    def _take(self, uuid: str, gpu: _Gpu, answer: GpuAnswer) -> Reading | None:
        name = meter_name(uuid)
        if answer.slow is not None:
            if (answer.slow.instances is not None) != gpu.divided:
                self._specs = None
            gpu.slow = answer.slow
        if answer.stuck_s is not None:
            gpu.finding = self._stuck(name, answer)
            return None
        if answer.code is not None:
            gpu.finding = self._driver.explain(name, Failed(answer.code, answer.call, answer.text))
            return None
        if gpu.finding.state is not State.OK:
            gpu.finding = _ok(gpu.board)
        if answer.boot_ns <= gpu.boot_ns:
            return None
        self._count_throttling(gpu, answer)
        gpu.boot_ns = answer.boot_ns
        return reading(answer, uuid, gpu.slow, gpu.throttle_ns)

    def _count_throttling(self, gpu: _Gpu, answer: GpuAnswer) -> None:
        if gpu.slow is not None and gpu.slow.throttle_ns:
            gpu.throttle_ns = gpu.slow.throttle_ns
        elif gpu.boot_ns:
            add_throttled(gpu.throttle_ns, answer.throttled, answer.boot_ns - gpu.boot_ns)

    def _note_missing(self, seen: Collection[str | None], strangers: Sequence[GpuAnswer]) -> None:
        """Say of known GPUs that no answer speaks of what the nameless answers say."""
        missing = [uuid for uuid in self._gpus if uuid not in seen]
        self.missing = bool(missing or strangers)
        for uuid in missing:
            name = meter_name(uuid)
            finding = Finding(
                name, State.FAILING, "the driver does not list it any more", self._driver.lost
            )
            for answer in strangers:
                if answer.code is not None:
                    finding = self._driver.explain(
                        name, Failed(answer.code, answer.call, answer.text)
                    )
                elif answer.stuck_s is not None:
                    finding = self._stuck(name, answer)
            self._gpus[uuid].finding = finding

    def _stuck(self, name: str, answer: GpuAnswer) -> Finding:
        detail = f"no answer from {answer.call} for {answer.stuck_s or 0:.1f} s"
        return Finding(name, State.STALE, detail, self._driver.hung)


def healthy(answers: Sequence[GpuAnswer]) -> int:
    """Return how many GPUs answered with values."""
    return sum(answer.code is None and answer.stuck_s is None for answer in answers)


def _processes(slow: Slow) -> Iterator[DeviceProcess]:
    for pid, percent, instance in slow.processes or ():
        sm_ppm = None if percent is None else percent * _PPM_PER_PERCENT
        if instance:
            sm_ppm = slow.busy_ppm.get(instance)
        yield DeviceProcess(pid, sm_ppm, instance or None)


def _ok(board: Board) -> Finding:
    method = "energy counter" if board.counter else "no energy counter: power is integrated"
    note = f"; {board.note}" if board.note else ""
    detail = f"{board.model} at {board.pci_bus_id}, {method}{note}"
    return Finding(meter_name(board.uuid), State.OK, detail)
