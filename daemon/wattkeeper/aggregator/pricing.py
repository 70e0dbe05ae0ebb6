"""The factors in force at a time: from the configuration, from tables, from what was fetched."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.factors.series import Piece, Series, Value, constant
from wattkeeper.factors.settings import FactorSection, FactorsSection
from wattkeeper.factors.table import Table, TableError, read
from wattkeeper.factors.weights import Valuation, value
from wattkeeper.ledger.factor_values import kept_factor
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.state import Finding, State

FACTORS = ("price", "carbon", "pue")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FactorUsed:
    """A factor over a time; rates in billionths of `unit`, `mean` by time.

    `pieces`: how it went. None for rates where no value is known at all.
    """

    factor: str
    unit: str
    how: Literal["constant", "table", "fetched"]
    sources: tuple[str, ...]
    version: str
    kind: str | None
    market: str | None
    pieces: tuple[Piece, ...]

    @property
    def mean(self) -> int | None:
        """The mean rate by time."""
        whole_ms = sum(piece.to_ms - piece.from_ms for piece in self.pieces)
        summed = sum(piece.rate * (piece.to_ms - piece.from_ms) for piece in self.pieces)
        return round(summed / whole_ms) if whole_ms else None

    @property
    def estimated_ratio(self) -> float:
        """The part of the time for which it is estimated."""
        whole_ms = sum(piece.to_ms - piece.from_ms for piece in self.pieces)
        guessed_ms = sum(piece.to_ms - piece.from_ms for piece in self.pieces if piece.estimated)
        return guessed_ms / whole_ms if whole_ms else 0.0


@dataclass(frozen=True, slots=True)
class Priced:
    """A time with its factors. `currency` is None without a price."""

    valuation: Valuation
    factors: tuple[FactorUsed, ...]
    currency: str | None

    @property
    def lines(self) -> Iterator[int]:
        """The instants at which a rate changes."""
        return (run.from_ms for run in self.valuation.runs)


class Pricing:
    """Knows every factor at every time. Its methods block."""

    def __init__(
        self, settings: FactorsSection, ledger: Ledger, troubles: Troubles | None = None
    ) -> None:
        self._sections: dict[str, FactorSection] = {
            name: section for name in FACTORS if (section := getattr(settings, name)).given
        }
        self._ledger = ledger
        self._troubles = troubles or Troubles()
        self._tables: dict[str, tuple[tuple[int, int], Table]] = {}

    def check(self) -> None:
        """Read every table.

        Raises:
            TableError: one cannot be read, or holds what its factor cannot be.

        """
        for name, section in self._sections.items():
            if section.file is not None:
                try:
                    self._read(name, section, section.file)
                except TableError as error:
                    raise TableError(f"factors.{name}.file: {error}") from error

    def at(self, since_ms: int, until_ms: int) -> Priced:
        """Return the factors of the slots of [since, until)."""
        found = {name: self._series(name, since_ms, until_ms) for name in self._sections}
        price = self._sections.get("price")
        return Priced(
            value(
                *(found[name][0] if name in found else None for name in FACTORS),
                since_ms=since_ms,
                until_ms=until_ms,
                slot_ms=self._ledger.slot_ms,
            ),
            tuple(
                self._used(name, series, sources, since_ms, until_ms)
                for name, (series, sources) in found.items()
            ),
            price.measure.base.partition("/")[0] if price else None,
        )

    def findings(self) -> list[Finding]:
        """Return how the tables and the answers of factors are."""
        fix = "what is known counts on, as estimated once it has lapsed; see docs/operations.md"
        return [
            Finding(f"factors/{name}", State.FAILING, why, fix)
            if (why := self._troubles.why(f"factors.{name}"))
            else Finding(f"factors/{name}", State.OK, "is known")
            for name, section in self._sections.items()
            if section.file is not None or section.url is not None
        ]

    def _used(
        self, name: str, series: Series, sources: Sequence[str], since_ms: int, until_ms: int
    ) -> FactorUsed:
        section = self._sections[name]
        version = section.version
        if not version and name in self._tables:
            version = f"sha256:{self._tables[name][1].version}"
        return FactorUsed(
            name,
            section.measure.base,
            "fetched" if section.url else "table" if section.file else "constant",
            tuple(sources),
            version,
            section.kind,
            section.market,
            tuple(series.pieces(since_ms, until_ms)),
        )

    def _series(self, name: str, since_ms: int, until_ms: int) -> tuple[Series, Sequence[str]]:
        section = self._sections[name]
        unit = section.measure
        rate = None if section.value is None else unit.rate(section.value)
        own = [section.source] if section.source else []
        if section.url is not None:
            kept = kept_factor(self._ledger, name, unit.base, since_ms, until_ms)
            values = [Value(one.at_ms, one.rate, one.estimated) for one in kept]
            sources = list(dict.fromkeys(chain((one.source for one in kept if one.source), own)))
            return Series.of(values, holds_ms=section.holds_ms, fallback=rate), sources
        if section.file is not None:
            table = self._table(name, section, section.file)
            return Series(table.values, section.holds_ms, rate), own
        return constant(rate or 0), own

    def _table(self, name: str, section: FactorSection, path: Path) -> Table:
        """Return the table as it is now, or as it last was where it cannot be read any more."""
        try:
            found = self._read(name, section, path)
        except TableError as error:
            if name not in self._tables:
                raise
            self._troubles.failed(f"factors.{name}", error)
            return self._tables[name][1]
        self._troubles.recovered(f"factors.{name}")
        return found

    def _read(self, name: str, section: FactorSection, path: Path) -> Table:
        try:
            stat = path.stat()
        except OSError as error:
            raise TableError(f"{path} cannot be read ({error.strerror})") from error
        mark = (stat.st_mtime_ns, stat.st_size)
        known = self._tables.get(name)
        if known is not None and known[0] == mark:
            return known[1]
        table = read(path, section.measure)
        for one in table.values:
            try:
                section.check_rate(one.rate)
            except ValueError as error:
                raise TableError(f"{path}: {error}") from None
        self._tables[name] = (mark, table)
        if known is not None:
            _log.info("factors.%s: %s was read again", name, path)
        return table
