"""Holders by the marks of prolog and epilog: the scheduler's own word on who has which GPU."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wattkeeper.holders import marks
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.mark_book import Edge, Hold, MarkBook, Saved
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State

_OPEN = "open.json"
_BAD = "bad"
_WHOLE_PPM = 1_000_000
_MOST_EDGES = 4096
_MOST_BAD = 100
_HALF_WRITTEN_S = 3600


@dataclass(frozen=True, slots=True)
class MarkEdge:
    """A marked hold that began or ended on some meters, at the mark's own time."""

    key: HolderKey
    started: bool
    boot_ns: int
    wall_ms: int
    meters: tuple[str, ...]


class MarkHolders:
    """Claims on GPUs from the start mark to the end mark, whether anything runs on them or not.

    `spool` is `<data_dir>/marks`; `gpus_by_index` gives the meter behind each of Slurm's GPU
    indices (PCI order), empty while it is not known. Open holds survive a restart in
    `open.json`, written before the marks that made them are deleted. A hold still open at two
    looks is the same run exactly if its `HolderKey` is equal; what began *and* ended in between,
    also while no agent ran, is in `since()`. With `peek` nothing on disk is changed: for whoever
    looks beside a running agent.
    """

    name = "marks"

    def __init__(
        self,
        spool: Path,
        gpus_by_index: Callable[[], Mapping[int, str]],
        boot_id: str,
        *,
        peek: bool = False,
    ) -> None:
        self._spool = spool
        self._peek = peek
        self._gpus_by_index = gpus_by_index
        self._boot_id = boot_id
        self._book: MarkBook | None = None
        self._edges: deque[Edge] = deque(maxlen=_MOST_EDGES)
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._unknown: frozenset[int] = frozenset()
        self._failed = ""
        self._bad = 0
        self._bad_reason = ""
        # A look runs in a thread, and a cancelled one goes on there.
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Take in the spool."""
        await asyncio.to_thread(self._look)

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return a claim, `allocated`, for each GPU of each open hold."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return every open hold, also one without GPUs, with the labels of its mark."""
        holds = self._book.holds if self._book else ()
        return {
            hold.key: HolderInfo(
                hold.key.manager, hold.key.raw_id, hold.key.birth_ms, hold.latest.labels
            )
            for hold in holds
        }

    def since(self, boot_ns: int) -> Sequence[MarkEdge]:
        """Return the edges after an instant of this boot that the looks so far have taken in."""
        gpus = self._gpus_by_index()
        return [
            MarkEdge(
                edge.hold.key, edge.started, edge.boot_ns, edge.wall_ms, _meters(edge.hold, gpus)
            )
            for edge in list(self._edges)
            if edge.boot_ns > boot_ns
        ]

    def findings(self) -> Sequence[Finding]:
        """Return how the spool does, what was put aside, and indices that fit no GPU."""
        if self._failed:
            fix = f"let the agent write {self._spool}, on a disk that is not full"
            return [Finding(self.name, State.FAILING, self._failed, fix)]
        holds = self._book.holds if self._book else ()
        found = [Finding(self.name, State.OK, f"{len(holds)} open holds{self._ignored()}")]
        if self._bad:
            detail = f"{self._bad} files in {self._spool / _BAD} are no marks: {self._bad_reason}"
            fix = "look what wrote them, then delete them"
            found.append(Finding("marks/bad", State.FAILING, detail, fix))
        if self._unknown:
            indices = ", ".join(map(str, sorted(self._unknown)))
            detail = f"jobs hold GPU indices that fit no meter: {indices}"
            fix = "compare gres.conf with the GPUs that doctor lists"
            found.append(Finding("marks/gpus", State.FAILING, detail, fix))
        return found

    async def close(self) -> None:
        """Nothing is held open."""

    def _ignored(self) -> str:
        counts = self._book.ignored if self._book else {}
        return "".join(f", {count} {kind}" for kind, count in sorted(counts.items()))

    def _look(self) -> None:
        with self._lock:
            try:
                if self._book is None:
                    self._tidy()
                    self._book = MarkBook(self._boot_id, self._read_open())
                self._drain(self._book)
            except OSError as error:
                self._failed = f"{error.filename or self._spool}: {error.strerror}"
            else:
                self._failed = ""
            if self._book is not None:
                self._claim(self._book.holds)

    def _read_open(self) -> Saved | None:
        file = self._spool / _OPEN
        try:
            return msgspec.json.decode(file.read_bytes(), type=Saved)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            self._put_aside(file, str(error))
            return None

    def _drain(self, book: MarkBook) -> None:
        found: dict[Path, marks.Mark] = {}
        for file in self._files():
            if file.name.startswith(".") or file.name in (_OPEN, _BAD):
                continue
            try:
                found[file] = marks.read(file)
            except (ValueError, RecursionError) as error:
                self._put_aside(file, str(error))
            except FileNotFoundError:
                continue  # the agent beside whom we peek has taken it in
        if not found:
            return
        self._edges.extend(book.apply(found.values()))
        if self._peek:
            return
        # If this fails the marks stay and are applied once more, which changes nothing.
        marks.write_durably(self._spool / _OPEN, msgspec.json.encode(book.saved()))
        for file in found:
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        if self._peek and not self._spool.exists():
            return []
        return sorted(self._spool.iterdir())

    def _put_aside(self, file: Path, reason: str) -> None:
        if self._peek:
            return
        aside = self._spool / _BAD
        aside.mkdir(mode=0o700, exist_ok=True)
        file.rename(aside / f"{file.name[:200]}.{self._bad:06d}")
        self._bad_reason = f"{file.name[:80]!r}: {reason[:200]}"
        old = sorted(aside.iterdir(), key=lambda kept: kept.lstat().st_mtime_ns)
        for kept in old[:-_MOST_BAD]:
            with contextlib.suppress(IsADirectoryError):
                kept.unlink()
        self._bad += 1

    def _tidy(self) -> None:
        """Count what was put aside, make the spool, delete marks given up half-way long ago."""
        with contextlib.suppress(FileNotFoundError):
            self._bad = sum(1 for _ in (self._spool / _BAD).iterdir())
            self._bad_reason = "left from before"
        if self._peek:
            return
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in self._spool.glob(".*"):
            if half.lstat().st_mtime < time.time() - _HALF_WRITTEN_S:
                half.unlink(missing_ok=True)

    def _claim(self, holds: Sequence[Hold]) -> None:
        gpus = self._gpus_by_index()
        by_meter: dict[str, list[Hold]] = {}
        for hold in holds:
            for meter in _meters(hold, gpus):
                by_meter.setdefault(meter, []).append(hold)
        held = {index for hold in holds for index in hold.latest.gpus}
        self._unknown = frozenset(held - gpus.keys()) if gpus else frozenset()
        self._claims = {meter: _claims(on_meter) for meter, on_meter in by_meter.items()}


def _claims(holds: Sequence[Hold]) -> tuple[Claim, ...]:
    """Return the claims on one meter, only the newest of those that would hold it alone.

    Two exclusive holds on one meter can only come from one mark by index and one by UUID.
    """
    alone = [hold for hold in holds if not hold.latest.shared]
    newest = max(alone, key=lambda hold: hold.latest.boot_ns, default=None)
    return tuple(
        Claim(
            hold.key,
            reserved_ppm=None if hold.latest.shared or len(holds) > 1 else _WHOLE_PPM,
            allocated=True,
        )
        for hold in holds
        if hold.latest.shared or hold is newest
    )


def _meters(hold: Hold, gpus: Mapping[int, str]) -> tuple[str, ...]:
    named = [gpus[index] for index in hold.latest.gpus if index in gpus]
    return tuple(dict.fromkeys([*named, *(f"gpu/{uuid}" for uuid in hold.latest.uuids)]))
