"""`wattkeeper audit`."""

from pydantic import Field

from wattkeeper.cli.client import ask
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import Format, console, emit_csv, emit_json, instant, table

_COLUMNS = ("at", "who", "role", "address", "act", "what", "result", "times")


class Audit(Command):
    """List who read about others' jobs, and who changed factors, rights, statements or names.

    What is asked for again and again is one entry, and one an hour after it that says how often.
    It is for operators.

    Examples:
      wattkeeper audit --since -24h
      wattkeeper audit --who ann --act job
      wattkeeper audit --act configuration --since 2026-01-01 --format csv
    """

    since: str = Field("-7d", description="instant, or relative: -24h")
    until: str = Field("now", description="the same")
    who: str | None = Field(None, description="of this user or token")
    act: str | None = Field(None, description="of this kind: job, report, forget, configuration")
    limit: int = Field(1000, description="at most so many, the newest")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print."""
        query = {
            "since": self.since,
            "until": self.until,
            "who": self.who,
            "act": self.act,
            "limit": str(self.limit),
        }
        answer = ask(self.url, "/v1/audit", query)
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(answer["entries"], _COLUMNS)
        else:
            rows = (
                [instant(one["at"]), *(str(one[name] or "-") for name in _COLUMNS[1:])]
                for one in answer["entries"]
            )
            console().print(table([f"<{name}" for name in _COLUMNS], rows))
        return 0
