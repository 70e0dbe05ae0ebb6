"""The jobs that people mean on the command line."""

import os
from typing import Any

from wattkeeper.cli.client import ask
from wattkeeper.cli.command import CommandError
from wattkeeper.flags import ConfigError


def wanted_id(given: str | None) -> str:
    """Return the id that was given, or that of the job that this runs in.

    Raises:
        ConfigError: neither.

    """
    wanted = given or os.environ.get("SLURM_JOB_ID")
    if wanted is None:
        raise ConfigError("ID: which job? Give its ID; only inside a job is $SLURM_JOB_ID set")
    return wanted


def find_jobs(
    url: str | None, wanted: str, cluster: str | None, run: int | None
) -> list[dict[str, Any]]:
    """Return the jobs that an id means: one, the tasks of an array, a range.

    Raises:
        CommandError: none is known, or nobody answers.

    """
    found = _ask(url, wanted, cluster, run)
    if not found and wanted.isdigit():  # what sbatch prints for an array
        found = _ask(url, f"{wanted}_[0-999]", cluster, run)
    if not found:
        which = f"{wanted}, run {run}" if run else wanted
        raise CommandError(
            f"{which}: no such job in the books. It may be somebody else's, or have used no "
            "metered node, or its first window is not in yet (about 20 s); `wattkeeper jobs --all` "
            "lists what is",
            code=1,
        )
    return found


def _ask(
    url: str | None, wanted: str, cluster: str | None, run: int | None
) -> list[dict[str, Any]]:
    query = {"id": wanted, "cluster": cluster, "run": None if run is None else str(run)}
    found: list[dict[str, Any]] = ask(url, "/v1/jobs", query)["jobs"]
    return found
