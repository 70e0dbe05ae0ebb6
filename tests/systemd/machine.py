"""A machine booted from the host's own /usr, read-only, with everything else new and in memory."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from tests.e2e.programs import ROOT, until

BOOT_S = 60.0
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PYTHON = Path("/usr/bin") / _VERSION
_ENVIRONMENT = Path("/opt/wattkeeper")
_CHECKOUT = Path("/opt/checkout")
_PACKAGES = Path("/opt/packages")
_UNITS = Path("/etc/systemd/system")
_LAUNCHER = """\
#!{python}
import sys
from wattkeeper.cli.main import main
sys.exit(main())
"""


def missing() -> str:
    """Return why no machine can be booted here, empty if one can."""
    if os.geteuid():
        return "needs root"
    if shutil.which("systemd-nspawn") is None:
        return "systemd-nspawn not found: apt-get install systemd-container"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "/usr/lib/systemd/systemd not found: apt-get install systemd"
    if not _PYTHON.exists():
        return f"{_PYTHON} not found: the tests run in another Python than the system's"
    return ""


class Machine:
    """A booted machine with the units, none of them started. `sysfs` is seen as /srv/sys."""

    def __init__(self, sysfs: Path) -> None:
        self._sysfs = sysfs
        self.folder = Path(tempfile.mkdtemp(prefix="wattkeeper-machine-"))
        self.folder.chmod(0o755)
        self._log = (self.folder / "console.log").open("wb")
        self._boot = subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--register=no",
                "--keep-unit", "--private-network", f"--machine=wk{os.getpid()}", "--boot",
                "--console=pipe", *self._binds(),
                "--", "systemd.unit=basic.target",
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            self._init = until("systemd has started", self._first_process, BOOT_S)
            until("the machine has booted", self._booted, BOOT_S)
        except BaseException:
            self.close()
            raise

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the machine as root; return what it printed, errors included."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout.strip()

    def write(self, path: str, content: str) -> None:
        """Write a file of root's alone in the machine."""
        subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", "sh", "-c",
             'mkdir -p "${1%/*}"; umask 077; cat >"$1"', "sh", path],
            input=content, text=True, check=True,
        )  # fmt: skip

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        said = self.run("systemctl", "show", f"--property={','.join(properties)}", unit)
        return dict(line.split("=", 1) for line in said.splitlines())

    def fetch(self, url: str) -> str | None:
        """Return a page that only the machine reaches, None if nobody answers."""
        code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
        try:
            return self.run(str(_PYTHON), "-c", code, url)
        except AssertionError:
            return None

    def close(self) -> None:
        """Switch it off."""
        with contextlib.suppress(ProcessLookupError):
            if init := self._first_process():
                os.kill(init, signal.SIGKILL)
        try:
            self._boot.wait(20)
        except subprocess.TimeoutExpired:
            self._boot.kill()
            self._boot.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _first_process(self) -> int | None:
        """Return the machine's process 1 as the host numbers it, None before it is one."""
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children")
        for pid in children.read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
        return None

    def _booted(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False)
        return state in {"running", "degraded"}

    def _binds(self) -> list[str]:
        """Return what of the host is seen in the machine: the checkout, packages, and the units."""
        environment = self.folder / "environment"
        (environment / "bin").mkdir(parents=True)
        (environment / "bin/python").symlink_to(_PYTHON)
        (environment / "pyvenv.cfg").write_text(f"home = {_PYTHON.parent}\n")
        site = environment / "lib" / _VERSION / "site-packages"
        site.mkdir(parents=True)
        (site / "wattkeeper.pth").write_text(f"{_CHECKOUT}\n{_PACKAGES}\n")
        launcher = environment / "bin/wattkeeper"
        launcher.write_text(_LAUNCHER.format(python=_ENVIRONMENT / "bin/python"))
        launcher.chmod(0o755)
        # With an identity it does not boot for the first time, which would enable all services.
        identity = self.folder / "machine-id"
        identity.write_text(f"{uuid.uuid4().hex}\n")
        units = ROOT / "deploy/systemd"
        seen = {
            identity: Path("/etc/machine-id"),
            self._sysfs: Path("/srv/sys"),
            environment: _ENVIRONMENT,
            ROOT / "daemon": _CHECKOUT,
            Path(sys.prefix) / "lib" / _VERSION / "site-packages": _PACKAGES,
            units / "wattkeeper.sysusers": Path("/etc/sysusers.d/wattkeeper.conf"),
            **{unit: _UNITS / unit.name for unit in units.glob("*.service")},
        }
        return [f"--bind-ro={outside}:{there}" for outside, there in seen.items()]
