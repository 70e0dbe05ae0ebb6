"""`wattkeeper jobs`."""

import getpass
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from wattkeeper.cli.client import ask
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import (
    Format,
    console,
    emit_csv,
    emit_json,
    energy,
    instant,
    percent,
    span,
    table,
    watts,
)
from wattkeeper.cli.rows import JOB_COLUMNS, flat_job, idle_part, seconds_between


class Jobs(Command):
    """List jobs with what they used: mine of the last 7 days, unless told otherwise.

    Examples:
      wattkeeper jobs
      wattkeeper jobs --all --since -24h --state running
      wattkeeper jobs --account physics --since 2026-11-01 --format csv > jobs.csv
    """

    all: bool = Field(False, description="jobs of everybody")
    user: str | None = Field(None, description="jobs of this user")
    account: str | None = Field(None, description="jobs of this account, of any user")
    state: str | None = Field(
        None, description="in Slurm's or Kubernetes' words: running, completed, failed, timeout, …"
    )
    since: str = Field("-7d", description="that ran after: 2026-11-01, -24h")
    limit: int = Field(200, ge=1, le=10_000, description="at most so many, the newest")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print."""
        answer = ask(
            self.url,
            "/v1/jobs",
            {
                "user": self._whose(),
                "account": self.account,
                "state": self.state,
                "since": self.since,
                "limit": str(self.limit),
            },
        )
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(map(flat_job, answer["jobs"]), JOB_COLUMNS)
        else:
            self._print(answer)
        return 0

    def _whose(self) -> str | None:
        if self.user is not None or self.all or self.account is not None:
            return self.user
        return getpass.getuser()

    def _print(self, answer: Mapping[str, Any]) -> None:
        whose = self._whose()
        if not answer["jobs"]:
            who = f"of {whose} " if whose else ""
            print(f"No jobs {who}since {instant(answer['since'])}. See --all, --since, --user.")
            return
        show(answer["jobs"])
        if answer["more"]:
            print(f"The newest {answer['limit']}; there are more: --limit, --since.")


def _id(job: Mapping[str, Any]) -> str:
    """Return the id, and which run of it where there are several: a requeue, a number reused."""
    return job["job_id"] if job["runs"] == 1 else f"{job['job_id']} ({job['run']}/{job['runs']})"


def show(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Print jobs as a table."""
    # The list leaves coverage out where it would cost too much to look it up for each job.
    covered = any(job["coverage"] is not None for job in jobs)
    rows = [
        [
            _id(job),
            job["user"] or job["account"] or "-",
            job["name"] or "-",
            (job["state"] or "-").lower(),
            instant(job["start"])[5:16],
            span(seconds_between(job["start"], job["end"] or job["as_of"])),
            energy(job["energy_uj"]),
            percent(idle_part(job)),
            watts(job["mean_watts"]),
            *([percent(job["coverage"])] if covered else []),
        ]
        for job in jobs
    ]
    headers = ["job", "<user", "<name", "<state", "<start", "ran", "energy", "idle", "mean"]
    console().print(table([*headers, "cover"] if covered else headers, rows))
