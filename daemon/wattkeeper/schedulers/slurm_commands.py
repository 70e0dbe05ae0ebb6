"""Asks Slurm's commands: `squeue`, `scontrol`, `sinfo` and `sacct`, each with `--json`."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

from wattkeeper.schedulers import slurm_states
from wattkeeper.schedulers.slurm_wire import Request

_CHUNK = 1 << 20
_STDERR = 4096
_FILTERS = ("SQUEUE_", "SACCT_", "SINFO_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")
"""Variables by which a user's own habits would change what the commands say."""


class Commands:
    """The commands of one installation; each call starts one, and raises OSError if it fails.

    `--local`: in a federation they may show the sister clusters too, whose nodes are not ours.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith(_FILTERS)
        }
        # Half the bytes, from 24.05 on; older versions do not look at it.
        self._environ["SLURM_JSON"] = "compact"
        if request.conf:
            self._environ["SLURM_CONF"] = request.conf

    def jobs(self) -> Iterator[bytes]:
        """Return every job that runs, or ended within slurmctld's MinJobAge."""
        return self._run("squeue", "--local", "--all", f"--states={slurm_states.ASKED}", "--json")

    def nodes(self) -> Iterator[bytes]:
        """Return every node: scontrol of 22.05 writes no JSON, but its sinfo tells as much."""
        answered = False
        try:
            for chunk in self._run("scontrol", "--local", "--all", "--json", "show", "nodes"):
                answered = True
                yield chunk
        except OSError:
            if answered:
                raise
            yield from self._run("sinfo", "--local", "--all", "--json")

    def topology(self) -> bytes:
        """Return what is known of switches and blocks; it is no JSON."""
        return b"".join(self._run("scontrol", "--local", "show", "topology"))

    def ended(self) -> Iterator[bytes]:
        """Return the runs of all users that ended since, also those that were requeued."""
        since = f"uts{self._request.since_ms // 1000}"
        options = ("--local", "--allusers", "--duplicates", "--allocations", "--starttime", since)
        states = ("--endtime", "now", "--state", slurm_states.ENDED_CODES)
        return self._run("sacct", *options, *states, "--json")

    def _run(self, name: str, *arguments: str) -> Iterator[bytes]:
        path = shutil.which(name, path=self._request.bin or self._environ.get("PATH"))
        if path is None:
            raise FileNotFoundError(
                f"{name} is not installed in {self._request.bin or 'PATH'}: install Slurm's client "
                "commands here, set slurm.bin to their folder, or slurm.rest to ask slurmrestd"
            )
        errors: list[bytes] = []
        left = self._request.max_bytes
        with subprocess.Popen(  # noqa: S603 -- a fixed list of words, no shell
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            listener = threading.Thread(target=_listen, args=(process.stderr, errors), daemon=True)
            listener.start()
            try:
                while chunk := os.read(process.stdout.fileno(), _CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise OSError(_too_long(name, self._request.max_bytes))
                    yield chunk
            except BaseException:
                process.kill()
                raise
            status = process.wait()
            listener.join()
        if status != 0:
            raise OSError(_failure(name, status, b"".join(errors)))


def _listen(stream: IO[bytes], heard: list[bytes]) -> None:
    """Keep the first words of what a command complains of, and read the rest for nothing."""
    kept = 0
    while chunk := stream.read(_STDERR):
        if kept < _STDERR:
            heard.append(chunk)
            kept += len(chunk)


def _failure(name: str, status: int, errors: bytes) -> str:
    first = errors.decode("utf-8", "replace").strip().partition("\n")[0][:300]
    said = f": {first}" if first else " and said nothing"
    hint = ""
    lower = first.lower()
    if "json" in lower or "serializer" in lower:
        hint = (
            f"; this {name} cannot write JSON: it is older than 21.08 or lacks the plugin "
            "serializer/json (22.05 also openapi), or set slurm.rest to ask slurmrestd"
        )
    elif "contact" in lower or "connect" in lower or "refused" in lower:
        hint = "; is slurmctld alive (`scontrol ping`)?"
    elif "configuration source" in lower or "slurm.conf" in lower:
        hint = "; set slurm.conf to the cluster's slurm.conf"
    elif "auth" in lower or "munge" in lower:
        hint = "; is munged running here with the cluster's key?"
    return f"{name} failed ({_how(status)}){said}{hint}"


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit {status}"


def _too_long(name: str, limit: int) -> str:
    return f"{name} said more than {limit >> 20} MiB: raise slurm.max_answer if that is no mistake"
