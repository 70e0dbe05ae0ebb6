"""`wattkeeper mark`."""

import os
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from wattkeeper.cli.command import Command, CommandError
from wattkeeper.flags import ConfigError
from wattkeeper.holders import marks


class Mark(Command):
    """Tell the agent that a job starts or ends on this node, from Slurm's Prolog and Epilog.

    The mark is on disk before anything else happens; then the agent is told to read every
    counter at once. If it is down or hangs, the mark waits for it. Whatever goes wrong is said on
    standard error and the exit code is 0 all the same, so that a job never fails because of its
    accounting; --strict is for trying it out.

    Which job and which GPUs comes from the environment that Slurm gives to prolog and epilog
    (SLURM_JOB_ID, SLURM_JOB_GPUS, …).

    Examples:
      wattkeeper mark start        last line of the prolog
      wattkeeper mark end          first line of the epilog
    """

    kind: CliPositionalArg[Literal["start", "end"]] = Field(description="start or end")
    gpu: tuple[str, ...] = Field((), description="UUID of a GPU, instead of SLURM_JOB_GPUS")
    shared: bool = Field(False, description="other jobs may hold the same GPUs at the same time")
    strict: bool = Field(False, description="exit code 2 if the mark could not be written")
    data_dir: Path | None = Field(None, description="the agent's data_dir, if not the usual one")

    def run(self) -> int:
        """Write the mark and poke the agent; 0 whatever happens, unless it is to be strict."""
        try:
            self._mark()
        except (CommandError, ConfigError) as error:
            print(f"wattkeeper mark: {error}", file=sys.stderr)
            return 2 if self.strict else 0
        return 0

    def _mark(self) -> None:
        from wattkeeper.agent.place import boot_id
        from wattkeeper.cli.agent_place import agent_settings

        settings = agent_settings(self.data_dir)
        if not settings.data_dir.is_dir():
            raise CommandError(
                f"no agent has run in {settings.data_dir}: set data_dir in /etc/wattkeeper/"
                "agent.toml or WATTKEEPER_AGENT_DATA_DIR to the agent's, or give --data-dir"
            )
        try:
            mark = marks.from_environment(
                self.kind,
                os.environ,
                boot_id(settings.path.procfs),
                uuids=self.gpu,
                shared=self.shared,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        spool = settings.data_dir / marks.SPOOL
        try:
            marks.write(spool, mark)
        except OSError as error:
            raise CommandError(f"cannot write to {spool}: {error.strerror}") from error
        marks.poke(settings.data_dir / marks.CONTROL_SOCKET)
