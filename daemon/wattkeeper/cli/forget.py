"""`wattkeeper forget`."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

from wattkeeper.cli.client import tell
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import Format, console, emit_csv, emit_json, table

_PATIENCE_S = 1800.0
_GOES_BY = "has the name in it still: sums, budgets and rights go by it"


class Forget(Command):
    """Erase a person's name from the books at once; what they used stays, under a pseudonym.

    Their jobs lose user, name and comment. Jobs that began before and are told later, by a node
    or a scheduler, stay nameless too; new jobs bear the name. It cannot be undone. What the
    aggregator cannot reach is told: copies, exports, Prometheus, accounts called by the name.
    Without it, names go by themselves when they are as old as `retention.identities` (13 months).

    It is for operators: a token of theirs in WATTKEEPER_TOKEN, or root on the aggregator's machine
    with `access.socket`. Exit code 1: no job bears that name.

    Examples:
      wattkeeper forget ada
      wattkeeper forget ada --cluster west
      wattkeeper forget ada --format json > erased.json
    """

    user: CliPositionalArg[str] = Field(description="the user, as jobs tell it")
    cluster: str = Field("", description="in this cluster only")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print what was done")

    def run(self) -> int:
        """Forget the person and print what was done."""
        body = {"user": self.user, "cluster": self.cluster}
        token = os.environ.get("WATTKEEPER_TOKEN")
        done = tell(self.url, "/v1/forget", body, token=token, patience_s=_PATIENCE_S)
        if self.format == "json":
            emit_json(done)
        else:
            _print(done, self.format)
        return 0 if done["runs"] else 1


def _print(done: Mapping[str, Any], form: Format) -> None:
    runs = f"{done['runs']} runs"
    rows = [
        ("jobs", runs, f"are of {done['pseudonym']} now" if done["runs"] else "bear the name"),
        ("breaches", str(done["breaches"]), "of budgets named the person, and do no more"),
        *((word, f"{runs} runs", _GOES_BY) for word, runs in sorted(done["remaining"].items())),
        *([("files", "", done["on_disk"])] if done["on_disk"] else []),
        *(("not reached", "", where) for where in done["not_reached"]),
    ]
    columns = ("what", "count", "told")
    if form == "csv":
        emit_csv((dict(zip(columns, row, strict=True)) for row in rows), columns)
        return
    console().print(table(("what", "count", "<"), rows))
