"""What `wattkeeper top` lists: nodes, GPUs and jobs, from the answers of the API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wattkeeper.cli.output import UNKNOWN, energy, percent, span, watts
from wattkeeper.cli.rows import seconds_between
from wattkeeper.units import celsius, gpus

View = Literal["nodes", "gpus", "jobs"]
VIEWS: tuple[View, ...] = ("nodes", "gpus", "jobs")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the aggregator said of now. `nodes`, `jobs`: only where a view shows them."""

    fleet: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]]
    nodes: Sequence[Mapping[str, Any]] = ()
    jobs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column: key of the rows, header, width (0: what is left), and how a value is said."""

    key: str
    header: str
    width: int
    say: Callable[[Any], str] = lambda value: UNKNOWN if value is None else str(value)
    left: bool = False


COLUMNS: Mapping[View, Sequence[Column]] = {
    "nodes": (
        Column("node", "node", 14, left=True),
        Column("state", "state", 9, left=True),
        Column("gpus", "GPUs", 5),
        Column("idle", "idle", 5),
        Column("watts", "power", 9, watts),
        Column("celsius", "hottest", 8, celsius),
        Column("utilization", "use", 7, percent),
        Column("who", "who", 0, left=True),
    ),
    "gpus": (
        Column("node", "node", 14, left=True),
        Column("gpu", "GPU", 4),
        Column("watts", "power", 8, watts),
        Column("celsius", "temp", 7, celsius),
        Column("utilization", "util", 7, percent),
        Column("use", "use", 5, left=True),
        Column("job", "job", 11, left=True),
        Column("user", "who", 0, left=True),
    ),
    "jobs": (
        Column("job", "job", 11, left=True),
        Column("user", "user", 9, left=True),
        Column("gpus", "GPUs", 5, gpus),
        Column("idle", "idle", 5),
        Column("watts", "power", 9, watts),
        Column("celsius", "hottest", 8, celsius),
        Column("ran", "ran", 9, span),
        Column("energy_uj", "energy", 9, energy),
        Column("name", "name", 0, left=True),
    ),
}
FIRST_SORT: Mapping[View, str] = {"nodes": "node", "gpus": "node", "jobs": "watts"}


def rows(view: View, answers: Answers) -> list[dict[str, Any]]:
    """Return the rows of a view. Watts, °C, ratios, microjoules and seconds; None is not known."""
    if view == "gpus":
        return [_gpu(device) for device in answers.devices]
    return _nodes(answers) if view == "nodes" else _jobs(answers)


def _gpu(device: Mapping[str, Any]) -> dict[str, Any]:
    held = device["held_by"]
    index = device["meter"].removeprefix("gpu/")[:12] if device["gpu"] is None else device["gpu"]
    return {
        "cluster": device["cluster"],
        "node": device["node"],
        "gpu": index,
        "watts": device["watts"],
        "celsius": device["celsius"],
        "utilization": device["utilization"],
        "use": device["use"],
        "job": ",".join(run["job_id"] for run in held) or None,
        "user": _listed(run["user"] or run["account"] for run in held),
    }


def _nodes(answers: Answers) -> list[dict[str, Any]]:
    own: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for device in answers.devices:
        own.setdefault((device["cluster"], device["node"]), []).append(device)
    listed = []
    for node in answers.nodes:
        gpus = node["gpus"] or {}
        devices = own.get((node["cluster"], node["node"]), [])
        runs = [run for device in devices for run in device["held_by"]]
        listed.append(
            {
                "cluster": node["cluster"],
                "node": node["node"],
                "state": node["state"],
                "gpus": gpus.get("count", node["gpus_expected"]),
                "idle": _idle(devices) if node["gpus"] else None,
                "watts": node["watts"],
                "celsius": gpus.get("hottest_celsius"),
                "utilization": gpus.get("mean_utilization"),
                "who": _listed(run["user"] or run["account"] for run in runs),
            }
        )
    return listed


def _jobs(answers: Answers) -> list[dict[str, Any]]:
    held: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    names: dict[tuple[str, str], Mapping[str, Any]] = {}
    for device in answers.devices:
        for run in device["held_by"]:
            key = run["cluster"], run["job_id"]
            held.setdefault(key, []).append(device)
            names.setdefault(key, run)
    booked = {(job["cluster"], job["job_id"]): job for job in answers.jobs}
    return [
        _job(key, held.get(key, []), names.get(key) or booked[key], booked.get(key))
        for key in {**held, **booked}
    ]


def _job(
    key: tuple[str, str],
    devices: Sequence[Mapping[str, Any]],
    named: Mapping[str, Any],
    booked: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return a job: now by its GPUs (a shared one is split evenly), so far by the books."""
    parts = [(device, 1 / len(device["held_by"])) for device in devices]
    powers = [device["watts"] * part for device, part in parts if device["watts"] is not None]
    heats = [device["celsius"] for device in devices if device["celsius"] is not None]
    return {
        "cluster": key[0],
        "job": key[1],
        "user": named["user"] or named["account"],
        "account": named["account"],
        "name": named["name"],
        "gpus": sum(part for _, part in parts),
        "idle": _idle(devices),
        "watts": sum(powers) if powers else None,
        "celsius": max(heats, default=None),
        "ran": seconds_between(booked["start"], booked["as_of"]) if booked else None,
        "energy_uj": int(booked["energy_uj"]) if booked else None,
    }


def _idle(devices: Iterable[Mapping[str, Any]]) -> int:
    return sum(device["use"] == "idle" for device in devices)


def _listed(names: Iterable[str | None]) -> str | None:
    return ",".join(dict.fromkeys(filter(None, names))) or None


def in_order(
    listed: Iterable[dict[str, Any]], key: str, *, reverse: bool, words: str = ""
) -> list[dict[str, Any]]:
    """Return the rows in which all words are, sorted by a column; unknown values come last."""
    wanted = words.lower().split()
    fitting = [row for row in listed if _has(row, wanted)]
    known = [row for row in fitting if row[key] is not None]
    known.sort(key=lambda row: _sortable(row[key]), reverse=reverse)
    return known + [row for row in fitting if row[key] is None]


def _has(row: Mapping[str, Any], wanted: Sequence[str]) -> bool:
    text = " ".join(value for value in row.values() if isinstance(value, str)).lower()
    return all(word in text for word in wanted)


def _sortable(value: Any) -> tuple[bool, Any]:
    """Numbers before texts: a GPU without an index is called by its UUID."""
    return isinstance(value, str), value
