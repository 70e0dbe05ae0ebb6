"""`wattkeeper mark`. Every job waits for it twice, so it imports little: no pydantic, no agent."""

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wattkeeper.folders import FOLDER, data_dir
from wattkeeper.holders import kernel, marks

_PREFIX = "WATTKEEPER_AGENT_"
_HELP = """\
Tell the agent that a job starts or ends on this node, from Slurm's Prolog and Epilog.

The mark is on disk before anything else happens; then the agent is told to read every
counter at once. If it is down or hangs, the mark waits for it. Whatever goes wrong is said on
standard error and the exit code is 0 all the same, so that a job never fails because of its
accounting; --strict is for trying it out.

Which job and which GPUs comes from the environment that Slurm gives to prolog and epilog
(SLURM_JOB_ID, SLURM_JOB_GPUS, …).

Examples:
  wattkeeper mark start        last line of the prolog
  wattkeeper mark end          first line of the epilog"""


class _MarkError(Exception):
    """A mark that cannot be made. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One start or end, with what the command line said."""

    kind: Literal["start", "end"]
    gpu: tuple[str, ...] = ()
    shared: bool = False
    strict: bool = False
    data_dir: Path | None = None

    @classmethod
    def parse(cls, args: Sequence[str], program: str) -> "Mark":
        """Return the command with its arguments; wrong ones leave with exit code 2."""
        parser = argparse.ArgumentParser(
            prog=program,
            description=_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add = parser.add_argument
        add("kind", choices=("start", "end"), help="start or end")
        add("--gpu", action="append", default=[], metavar="UUID",
            help="UUID of a GPU, instead of SLURM_JOB_GPUS; again for each")  # fmt: skip
        add("--shared", action="store_true",
            help="other jobs may hold the same GPUs at the same time")  # fmt: skip
        add("--strict", action="store_true",
            help="exit code 2 if the mark could not be written")  # fmt: skip
        add("--data-dir", type=Path, metavar="PATH",
            help="the agent's data_dir, if not the usual one")  # fmt: skip
        given = vars(parser.parse_args(args))
        uuids = (uuid for one in given.pop("gpu") for uuid in one.split(","))
        return cls(gpu=tuple(uuid for uuid in uuids if uuid), **given)

    def run(self) -> int:
        """Write the mark and poke the agent; 0 whatever happens, unless it is to be strict."""
        try:
            self._mark()
        except _MarkError as error:
            print(f"wattkeeper mark: {error}", file=sys.stderr)
            return 2 if self.strict else 0
        return 0

    def _mark(self) -> None:
        said = _agent_file()
        folder = self.data_dir or Path(_setting("data_dir", said) or data_dir("agent"))
        if not folder.is_dir():
            raise _MarkError(
                f"no agent has run in {folder}: set data_dir in {FOLDER / 'agent.toml'} or "
                f"{_PREFIX}DATA_DIR to the agent's, or give --data-dir"
            )
        boot = kernel.boot_id(Path(_setting("path.procfs", said) or "/proc"))
        if not boot:
            raise _MarkError("path.procfs: it holds no boot id; set it to the host's /proc")
        try:
            mark = marks.from_environment(
                self.kind, os.environ, boot, uuids=self.gpu, shared=self.shared
            )
        except ValueError as error:
            raise _MarkError(str(error)) from error
        spool = folder / marks.SPOOL
        try:
            marks.write(spool, mark)
        except OSError as error:
            raise _MarkError(f"cannot write to {spool}: {error.strerror}") from error
        marks.poke(folder / marks.CONTROL_SOCKET)


def _agent_file() -> dict[str, Any]:
    """Return the agent's configuration file, empty if there is none."""
    path = FOLDER / "agent.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _MarkError(f"{path}: cannot be read as TOML: {error}") from error


def _setting(key: str, said: dict[str, Any]) -> str:
    """Return a dotted key as the environment or else the file says it, empty if neither does."""
    value: Any = said
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return os.environ.get(_PREFIX + key.upper().replace(".", "__")) or str(value or "")
