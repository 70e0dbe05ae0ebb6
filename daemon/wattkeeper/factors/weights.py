"""What a microjoule costs and emits, slot by slot, in whole numbers.

The ledger knows energy by slot. Where a factor changes inside one, the slot's rate is the mean of
its rates by time: the product of rate and PUE, times the milliseconds that it is in force, summed
over the slot. Nothing is divided or rounded until a sum is shown, so that amounts of any parts of
a time, or of any groups of jobs, add up to the whole exactly.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from wattkeeper.factors.series import Piece, Series
from wattkeeper.factors.units import RATE
from wattkeeper.model.grid import floor
from wattkeeper.model.microjoules import UJ_PER_KWH

MONEY_DIGITS = 6
"""Decimals of a currency in which costs are shown."""
GRAM_DIGITS = 3
"""Decimals of a gram in which carbon is shown."""
_MONEY, _GRAM = 1_000_000, 1_000


class Weight(NamedTuple):
    """Of each microjoule of a slot: rate by PUE by milliseconds, summed over it.

    `cost`, `carbon`: None where the factor is not known. `…_guessed_ms`: for how long a factor in
    it is estimated.
    """

    cost: int | None
    carbon: int | None
    cost_guessed_ms: int
    carbon_guessed_ms: int


class Run(NamedTuple):
    """Slots in a row that weigh the same; whole slots of [from, to)."""

    from_ms: int
    to_ms: int
    weight: Weight


@dataclass(frozen=True, slots=True)
class Amount:
    """Exact sums: numerators over the denominators of `Valuation`, None where nothing is known.

    `…_guessed`: microjoules by milliseconds for which a factor was estimated; `uj`: all energy.
    """

    uj: int = 0
    cost: int | None = None
    carbon: int | None = None
    cost_guessed: int = 0
    carbon_guessed: int = 0


class Valuation:
    """Values energies of the time between two slot lines."""

    def __init__(self, runs: Sequence[Run], slot_ms: int) -> None:
        self.runs = runs
        self.slot_ms = slot_ms
        self._begins = [run.from_ms for run in runs]

    @property
    def per_money(self) -> int:
        """Denominator that makes an amount's `cost` whole units of MONEY_DIGITS."""
        return RATE * RATE * self.slot_ms * UJ_PER_KWH // _MONEY

    @property
    def per_gram(self) -> int:
        """Denominator that makes an amount's `carbon` whole units of GRAM_DIGITS."""
        return RATE * RATE * self.slot_ms * UJ_PER_KWH // _GRAM

    def amount(self, energies: Mapping[int, int]) -> Amount:
        """Return what microjoules, by an instant of the slots that they are of, come to."""
        sums: dict[Weight, int] = {}
        for at_ms, uj in energies.items():
            weight = self.runs[max(0, bisect_right(self._begins, at_ms) - 1)].weight
            sums[weight] = sums.get(weight, 0) + uj
        known = self.runs[0].weight
        return Amount(
            uj=sum(sums.values()),
            cost=None if known.cost is None else sum(uj * (w.cost or 0) for w, uj in sums.items()),
            carbon=None
            if known.carbon is None
            else sum(uj * (w.carbon or 0) for w, uj in sums.items()),
            cost_guessed=sum(uj * w.cost_guessed_ms for w, uj in sums.items()),
            carbon_guessed=sum(uj * w.carbon_guessed_ms for w, uj in sums.items()),
        )

    def guessed_ratio(self, guessed: int, uj: int) -> float:
        """Return which part of an energy was valued by estimated factors."""
        return guessed / (uj * self.slot_ms) if uj else 0.0


def value(
    price: Series | None,
    carbon: Series | None,
    pue: Series | None,
    *,
    since_ms: int,
    until_ms: int,
    slot_ms: int,
) -> Valuation:
    """Return the valuation of the slots of [since, until); None is a factor that is not given.

    Without a PUE only the metered energy itself is valued. A series without any value leaves cost
    or carbon unknown; of a PUE, both.
    """
    until_ms = max(until_ms, since_ms + slot_ms)
    pieces = [
        None if series is None else series.pieces(since_ms, until_ms)
        for series in (price, carbon, pue)
    ]
    weighed = list(_weigh(list(_cut(pieces, since_ms, until_ms)), slot_ms))
    runs: list[Run] = []
    for run in weighed:
        if runs and runs[-1].weight == run.weight:
            runs[-1] = runs[-1]._replace(to_ms=run.to_ms)
        else:
            runs.append(run)
    return Valuation(runs, slot_ms)


class _Stretch(NamedTuple):
    """A time in which no factor changes; rates with PUE, per millisecond."""

    from_ms: int
    to_ms: int
    cost: int | None
    carbon: int | None
    cost_guessed: bool
    carbon_guessed: bool


def _cut(pieces: Sequence[list[Piece] | None], since_ms: int, until_ms: int) -> Iterator[_Stretch]:
    cuts = {since_ms, until_ms}
    for known in pieces:
        cuts.update(piece.from_ms for piece in known or ())
    lines = sorted(cuts)
    price, carbon, pue = (_Walk(known) for known in pieces)
    for from_ms, to_ms in pairwise(lines):
        paid, emitted, used = price.at(from_ms), carbon.at(from_ms), pue.at(from_ms)
        part, guessed = (RATE, False) if pue.absent else used or (None, False)
        yield _Stretch(
            from_ms,
            to_ms,
            paid[0] * part if paid and part is not None else None,
            emitted[0] * part if emitted and part is not None else None,
            bool(paid and (paid[1] or guessed)),
            bool(emitted and (emitted[1] or guessed)),
        )


class _Walk:
    """The rate at instants that only go forward."""

    def __init__(self, pieces: list[Piece] | None) -> None:
        self.absent = pieces is None
        self._pieces = pieces or []
        self._number = 0

    def at(self, at_ms: int) -> tuple[int, bool] | None:
        if not self._pieces:
            return None
        while self._pieces[self._number].to_ms <= at_ms:
            self._number += 1
        piece = self._pieces[self._number]
        return piece.rate, piece.estimated


def _weigh(stretches: Iterable[_Stretch], slot_ms: int) -> Iterator[Run]:
    """Sum stretches into slots; whole slots of one stretch are one run."""
    open_ms, held = 0, Weight(0, 0, 0, 0)
    for stretch in stretches:
        at_ms = stretch.from_ms
        if at_ms % slot_ms:
            end_ms = min(stretch.to_ms, floor(at_ms, slot_ms) + slot_ms)
            held = _add(held, stretch, end_ms - at_ms)
            at_ms = end_ms
            if at_ms % slot_ms:
                continue
            yield Run(open_ms, at_ms, held)
            held = Weight(0, 0, 0, 0)
        whole_ms = floor(stretch.to_ms, slot_ms)
        if at_ms < whole_ms:
            yield Run(at_ms, whole_ms, _add(Weight(0, 0, 0, 0), stretch, slot_ms))
            at_ms = whole_ms
        if at_ms < stretch.to_ms:
            open_ms, held = at_ms, _add(Weight(0, 0, 0, 0), stretch, stretch.to_ms - at_ms)


def _add(weight: Weight, stretch: _Stretch, ms: int) -> Weight:
    cost, carbon = weight.cost, weight.carbon
    return Weight(
        None if cost is None or stretch.cost is None else cost + stretch.cost * ms,
        None if carbon is None or stretch.carbon is None else carbon + stretch.carbon * ms,
        weight.cost_guessed_ms + ms * stretch.cost_guessed,
        weight.carbon_guessed_ms + ms * stretch.carbon_guessed,
    )


def apportion(numerators: Sequence[int], denominator: int) -> list[int]:
    """Round exact amounts to whole units whose sum is the rounded sum of all (largest remainder).

    Amounts may be negative, as prices may. Ties go to the earlier one.
    """
    parts = [number // denominator for number in numerators]
    total = (2 * sum(numerators) + denominator) // (2 * denominator)
    order = sorted(range(len(parts)), key=lambda i: -(numerators[i] % denominator))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts
