"""The lines of a statement: what one account of one cluster used, and how to add and compare them.

Accounts alone are named, never people: a statement is kept for ever, a person's name is not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from wattkeeper.factors.units import decimal_text
from wattkeeper.factors.weights import GRAM_DIGITS, MONEY_DIGITS

_SUMS = ("jobs", "energy_uj", "allocated_idle_uj", "gpu_ms", "allocated_idle_gpu_ms")


class Key(NamedTuple):
    """Whose a line is: `kind` is `group` for an account, else what nobody used it for."""

    cluster: str
    kind: str
    account: str


@dataclass(frozen=True, slots=True)
class Line:
    """What was used. `money` in millionths, `milligrams` of CO2 equivalents; None: not known."""

    jobs: int = 0
    energy_uj: int = 0
    allocated_idle_uj: int = 0
    gpu_ms: int = 0
    allocated_idle_gpu_ms: int = 0
    by_component_uj: Mapping[str, int] = field(default_factory=dict)
    money: int | None = None
    milligrams: int | None = None

    def plus(self, other: "Line", sign: int = 1) -> "Line":
        """Return the sum of both; what one of them does not know is the other's."""
        sums = {name: getattr(self, name) + sign * getattr(other, name) for name in _SUMS}
        parts = dict(self.by_component_uj)
        for name, uj in other.by_component_uj.items():
            parts[name] = parts.get(name, 0) + sign * uj
        return Line(
            **sums,
            by_component_uj=parts,
            money=_plus(self.money, other.money, sign),
            milligrams=_plus(self.milligrams, other.milligrams, sign),
        )

    def minus(self, stated: "Line") -> "Line":
        """Return what changed since it was stated; what is not known any more has not changed."""
        changed = self.plus(stated, -1)
        return replace(
            changed,
            money=None if self.money is None else changed.money,
            milligrams=None if self.milligrams is None else changed.milligrams,
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        figures = (*(getattr(self, name) for name in _SUMS), self.money, self.milligrams)
        return not any(figures) and not any(self.by_component_uj.values())

    def told(self) -> dict[str, Any]:
        """Return it as a statement says it."""
        return {
            "jobs": self.jobs,
            **{name: str(getattr(self, name)) for name in _SUMS if name != "jobs"},
            "energy_by_component_uj": {
                name: str(uj) for name, uj in self.by_component_uj.items() if uj
            },
            "cost": None if self.money is None else decimal_text(self.money, MONEY_DIGITS),
            "carbon_g": None
            if self.milligrams is None
            else decimal_text(self.milligrams, GRAM_DIGITS),
        }


Lines = dict[Key, Line]


def _plus(one: int | None, other: int | None, sign: int) -> int | None:
    return one if other is None else (one or 0) + sign * other


def read(rows: Iterable[Mapping[str, Any]]) -> Lines:
    """Return the lines that a statement says."""
    return {
        Key(row["cluster"], row["kind"], row["account"]): Line(
            **{name: int(row[name]) for name in _SUMS},
            by_component_uj={n: int(uj) for n, uj in row["energy_by_component_uj"].items()},
            money=_whole(row["cost"]),
            milligrams=_whole(row["carbon_g"]),
        )
        for row in rows
    }


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text.replace(".", ""))


def write(lines: Lines) -> list[dict[str, Any]]:
    """Return lines as a statement says them, in their order; empty ones are left out."""
    return [key._asdict() | lines[key].told() for key in sorted(lines) if not lines[key].empty]


def total(lines: Iterable[Line]) -> Line:
    """Return the sum of lines."""
    whole = Line()
    for line in lines:
        whole = whole.plus(line)
    return whole


def add(lines: Lines, more: Lines) -> Lines:
    """Return the sum of lines, account by account."""
    return {key: lines.get(key, Line()).plus(more.get(key, Line())) for key in {**lines, **more}}


def changes(now: Lines, stated: Lines, nothing: Line) -> Lines:
    """Return what is other now than it was stated, account by account.

    `nothing`: the line of an account that is not there any more; its money is 0 where prices are
    known.
    """
    found = {key: now.get(key, nothing).minus(stated.get(key, Line())) for key in {**now, **stated}}
    return {key: line for key, line in found.items() if not line.empty}
