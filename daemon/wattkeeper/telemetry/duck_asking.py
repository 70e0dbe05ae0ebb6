"""A question is asked: which meters, which files, what they say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from wattkeeper.model.grid import ceil, floor
from wattkeeper.telemetry.base import (
    HOLDER_LABELS,
    METER_LABELS,
    MOST_STEPS,
    Answer,
    Question,
    Series,
    TelemetryError,
)
from wattkeeper.telemetry.duck_files import File, Files, read_list
from wattkeeper.telemetry.duck_retention import horizons
from wattkeeper.telemetry.duck_schema import Resolution
from wattkeeper.telemetry.duck_sql import Reach, held_sql, question_sql

_FEW = 32
"""So many nodes are told to the reader of files, which skips what holds none of them."""


class Inquiry:
    """A question to one consistent view of the store. `files`: those that it may read.

    Raises:
        TelemetryError: the question has a label or steps that cannot be.
        duckdb.Error: the time is up, or the memory.

    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Files, question: Question
    ) -> None:
        _check(question)
        self._connection = connection
        self._folder = folder
        self._question = question
        self._meters = self._named_meters()
        self.files = self._listed_files()

    def answer(self) -> Answer:
        """Read the files, and the rows that are in none yet.

        Raises:
            duckdb.Error: a file cannot be read; the time is up, or the memory.

        """
        question = self._question
        files = self._best_files()
        if self._names_workloads() and any(file.resolution_ms == 0 for file in files):
            files = self._keep_to_workloads(files)
        found = self._ask(question_sql, question, files, most=question.most_series)
        series = [_series(question, row) for row in found]
        count: int = found[0][-1] if found else 0
        coarsest = max((file.resolution_ms for file in files), default=0)
        omitted = count - len(series)
        return Answer(question.since_ms, question.step_ms, series, coarsest, omitted)

    def _named_meters(self) -> list[tuple[int, str]] | None:
        """Return number and node of the meters that are named, None where none is."""
        wanted = {k: v for k, v in (self._question.where or {}).items() if k in METER_LABELS}
        if not wanted:
            return None
        conditions = " AND ".join(
            f"{name} IN (SELECT unnest(${name}::VARCHAR[]))" for name in wanted
        )
        found = self._connection.execute(
            f"SELECT place, node FROM place WHERE {conditions}",
            {name: list(values) for name, values in wanted.items()},
        )
        return found.fetchall()

    def _listed_files(self, damage: str = "damage IS NULL") -> list[File]:
        """Return the files of every resolution that have rows of the hours asked about."""
        since_ms, until_ms = _whole_hours(self._question)
        listed = read_list(
            self._connection,
            f"{damage} AND to_ms > $since AND from_ms <= $until",
            since=since_ms,
            until=until_ms,
        )
        return self._with_meters(listed)

    def _with_meters(self, files: list[File]) -> list[File]:
        if self._meters is None:
            return files
        nodes = [node for _, node in self._meters]
        first, last = min(nodes, default=""), max(nodes, default="")
        return [file for file in files if file.first_node <= last and file.last_node >= first]

    def _best_files(self) -> list[File]:
        """Return for each day the coarsest files that are fine enough, or those that are left."""
        kept_from = horizons(self._connection)
        grain_ms = math.gcd(self._question.since_ms, self._question.step_ms)
        wanted = max(r for r in Resolution if r == 0 or grain_ms % r == 0)

        def best(day_ms: int) -> Resolution:
            kept = (r for r in Resolution if r >= wanted and day_ms >= kept_from[r])
            return next(kept, Resolution.HOUR)

        return [file for file in self.files if file.resolution_ms == best(file.day_ms)]

    def _names_workloads(self) -> bool:
        return self._question.holders is not None or "workload" in (self._question.where or {})

    def _keep_to_workloads(self, files: list[File]) -> list[File]:
        """Look up in the hours, which are few rows, what the workloads held: keep to that."""
        if any(
            f.resolution_ms == Resolution.HOUR for f in self._listed_files("damage IS NOT NULL")
        ):
            return files
        hours = [file for file in self.files if file.resolution_ms == Resolution.HOUR]
        since_ms, until_ms = _whole_hours(self._question)
        question = replace(self._question, since_ms=since_ms, until_ms=until_ms)
        self._meters = self._ask(held_sql, question, hours)
        return self._with_meters(files)

    def _ask(
        self,
        sql: Callable[[Question, Reach], str],
        question: Question,
        files: list[File],
        **more: int,
    ) -> list[Any]:
        resolutions = sorted({Resolution(file.resolution_ms) for file in files})
        parameters = _parameters(question) | more
        for resolution in resolutions:
            of_it = [file for file in files if file.resolution_ms == resolution]
            parameters[f"files_{resolution:d}"] = self._folder.paths(of_it)
        nodes: list[str] = []
        if self._meters is not None:
            parameters["places"] = [place for place, _ in self._meters]
            if files and len(found := {node for _, node in self._meters}) <= _FEW:
                nodes = sorted(found)
                parameters |= {f"node_{at}": node for at, node in enumerate(nodes)}
        reach = Reach(resolutions, self._meters is not None, len(nodes))
        return self._connection.execute(sql(question, reach), parameters).fetchall()


def _whole_hours(question: Question) -> tuple[int, int]:
    return floor(question.since_ms, Resolution.HOUR), ceil(question.until_ms, Resolution.HOUR)


def _check(question: Question) -> None:
    for name in (*question.by, *(question.where or ())):
        if name not in METER_LABELS and name not in HOLDER_LABELS:
            raise TelemetryError(f"telemetry: there is no label {name!r}")
    steps = (question.until_ms - question.since_ms) / question.step_ms
    if not 0 < steps <= MOST_STEPS:
        raise TelemetryError(
            f"telemetry: {steps:g} steps; ask for at least one and at most {MOST_STEPS}"
        )


def _parameters(question: Question) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "since_ms": question.since_ms,
        "until_ms": question.until_ms,
        "step_ms": question.step_ms,
    }
    for name, values in (question.where or {}).items():
        if name in HOLDER_LABELS:
            parameters[f"where_{name}"] = list(values)
    if question.holders is not None:
        for at, name in enumerate(("managers", "workloads", "births")):
            parameters[name] = [holder[at] for holder in question.holders]
    return parameters


def _series(question: Question, row: Sequence[Any]) -> Series:
    *labels, steps, values, _ = row
    line: list[float | None] = [None] * (
        (question.until_ms - question.since_ms) // question.step_ms
    )
    for step, value in zip(steps, values, strict=True):
        line[step] = value
    return Series(dict(zip(question.by, labels, strict=True)), line)
