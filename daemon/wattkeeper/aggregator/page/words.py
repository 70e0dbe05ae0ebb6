"""Words and figures of the templates."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wattkeeper import __version__, units
from wattkeeper.aggregator.page.heat import Show

SHOWS: tuple[Show, ...] = ("temperature", "power", "utilization")
_GOOD = {"live", "ok", "running", "completed", "succeeded", "active"}
_BAD = {"conflict", "failing", "denied", "failed", "out_of_memory", "node_fail", "exceeded", "hard"}


def environment() -> Environment:
    """Return the templates. What is not there is an error; every text is escaped."""
    made = Environment(
        loader=PackageLoader("wattkeeper.aggregator.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_harmless,
    )
    made.filters |= {
        "energy": units.energy,
        "watts": units.watts,
        "carbon": units.carbon,
        "celsius": units.celsius,
        "money": units.money,
        "percent": units.percent,
        "gpus": units.gpus,
        "instant": units.instant,
        "span": units.span,
        "clock": clock,
        "job_path": job_path,
        "segment": segment,
        "tone": tone,
        "share": share,
    }
    made.globals |= {"version": __version__, "query": query}
    return made


def _harmless(value: Any) -> Any:
    """A job's name must not turn the text around it, nor hide; markup is our own."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return units.clean(value) if plain else value


def clock(at_s: float) -> str:
    """Return UTC seconds as `11-23 20:15`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%m-%d %H:%M")


def job_path(job: Any) -> str:
    """Return where a job's page is."""
    return f"/jobs/{segment(job.cluster)}/{segment(job.job_id)}"


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def query(given: Mapping[str, Any], **changed: Any) -> str:
    """Return a query string with some parameters changed; None and empty ones are left out."""
    values = {**given, **changed}
    kept = {
        name: ",".join(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, "")
    }
    return f"?{urlencode(kept)}" if kept else "?"


def tone(state: str | None) -> str:
    """Return how a state is coloured; its word says the same."""
    word = (state or "").lower()
    return "good" if word in _GOOD else "bad" if word in _BAD else "plain"


def share(part: int, whole: int) -> str:
    """Return a part as the width of a bar, in percent."""
    return f"{100 * part / whole:.1f}%" if whole > 0 else "0%"
