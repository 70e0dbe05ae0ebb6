"""Jobs as flat rows, for CSV and tables."""

from collections.abc import Mapping
from typing import Any

from wattkeeper.units import seconds_between

__all__ = ["JOB_COLUMNS", "flat_job", "idle_part", "seconds_between"]

_PLAIN = ("cluster", "job_id", "manager", "user", "account", "partition", "name", "state")
_FIGURES = (
    "mean_watts",
    "peak_watts",
    "gpu_seconds",
    "allocated_idle_gpu_seconds",
    "coverage",
    "as_of",
    "final",
    "run",
    "runs",
    "namespace",
    "owner_kind",
    "owner_name",
    "array",
    "accuracy",
    "cost",
    "currency",
    "cost_estimated_ratio",
    "carbon_g",
    "carbon_estimated_ratio",
)
_COMPONENTS = ("gpu", "cpu", "dram")
JOB_COLUMNS = (
    *_PLAIN,
    "start",
    "end",
    "nodes",
    "energy_uj",
    "energy_kwh",
    *(f"{component}_uj" for component in _COMPONENTS),
    "allocated_idle_uj",
    "allocated_idle_kwh",
    *_FIGURES,
)


def flat_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job of the API without nested values; components have a column each."""
    row = {name: value for name, value in job.items() if not isinstance(value, dict)}
    for component in _COMPONENTS:
        row[f"{component}_uj"] = job["energy_by_component_uj"].get(component)
    return row


def idle_part(row: Mapping[str, Any]) -> float | None:
    """Return the part of the energy that was allocated but idle, None where there is none."""
    whole = int(row["energy_uj"])
    return int(row["allocated_idle_uj"]) / whole if whole else None
