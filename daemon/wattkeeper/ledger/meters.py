"""One meter as the intake knows it: where its books end, and its chain of points."""

from wattkeeper.ledger.bulk import Row
from wattkeeper.ledger.pending import Pending
from wattkeeper.ledger.seal import seal
from wattkeeper.model.meter import Component
from wattkeeper.model.window import EpochInfo


class MeterBook:
    """Where a meter's books end.

    `uj`, `end_ms`, `boot_ms`: the count, UTC and boot time at the end of the last booked stretch.
    `journal`: id of the journal that wrote it, 0 for none.
    `info`: the epoch as the journal's dictionary names it, `epoch` its ordinal here (0: none yet).
    `resume`: something was skipped, so the next window may begin beyond `uj`.
    `past`: boots whose time is over for this meter.
    `gpu`: its index on its node by the newest label, None if it is no GPU or has none.
    `granted`: a scheduler grants it, so what it books to `idle` is kept to be settled.
    """

    __slots__ = (
        "boot_ms", "component", "end_ms", "epoch", "first_ms", "gpu", "granted", "host", "id",
        "info", "journal", "name", "node", "past", "point_at_ms", "point_epoch", "point_uj",
        "points", "resume", "seal", "uj",
    )  # fmt: skip

    def __init__(self, number: int, node: int, name: str, component: str) -> None:
        self.id = number
        self.node = node
        self.name = name
        self.component = component
        self.host = component == Component.HOST
        self.gpu: int | None = None
        self.granted = False
        self.journal = 0
        self.info = EpochInfo("", "")
        self.epoch = 0
        self.uj = 0
        self.end_ms = 0
        self.boot_ms = 0
        self.first_ms: int | None = None
        self.resume = True
        self.past: set[str] = set()
        self.points = 0
        self.point_epoch = 0
        self.point_at_ms = 0
        self.point_uj = 0
        self.seal = 0

    def row(self) -> Row:
        """Return the changing columns of its row in `meter`, the id last."""
        return (
            self.first_ms,
            self.end_ms,
            self.boot_ms,
            self.uj,
            self.journal or None,
            self.epoch,
            self.points,
            int(self.resume),
            self.id,
        )

    def add_point(self, pending: Pending, at_ms: int, value_uj: int) -> None:
        """Append to the chain of points, unless it stands there already."""
        newest = (self.point_epoch, self.point_at_ms, self.point_uj)
        if self.points and newest == (self.epoch, at_ms, value_uj):
            return
        self.points += 1
        self.seal = seal(self.seal, self.points, self.epoch, at_ms, value_uj)
        self.point_epoch, self.point_at_ms, self.point_uj = self.epoch, at_ms, value_uj
        pending.points.append((self.id, self.points, self.epoch, at_ms, value_uj, self.seal))

    def close_points(self, pending: Pending) -> None:
        """Append the end of the books, unless the sampler's own point is there or beyond."""
        if self.epoch == 0:
            return
        beyond = self.point_at_ms >= self.end_ms or self.point_uj > self.uj
        if self.point_epoch != self.epoch or not beyond:
            self.add_point(pending, self.end_ms, self.uj)

    def take_over(self, pending: Pending, other: "MeterBook") -> None:
        """Go on where another node's books of the same counter end: what is before is booked there.

        As after another journal of its own: what overlaps is passed over, what is missing a gap.
        """
        self.close_points(pending)
        self.open_epoch(pending, other.info, other.end_ms, other.uj)
        self.info, self.boot_ms = other.info, other.boot_ms
        self.journal, self.resume = 0, True
        pending.meters[self.id] = self.row()

    def open_epoch(self, pending: Pending, info: EpochInfo, at_ms: int, value_uj: int) -> None:
        """Begin another unbroken count with a point at its first value."""
        if self.epoch and self.info.boot != info.boot:
            self.past.add(self.info.boot)
        self.epoch += 1
        pending.epochs.append((self.id, self.epoch, info.boot, info.load, info.reset))
        self.uj = value_uj
        self.end_ms = at_ms
        if self.first_ms is None:
            self.first_ms = at_ms
        self.add_point(pending, at_ms, value_uj)
