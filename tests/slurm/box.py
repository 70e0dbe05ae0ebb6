"""Namespaces for one test cluster: its own network, host name, users and processes.

Slurm's daemons listen on every address and know users by name. In here that reaches nobody, needs
no free ports and no `useradd`, and all of it ends when the box is closed, or its owner killed.
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.slurm.inside import ADDRESS, HOST


class Box:
    """The namespaces. `users`: name to uid (and gid) of those who exist in there only."""

    def __init__(self, folder: Path, users: Mapping[str, int]) -> None:
        etc, ready = folder / "etc", folder / "ready"
        self._spawned: list[subprocess.Popen[bytes]] = []
        _write_etc(etc, users)
        self._init = subprocess.Popen([
            "setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--uts", "--pid",
            "--fork", "--kill-child", "--mount-proc",
            sys.executable, str(Path(__file__).with_name("inside.py")), str(etc), str(ready),
        ])  # fmt: skip
        end = time.monotonic() + 10
        while not ready.exists():
            if self._init.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("namespaces (unshare) cannot be made here")
            time.sleep(0.005)
        pid = self._init.pid
        self.enter = (
            "nsenter", f"--target={pid}", "--net", "--mount", "--uts",
            f"--pid=/proc/{pid}/ns/pid_for_children", "--",
        )  # fmt: skip
        """What to put before a command so that it runs inside."""

    def run(
        self, command: Sequence[str], environ: Mapping[str, str], *, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end."""
        done = subprocess.run(
            [*self.enter, *command],
            env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done

    def spawn(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        """Start a program inside that runs until the box is closed."""
        with log.open("ab") as out:
            self._spawned.append(subprocess.Popen(
                [*self.enter, *command], env=environ, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out,
            ))  # fmt: skip

    def close(self) -> None:
        """End everything inside; the kernel kills it together with its first process."""
        self._init.kill()
        self._init.wait()
        for program in self._spawned:
            program.wait()


def _write_etc(etc: Path, users: Mapping[str, int]) -> None:
    etc.mkdir()
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
    lines = (f"{name}:x:{uid}:{uid}::/tmp:/bin/sh" for name, uid in users.items())
    _append(etc / "passwd", lines)
    _append(etc / "group", (f"{name}:x:{uid}:" for name, uid in users.items()))


def _append(file: Path, lines: Iterable[str]) -> None:
    own = Path("/etc", file.name).read_text().rstrip("\n")
    file.write_text("\n".join([own, *lines, ""]))
