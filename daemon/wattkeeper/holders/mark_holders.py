"""Holders by the marks of prolog and epilog: the scheduler's own word on who has which GPU."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from wattkeeper.holders import gpus, marks
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.holders.edge_log import EdgeLog
from wattkeeper.holders.gpus import Device, Devices
from wattkeeper.holders.lapse import Cgroups, Lapse
from wattkeeper.holders.lapse import Roll as LapseRoll
from wattkeeper.holders.mark_book import Edge, Hold, MarkBook, Saved
from wattkeeper.model.clock import Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import Finding, State

_OPEN = "open.json"
_BAD = "bad"
_MOST_BAD = 100
_HALF_WRITTEN_S = 3600


class Roll(LapseRoll, Protocol):
    """Slurm's list of the jobs here, which can be asked for."""

    def want(self) -> None:
        """Ask, without waiting for the answer."""
        ...

    async def close(self) -> None:
        """Ask no more."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What marks are held against: whether their jobs still are.

    `others`: claims by the environments of jobs; `grace_ns`: how long an epilog may be late.
    """

    cgroups: Cgroups
    roll: Roll
    others: Callable[[], Mapping[str, Sequence[Claim]]]
    clock: Clock
    grace_ns: int


class MarkHolders:
    """Claims on GPUs from the start mark to the end mark, whether anything runs on them or not.

    `spool` is `<data_dir>/marks`; `devices` gives the device behind each of Slurm's GPU indices,
    empty while it is not known, `partitions` the MIG instances by UUID. Open holds survive a
    restart in `open.json`, written before the marks that made them are deleted. A hold still open
    at two looks is the same run exactly if its `HolderKey` is equal; what began *and* ended in
    between, also while no agent ran, is in `edges()`. With `around`, a hold ends also where its
    epilog was missed. With `peek` nothing on disk is changed: for whoever looks beside a running
    agent.
    """

    name = "marks"

    def __init__(
        self,
        spool: Path,
        devices: Callable[[], Devices],
        boot_id: str,
        *,
        partitions: Callable[[], Mapping[str, Partition]] = dict,
        around: Surroundings | None = None,
        peek: bool = False,
    ) -> None:
        self._spool = spool
        self._peek = peek
        self._devices = devices
        self._partitions = partitions
        self._boot_id = boot_id
        self._around = around
        self._lapse = Lapse(around.cgroups, around.roll, around.grace_ns) if around else None
        self._book: MarkBook | None = None
        self._edges = EdgeLog()
        self._just_ended: tuple[Hold, ...] = ()
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._unknown: frozenset[int] = frozenset()
        self._failed = ""
        self._bad = 0
        self._bad_reason = ""
        # A look runs in a thread, and a cancelled one goes on there.
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Take in the spool, and end what was forgotten."""
        if await asyncio.to_thread(self._look) and self._around is not None:
            self._around.roll.want()

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return a claim, `allocated`, for each GPU of each open hold."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return every open hold, also one without GPUs, with the labels of its mark.

        Those that the last look saw end are still among them: they are to be booked yet.
        """
        holds = self._book.holds if self._book else ()
        return {
            hold.key: HolderInfo(
                hold.key.manager, hold.key.raw_id, hold.key.birth_ms, hold.latest.labels
            )
            for hold in (*self._just_ended, *holds)
        }

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return the edges after an instant of this boot that the looks so far have taken in."""
        return self._edges.since(since_boot_ns)

    def fresh(self) -> Sequence[HolderEdge]:
        """Return the edges that the last look has taken in, at their marks' own times."""
        return self._edges.fresh

    @property
    def missed_epilogs(self) -> int:
        """Holds that had to be ended without an epilog, since this agent has started."""
        return self._book.ignored["missed_epilog"] if self._book else 0

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
        """Ask Slurm no more."""
        if self._around is not None:
            await self._around.roll.close()

    def _ignored(self) -> str:
        counts = self._book.ignored if self._book else {}
        return "".join(f", {count} {kind}" for kind, count in sorted(counts.items()))

    def _look(self) -> bool:
        """Take in the spool; True if Slurm is to be asked about a hold."""
        with self._lock:
            self._edges.begin()
            self._just_ended = ()
            ask = False
            try:
                if self._book is None:
                    self._tidy()
                    self._book = MarkBook(self._boot_id, self._read_open())
                self._drain(self._book)
                ask = self._end_forgotten(self._book)
            except OSError as error:
                self._failed = f"{error.filename or self._spool}: {error.strerror}"
            else:
                self._failed = ""
            if self._book is not None:
                self._claim(self._book.holds)
            return ask

    def _end_forgotten(self, book: MarkBook) -> bool:
        if self._lapse is None or self._around is None or self._peek:
            return False
        held = {hold.key: self._claims_of(hold) for hold in book.holds}
        now_ns = self._around.clock.boot_ns()
        review = self._lapse.review(book.holds, held, self._around.others(), now_ns)
        for hold in review.lived:
            book.live(hold)
        self._note([book.lapse(hold, now_ns) for hold in review.lapsed])
        if review.lived or review.lapsed:
            marks.write_durably(self._spool / _OPEN, msgspec.json.encode(book.saved()))
        return review.ask

    def _note(self, edges: Sequence[Edge]) -> None:
        self._just_ended += tuple(edge.hold for edge in edges if not edge.started)
        for edge in edges:
            claims = self._claims_of(edge.hold)
            alone = edge.started and all(gpus.whole(claim) for claim in claims.values())
            self._edges.add(
                [HolderEdge(edge.hold.key, edge.started, edge.boot_ns, tuple(claims), alone)]
            )

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
        self._note(book.apply(found.values()))
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
        by_meter: dict[str, list[tuple[Hold, Claim]]] = {}
        for hold in holds:
            for meter, claim in self._claims_of(hold).items():
                by_meter.setdefault(meter, []).append((hold, claim))
        known = self._devices()
        named = {index for hold in holds for index in hold.latest.gpus}
        self._unknown = frozenset(named - known.keys()) if known else frozenset()
        self._claims = {meter: _alone(claims) for meter, claims in by_meter.items()}

    def _claims_of(self, hold: Hold) -> dict[str, Claim]:
        return gpus.claims(self._held(hold), hold.key, shared=hold.latest.shared)

    def _held(self, hold: Hold) -> list[Device]:
        known, partitions = self._devices(), self._partitions()
        named = [known[index] for index in hold.latest.gpus if index in known]
        return [*named, *(gpus.by_uuid(uuid, partitions) for uuid in hold.latest.uuids)]


def _alone(claims: Sequence[tuple[Hold, Claim]]) -> tuple[Claim, ...]:
    """Return the claims on one meter, only the newest of those that would hold it alone.

    Two exclusive holds on one meter can only come from one mark by index and one by UUID.
    """
    alone = [hold for hold, claim in claims if gpus.whole(claim)]
    newest = max(alone, key=lambda hold: hold.latest.boot_ns, default=None)
    return tuple(
        replace(claim, reserved_ppm=None) if gpus.whole(claim) and len(claims) > 1 else claim
        for hold, claim in claims
        if hold is newest or not gpus.whole(claim)
    )
