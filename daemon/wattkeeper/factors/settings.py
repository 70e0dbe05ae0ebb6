"""The aggregator's section `factors`: what energy costs and emits."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from wattkeeper.factors.answer import Recipe
from wattkeeper.factors.units import PUE, Unit, carbon_unit, price_unit
from wattkeeper.settings import Duration, Section

_OF_URL = ("token_file", "value_path", "time_path", "items_path", "estimated_path", "forecast_path")


class FactorSection(Section):
    """A factor: a constant, a table, or fetched."""

    value: Decimal | None = Field(
        None,
        description="at all times, closed periods too (a new tariff is a new row of file); with "
        "file or url, where these have no value (estimated)",
    )
    file: Path | None = Field(None, description="CSV with the lines time,value[,estimated]")
    url: str | None = Field(None, description="where it is fetched, as JSON")
    interval: Duration = Field(timedelta(minutes=15), description="time between two requests")
    timeout: Duration = Field(timedelta(seconds=30), description="how long an answer may take")
    token_file: Path | None = Field(
        None, description="token for url, read for every request; Bearer in Authorization"
    )
    token_header: str = Field("Authorization", description="header that shows the token")
    value_path: str | None = Field(None, description="where the value stands: carbonIntensity")
    time_path: str | None = Field(None, description="where its begin stands: datetime")
    items_path: str | None = Field(None, description="where the list of values stands: data")
    estimated_path: str | None = Field(None, description="where it is called estimated")
    forecast_path: str | None = Field(
        None, description="what counts, as estimated, while there is no value"
    )
    holds: Duration | None = Field(
        None, description="how long a value counts; by default 1h if fetched, else to the next one"
    )
    unit: str = Field("", description="of the value")
    source: str = Field("", max_length=200, description="who says so, as reports cite it")
    kind: Literal["average", "marginal"] | None = Field(
        None, description="of all supply, or of what one kWh more takes"
    )
    market: Literal["location", "market"] | None = Field(
        None, description="of the grid here, or of what was bought (GHG Protocol, scope 2)"
    )
    version: str = Field("", max_length=100, description="of the value; a file has its hash")

    @property
    def given(self) -> bool:
        """Whether there is such a factor."""
        return self.value is not None or self.file is not None or self.url is not None

    @property
    def constant(self) -> bool:
        """Whether one value counts at all times."""
        return self.value is not None and self.file is None and self.url is None

    @property
    def measure(self) -> Unit:
        """The unit of its values."""
        raise NotImplementedError

    @property
    def recipe(self) -> Recipe:
        """Where what stands in an answer; only with `url`."""
        return Recipe(
            self.value_path or "",
            self.time_path or "",
            self.items_path,
            self.estimated_path,
            self.forecast_path,
        )

    @property
    def holds_ms(self) -> int | None:
        """How long a value counts, None to the next one."""
        if self.holds is None:
            return 3_600_000 if self.url else None
        return self.holds // timedelta(milliseconds=1)

    @field_validator("interval", "timeout", "holds")
    @classmethod
    def _sensible(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not 1 <= value.total_seconds() <= 366 * 86_400:
            raise ValueError("is out of range; choose between 1s and 366d")
        return value

    @field_validator("url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("is no address; write https://host/path")
            if parts.username is not None or parts.password is not None:
                raise ValueError("holds a password; put it into token_file")
        return value

    @field_validator("token_header")
    @classmethod
    def _header(cls, value: str) -> str:
        if not value.replace("-", "").isalnum() or not value.isascii():
            raise ValueError("is no name of a header; write auth-token or the like")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.file is not None and self.url is not None:
            raise ValueError("file and url are both set; choose one")
        if self.url is not None and not (self.value_path and self.time_path):
            raise ValueError("url wants value_path and time_path: where value and time stand")
        given = [name for name in _OF_URL if getattr(self, name) is not None]
        if given and self.url is None:
            raise ValueError(f"{given[0]} belongs to url; set url too")
        if self.given:
            self._check_unit()
        return self

    def _check_unit(self) -> None:
        try:
            unit = self.measure
        except ValueError as error:
            raise ValueError(f"unit: {self.unit!r} {error}") from None
        if self.value is not None:
            self.check_rate(unit.rate(self.value))

    def check_rate(self, rate: int) -> None:
        """Check that a rate can be one of this factor.

        Raises:
            ValueError: carbon below zero, a PUE below one.

        """
        raise NotImplementedError


class PriceSection(FactorSection):
    """What a kWh costs. It may be negative, as on exchanges."""

    unit: str = Field("", description="EUR/kWh, USD/MWh, …; required")

    @property
    def measure(self) -> Unit:
        """The unit of its values."""
        return price_unit(self.unit)

    def check_rate(self, rate: int) -> None:
        """Any price can be."""


class CarbonSection(FactorSection):
    """What a kWh emits, in CO2 equivalents."""

    unit: str = Field("g/kWh", description="g/kWh, kg/MWh, lb/kWh, …")

    @property
    def measure(self) -> Unit:
        """The unit of its values."""
        return carbon_unit(self.unit)

    def check_rate(self, rate: int) -> None:
        """Check that it is not negative."""
        if rate < 0:
            raise ValueError("carbon intensity is not below 0")


class PueSection(FactorSection):
    """Power usage effectiveness: energy of the whole facility over that of its machines."""

    unit: Literal["1"] = Field("1", description="a PUE has no unit")

    @property
    def measure(self) -> Unit:
        """The unit of its values."""
        return PUE

    def check_rate(self, rate: int) -> None:
        """Check that it is one at least."""
        if rate < PUE.rate(Decimal(1)):
            raise ValueError("a PUE is not below 1")


class FactorsSection(Section):
    """What energy costs and emits. Without any of it reports tell energy alone."""

    price: PriceSection = Field(PriceSection(), description="what a kWh costs")
    carbon: CarbonSection = Field(CarbonSection(), description="what a kWh emits")
    pue: PueSection = Field(
        PueSection(), description="energy of the facility over that of its machines"
    )
