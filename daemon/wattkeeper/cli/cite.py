"""`wattkeeper job --cite`: what was used, in a sentence fit for a paper."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from wattkeeper import __version__
from wattkeeper.cli.output import energy, percent
from wattkeeper.cli.worth import by_name, factor_words
from wattkeeper.units import carbon

_COMPONENTS = {"gpu": "GPUs", "cpu": "processors", "dram": "memory", "host": "hosts"}
_SOURCES = {
    "counter": "the devices' own energy counters",
    "integrated": "power readings, integrated over time",
    "estimated": "estimates",
}


def cite(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentences that tell what jobs used together, how that is known, and its carbon.

    What is not known of any of them is not said.
    """
    return " ".join(filter(None, (_used(jobs), _measured(jobs), _emitted(jobs))))


def _used(jobs: Sequence[Mapping[str, Any]]) -> str:
    whole = sum(int(job["energy_uj"]) for job in jobs)
    parts = _sum(job["energy_by_component_uj"] for job in jobs)
    said = ", ".join(
        f"{_COMPONENTS.get(name, name)} {energy(uj)}"
        for name, uj in sorted(parts.items(), key=lambda part: -part[1])
    )
    hours = sum(job["gpu_seconds"] for job in jobs) / 3600
    held = f" in {hours:,.1f} GPU hours" if hours else ""
    return (
        f"{_which(jobs)} used {energy(whole)} of electricity ({said}){_hardware(jobs)}{held}"
        f"{_when(jobs)}."
    )


def _which(jobs: Sequence[Mapping[str, Any]]) -> str:
    clusters = " and ".join(sorted({job["cluster"] for job in jobs}))
    if len(jobs) == 1:
        return f"Job {jobs[0]['job_id']} on cluster {clusters}"
    return f"{len(jobs)} jobs on cluster {clusters}"


def _hardware(jobs: Sequence[Mapping[str, Any]]) -> str:
    counted: Counter[str] = Counter()
    for job in jobs:
        for one in job["hardware"]:
            name = one["model"] or ("processor socket" if one["component"] == "cpu" else "GPU")
            counted[name] = max(counted[name], one["count"])
    if not counted:
        return ""
    upto = "up to " if len(jobs) > 1 else ""
    said = " and ".join(
        f"{count} {name}{'s' if name == 'processor socket' and count > 1 else ''}"
        for name, count in counted.items()
    )
    return f" on {upto}{said}"


def _when(jobs: Sequence[Mapping[str, Any]]) -> str:
    starts = [job["start"][:10] for job in jobs if job["start"]]
    ends = [(job["end"] or job["as_of"] or "")[:10] for job in jobs]
    if not starts or not all(ends):
        return ""
    first, last = min(starts), max(ends)
    return f" on {first}" if first == last else f" from {first} to {last}"


def _measured(jobs: Sequence[Mapping[str, Any]]) -> str:
    sources = _sum(job["energy_by_source_uj"] for job in jobs)
    whole = sum(sources.values())
    if not whole:
        return ""
    ordered = sorted(((name, uj) for name, uj in sources.items() if uj), key=lambda one: -one[1])
    by = " and ".join(
        f"{_SOURCES.get(name, name)}{'' if uj == whole else f' ({percent(uj / whole)})'}"
        for name, uj in ordered
    )
    said = [f"It was metered with Wattkeeper {__version__} by {by}"]
    covered = [job["coverage"] for job in jobs if job["coverage"] is not None]
    if covered:
        least = " or more" if len(covered) > 1 else ""
        said.append(f"{percent(min(covered))}{least} of the time was metered")
    shared = _sum(job["energy_by_split_uj"] for job in jobs).get("shared", 0)
    if shared:
        said.append(f"{percent(shared / whole)} of it is a share of devices that others used too")
    return f"{'; '.join(said)}."


def _emitted(jobs: Sequence[Mapping[str, Any]]) -> str:
    grams = [job["carbon_g"] for job in jobs]
    if not grams or None in grams:
        return ""
    pue, intensity = _factor(jobs, "pue"), _factor(jobs, "carbon")
    with_pue = f"a PUE of {factor_words(pue)} and " if pue else ""
    without = "" if pue else ", without the energy of cooling and distribution"
    guessed = max(job["carbon_estimated_ratio"] or 0 for job in jobs)
    mark = f" ({percent(guessed)} of it by estimated factors)" if guessed else ""
    return (
        f"With {with_pue}a carbon intensity of {factor_words(intensity)}, this is "
        f"{carbon(f'{sum(map(Decimal, grams)):f}')} of CO2 equivalents{mark}{without}."
    )


def _factor(jobs: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return a factor over all jobs: its mean by their energy, its range, everybody's word."""
    known = [(by_name(job["factors"]).get(name), int(job["energy_uj"])) for job in jobs]
    told = [(one, uj) for one, uj in known if one is not None and one["mean"] is not None]
    if not told:
        return {}
    whole = sum(uj for _, uj in told) or 1
    return {
        **told[0][0],
        "mean": f"{sum(Decimal(one['mean']) * uj for one, uj in told) / whole:f}",
        "least": f"{min(Decimal(one['least']) for one, _ in told):f}",
        "most": f"{max(Decimal(one['most']) for one, _ in told):f}",
        "sources": list(dict.fromkeys(name for one, _ in told for name in one["sources"])),
        "estimated_ratio": 0,
    }


def _sum(parts: Iterable[Mapping[str, str]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for one in parts:
        whole.update({name: int(uj) for name, uj in one.items()})
    return dict(whole)
