"""The first process inside a test cluster's own namespaces: prepares them, then reaps.

Run by `tests.slurm.box` as process 1 of new net, mount, uts and pid namespaces. Whatever runs in
there ends with it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

HOST = "wk"
ADDRESS = "10.99.0.1"  # slurmctld and slurmdbd want to find each other at something but 127.0.0.1


def prepare(etc: Path) -> None:
    """Give the namespaces a network, a name, and users of their own; leave the machine's alone."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    subprocess.run(["hostname", HOST], check=True)
    for file in etc.iterdir():
        subprocess.run(["mount", "--bind", str(file), f"/etc/{file.name}"], check=True)


def reap() -> None:
    """Wait for processes that lost their parent, for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass
        signal.sigwait({signal.SIGCHLD})


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    Path(sys.argv[2]).touch()
    reap()
