"""A whole Slurm cluster in one folder: munge, MariaDB, slurmdbd, slurmctld, slurmd's, slurmrestd.

`python -m tests.slurm.cluster` (as root) starts one to play with, until Ctrl-C.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.slurm import files
from tests.slurm.box import Box
from tests.slurm.files import Node

PROGRAMS = (
    "munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "slurmrestd",
    "nsenter", "setpriv", "ip",
)  # fmt: skip
PACKAGES = "slurm-wlm slurmrestd slurm-wlm-jwt-plugin slurmdbd munge mariadb-server iproute2"
USERS = {"ada": 61001, "bob": 61002, "eve": 61003}
ACCOUNTS = {"ada": "physics", "bob": "chemistry", "eve": "physics"}
CGROUPFS = Path("/sys/fs/cgroup")
# nobody, as the distribution numbers it; slurmrestd refuses to be root.
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def missing() -> str:
    """Return why no cluster can be started here, empty if one can."""
    if os.geteuid():
        return "needs root"
    found = [name for name in PROGRAMS if shutil.which(name) is None]
    if found:
        return f"{', '.join(found)} not found: apt-get install {PACKAGES}"
    if not any(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so")):
        return f"Slurm's JWT plugin not found: apt-get install {PACKAGES}"
    if not (CGROUPFS / "freezer").is_dir():
        return f"no cgroup v1 hierarchy is mounted in {CGROUPFS}/freezer"
    return ""


def until(what: str, ask: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + deadline_s
    while not ask():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.02)


class Cluster:
    """A running cluster; a context manager that ends it and leaves nothing behind."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._lock = _alone(nodes)
        # Not pytest's folder: munged refuses a path that others may not enter, and users must.
        self.folder = Path(tempfile.mkdtemp(prefix="wattkeeper-slurm-"))
        self.folder.chmod(0o755)
        self.nodes = nodes
        self.rest = self.folder / "run/rest.sock"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("WATTKEEPER", "SLURM"))}
        self.environ = {
            **clean,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "MYSQL_UNIX_PORT": str(self.folder / "run/db.sock"),
        }
        self._remove_cgroups()  # of a test run that was killed
        self.box = Box(self.folder, USERS)
        try:
            files.write(self.folder, nodes, self.box.enter)
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *command: str, user: str = "", check: bool = True) -> str:
        """Run a command on the cluster, as root or as one of its users; return what it printed."""
        become: tuple[str, ...] = ()
        if user:
            become = ("setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}",
                      "--clear-groups", "--")  # fmt: skip
        return self.box.run([*become, *command], self.environ, check=check).stdout.strip()

    def submit(self, user: str, *args: str, work: str) -> int:
        """Submit a batch job that runs the shell command `work`; return its number."""
        out = f"--output={self.folder}/out/%j-%a"
        wrapped = f"--wrap=PATH={self.folder}/bin:$PATH; {files.launch(self.folder)}; {work}"
        return int(self.run("sbatch", "--parsable", "--chdir=/tmp", out, *args, wrapped, user=user))

    def token(self) -> str:
        """Return a token with which slurmrestd lets the administrator in."""
        return self.run("scontrol", "token", "username=root").partition("=")[2]

    def bring_slurmctld_back(self) -> None:
        """Start slurmctld again, and let it start jobs as soon as it knows its nodes."""
        self._start_slurmctld()
        until("the nodes register", lambda: "unk" not in self.run("sinfo", "-h", "-o", "%T"))
        self._let_jobs_start("up")

    def stop_slurmctld(self) -> None:
        """End slurmctld, and wait until it is gone; killed it would forget the newest jobs."""
        # Jobs that start before the nodes have registered anew get GPUs without a number, and the
        # count of those in use goes wrong.
        self._let_jobs_start("down")
        pid = (self.folder / "run/slurmctld.pid").read_text().strip()
        self.box.run(["kill", pid], self.environ)
        exists = ["kill", "-0", pid]
        until(
            "slurmctld is gone",
            lambda: self.box.run(exists, self.environ, check=False).returncode != 0,
        )

    def close(self) -> None:
        """End every process of the cluster, remove its cgroups and its folder."""
        self.box.close()
        self._remove_cgroups()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _let_jobs_start(self, state: str) -> None:
        for name in self.run("sinfo", "-h", "-o", "%R").splitlines():
            self.run("scontrol", "update", f"partitionname={name}", f"state={state}")

    def _start_slurmctld(self) -> None:
        self.box.run(["slurmctld", "-f", self.environ["SLURM_CONF"]], self.environ)
        until("slurmctld answers", lambda: "is UP" in self.run("scontrol", "ping", check=False))

    def _remove_cgroups(self) -> None:
        for node in self.nodes:
            for place in CGROUPFS.glob(f"*/slurm_{node.name}"):
                _remove(place)

    def _start(self) -> None:
        log, env, box = self.folder / "log", self.environ, self.box
        self._start_munge()
        base = (f"--datadir={self.folder}/db", "--user=root")
        box.run(["mariadb-install-db", "--no-defaults", "--skip-test-db",
                 "--auth-root-authentication-method=socket", *base], env)  # fmt: skip
        box.spawn(["mariadbd", "--no-defaults", "--skip-networking", "--skip-log-bin", *base,
                   f"--socket={env['MYSQL_UNIX_PORT']}", f"--pid-file={self.folder}/run/db.pid",
                   "--innodb-flush-log-at-trx-commit=0"], env, log / "mariadbd")  # fmt: skip
        until("MariaDB listens", Path(env["MYSQL_UNIX_PORT"]).exists)
        box.run(["slurmdbd"], env)
        users = ("sacctmgr", "-n", "show", "user")
        until("slurmdbd answers", lambda: self.run(*users, check=False) != "")
        self._open_accounts()
        self._start_slurmctld()
        for node in self.nodes:
            box.run(["slurmd", "-N", node.name], env)
        until("every node is idle", self._idle)
        (self.folder / "run").chmod(0o1777)  # slurmrestd makes its socket as nobody
        box.spawn([*_NOBODY, "slurmrestd", "-a", "rest_auth/jwt", f"unix:{self.rest}"],
                  {**env, "SLURM_JWT": "daemon"}, log / "slurmrestd")  # fmt: skip
        until("slurmrestd listens", self.rest.exists)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        self.box.run(["munged", f"--key-file={folder}/key", f"--socket={folder}/socket",
                      f"--pid-file={folder}/pid", f"--log-file={folder}/log",
                      f"--seed-file={folder}/seed"], self.environ)  # fmt: skip

    def _open_accounts(self) -> None:
        self.run("sacctmgr", "-i", "add", "cluster", files.CLUSTER)
        for account in sorted(set(ACCOUNTS.values())):
            self.run("sacctmgr", "-i", "add", "account", account)
        for user, account in ACCOUNTS.items():
            self.run("sacctmgr", "-i", "add", "user", user, f"account={account}")

    def _idle(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
        return len({line for line in states if line.endswith(" idle")}) == len(self.nodes)


def _alone(nodes: Sequence[Node]) -> int:
    """Wait until no other cluster here has nodes of these names: cgroups are called by them."""
    names = "-".join(node.name for node in nodes)
    file = Path(tempfile.gettempdir(), f"wattkeeper-slurm.{names}.lock")
    lock = os.open(file, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove(place: Path, deadline_s: float = 10.0) -> None:
    """Remove a cgroup and all below it; killed processes leave theirs a moment later."""
    end = time.monotonic() + deadline_s
    for folder in [*sorted(place.rglob("*/"), reverse=True), place]:
        while folder.is_dir():
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > end:
                return
            time.sleep(0.02)


def end_at_sigterm() -> None:
    """Let a program clean up after itself also when it is told to end."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


def main() -> int:
    """Start a cluster, say how to use it, and end it at Ctrl-C."""
    reason = missing()
    if reason:
        print(f"no Slurm cluster can be started: {reason}", file=sys.stderr)
        return 1
    end_at_sigterm()
    nodes = [Node("n1"), Node("n2"), Node("n3"), Node("n4", marks=False)]
    began = time.monotonic()
    with Cluster(nodes) as cluster, contextlib.suppress(KeyboardInterrupt):
        folder = cluster.folder
        print(
            f"Slurm runs after {time.monotonic() - began:.1f} s. Its commands, from any shell:\n"
            f"  export PATH={folder}/commands:$PATH SLURM_CONF={folder}/slurm.conf\n"
            "  sinfo; sbatch --chdir=/tmp --gpus=2 --wrap 'env | grep SLURM; sleep 60'\n"
            f"  curl --unix-socket {cluster.rest} -H X-SLURM-USER-NAME:root "
            '-H X-SLURM-USER-TOKEN:"$(scontrol token | cut -d= -f2)" http://wk/slurm/v0.0.38/jobs\n'
            "Ctrl-C ends it."
        )
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
