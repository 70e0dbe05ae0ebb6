"""Budgets and alerts as the configuration has them: `[budgets.NAME]` and `[alerts]`."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from wattkeeper.budgets.budget import Budget, Kind, Scope, ScopeKind
from wattkeeper.budgets.calendar import Calendar, Period, minute_of, offsets_ms, zone_of
from wattkeeper.budgets.levels import Hysteresis
from wattkeeper.budgets.quantity import energy_uj, power_mw
from wattkeeper.settings import Duration, Section
from wattkeeper.values import format_duration, milliseconds

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOLIDAY = re.compile(r"(?:\d{4}-)?\d\d-\d\d")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = get_args(Day)
_YEARS = (2026, 5)
"""From when on, and how many years, offsets of time zones are looked at."""


def _checked(check: Callable[[str], object]) -> AfterValidator:
    def checked(text: str) -> str:
        check(text)
        return text

    return AfterValidator(checked)


def _hours(text: str) -> tuple[int, int]:
    begin, dash, end = text.partition("-")
    if not dash:
        raise ValueError("are no hours; write them like 07:00-20:00")
    return minute_of(begin), minute_of(end)


def _holiday(text: str) -> None:
    if not _HOLIDAY.fullmatch(text):
        raise ValueError("is no date; write 2026-12-25, or 12-25 for every year")


def _group(text: str) -> None:
    kind, equals, name = text.partition("=")
    if not (kind and equals and name):
        raise ValueError("is no group; write its kind and name, like rack=r12")


Power = Annotated[str, _checked(power_mw)]
Energy = Annotated[str, _checked(energy_uj)]


class BudgetSection(Section):
    """A limit on power, energy or demand. Exactly one of `watts`, `energy`, `demand` is set."""

    watts: Power | None = Field(None, description="most power at any instant, like 400kW")
    energy: Energy | None = Field(None, description="most energy in a period, like 40MWh")
    demand: Power | None = Field(
        None, description="most mean power of a billed interval, like 1.2MW"
    )
    warn: float = Field(0.9, gt=0, le=1, description="part of the limit from which on it warns")
    per: Literal["day", "month"] | None = Field(None, description="period of energy; month")
    interval: Duration | None = Field(None, description="length of demand's: 15m or 30m; 15m")
    timezone: Annotated[str, _checked(zone_of)] = Field(
        "UTC", description="by whose clock periods and intervals begin"
    )
    days: tuple[Day, ...] = Field(
        _DAYS, min_length=1, description="weekdays on which power and demand are limited"
    )
    hours: Annotated[str, _checked(_hours)] = Field(
        "00:00-24:00", description="hours in which they are, like 07:00-20:00"
    )
    holidays: tuple[Annotated[str, _checked(_holiday)], ...] = Field(
        (), description="dates on which they are not: 2026-12-25, or 12-25 of every year"
    )
    cluster: str | None = Field(None, description="of this cluster only")
    group: Annotated[str, _checked(_group)] | None = Field(
        None, description="of a group of nodes, like rack=r12"
    )
    node: str | None = Field(None, description="of a node")
    partition: str | None = Field(None, description="of a partition's jobs")
    account: str | None = Field(None, description="of an account's jobs")
    user: str | None = Field(None, description="of a user's jobs")
    job: str | None = Field(None, description="of a job")
    inside: str | None = Field(None, description="the budget that it is shown under")
    raise_after: Duration = Field(
        timedelta(seconds=30), description="how long a line is crossed before a level is reached"
    )
    clear_after: Duration = Field(
        timedelta(minutes=5), description="how long it is below before the level is left"
    )
    clear_at: float = Field(
        0.95, gt=0, le=1, description="part of the line below which a level is left"
    )

    @field_validator("interval")
    @classmethod
    def _billed(cls, value: timedelta | None) -> timedelta | None:
        if value not in (None, timedelta(minutes=15), timedelta(minutes=30)):
            raise ValueError("is no interval of demand; choose 15m or 30m")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        limits = [kind for kind in Kind if getattr(self, kind) is not None]
        if len(limits) != 1:
            given = " and ".join(limits)
            set_now = f"{given} are set" if given else "none is set"
            raise ValueError(f"one of watts, energy, demand is the limit; {set_now}")
        scopes = [kind for kind in ScopeKind if getattr(self, kind, None) is not None]
        if len(scopes) > 1:
            raise ValueError(f"{scopes[1]}: {scopes[0]} is set too; a budget is of one of them")
        for field, kind in (("per", Kind.ENERGY), ("interval", Kind.DEMAND)):
            if getattr(self, field) is not None and limits[0] is not kind:
                raise ValueError(f"{field}: belongs to {kind}, not to {limits[0]}")
        counted = self.days == _DAYS and not self.holidays and self.hours == "00:00-24:00"
        if limits[0] is Kind.ENERGY and not counted:
            raise ValueError(
                "days, hours, holidays: belong to watts and demand; energy counts at any time"
            )
        return self

    @property
    def kind(self) -> Kind:
        """What it limits."""
        return next(kind for kind in Kind if getattr(self, kind) is not None)

    def budget(self, name: str) -> Budget:
        """Return the budget."""
        kind = self.kind
        text = getattr(self, kind)
        begin, end = _hours(self.hours)
        calendar = Calendar(
            zone_of(self.timezone),
            frozenset(_DAYS.index(day) for day in self.days),
            begin,
            end,
            frozenset(self.holidays),
        )
        length = self.interval or timedelta(minutes=15)
        return Budget(
            name,
            kind,
            energy_uj(text) if kind is Kind.ENERGY else power_mw(text),
            calendar,
            scope=self._scope(),
            warn_at=self.warn,
            parent=self.inside or "",
            period=Period(self.per or Period.MONTH),
            length_ms=milliseconds(length) if kind is Kind.DEMAND else 0,
            hysteresis=Hysteresis(
                milliseconds(self.raise_after), milliseconds(self.clear_after), self.clear_at
            ),
        )

    def _scope(self) -> Scope:
        cluster = self.cluster or ""
        for kind in ScopeKind:
            name = getattr(self, kind, None)
            if name is None:
                continue
            if kind is not ScopeKind.GROUP:
                return Scope(kind, name, cluster=cluster)
            of, _, group = name.partition("=")
            return Scope(kind, group, of, cluster)
        return Scope(cluster=cluster)


def check_budgets(
    budgets: Mapping[str, BudgetSection], slot: timedelta, kinds: Collection[str]
) -> None:
    """Check what budgets have to be to each other, to the ledger's slots and to `groups`.

    Raises:
        ValueError: names the budget and its field.

    """
    for name, section in budgets.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name; use up to 64 letters, digits, and _ . -")
        _check_parents(name, budgets)
        if section.group is not None and (kind := section.group.partition("=")[0]) not in kinds:
            known = ", ".join(kinds) or "none yet"
            raise ValueError(f"{name}.group: there are no groups {kind!r} in `groups`: {known}")
        _check_slots(name, section, slot)


def _check_parents(name: str, budgets: Mapping[str, BudgetSection]) -> None:
    above, parent = [name], budgets[name].inside
    while parent is not None:
        if parent not in budgets:
            raise ValueError(f"{above[-1]}.inside: there is no budget {parent!r}")
        if parent in above:
            raise ValueError(f"{name}.inside: goes round: {' in '.join([*above, parent])}")
        above.append(parent)
        parent = budgets[parent].inside


def _check_slots(name: str, section: BudgetSection, slot: timedelta) -> None:
    """Refuse what the ledger's slots cannot tell apart."""
    kind = section.kind
    if kind is Kind.WATTS:
        return
    field, length = "timezone", timedelta(days=1)
    if kind is Kind.DEMAND:
        field, length = "interval", section.interval or timedelta(minutes=15)
    offsets = offsets_ms(zone_of(section.timezone), *_YEARS)
    slot_ms = milliseconds(slot)
    odd = {offset % min(slot_ms, milliseconds(length)) for offset in offsets} != {0}
    if length % slot or odd:
        what = "begin within" if odd else "are shorter than"
        raise ValueError(
            f"{name}.{field}: its intervals {what} slots of {format_duration(slot)}; "
            "it takes a ledger of shorter ones (ledger.slot)"
        )


class AlertsSection(Section):
    """Who is told that a budget reached a level."""

    via: Literal["prometheus", "alertmanager", "webhook"] = Field(
        "prometheus", description="rules of Prometheus on /metrics, or straight from here"
    )
    url: tuple[str, ...] = Field(
        (), description="Alertmanagers, like http://am:9093 (all of a cluster), or the webhook"
    )
    token_file: Path | None = Field(None, description="bearer token, read for every request")
    ca: Path | None = Field(None, description="authority of the receiver's certificate")
    timeout: Duration = Field(timedelta(seconds=10), description="how long a request may take")
    repeat: Duration = Field(
        timedelta(minutes=1), description="how often Alertmanager is told what goes on"
    )
    page: str | None = Field(
        None, description="address of this aggregator for people, linked in alerts"
    )
    runbook: str = Field(
        "docs/runbook.md", description="address of your copy of docs/runbook.md, linked in alerts"
    )

    @field_validator("url", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError("is no address; write http://host:9093")
            if parts.username is not None or parts.password is not None:
                raise ValueError("holds a password; put a token into token_file")
        return tuple(url.rstrip("/") for url in value)

    @field_validator("timeout", "repeat")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= 3600:
            raise ValueError("is out of range; choose between 1s and 1h")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.via == "prometheus" and (self.url or self.token_file or self.ca):
            raise ValueError("url, token_file, ca: belong to via = alertmanager or webhook")
        if self.via != "prometheus" and not self.url:
            raise ValueError(f"url: is missing; where is the {self.via}?")
        if self.via == "webhook" and len(self.url) > 1:
            raise ValueError("url: a webhook is one address")
        return self
