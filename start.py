#!/usr/bin/env python3
"""Set up Wattkeeper in this checkout and run it: needs Python 3.11 or later and nothing else.

usage: python3 start.py COMMAND [OPTIONS]

  python3 start.py up      meter this machine (without a power meter: a simulated fleet)
  python3 start.py test    lint, types, layers and all tests
  python3 start.py bench   the benchmarks, beside their peers (see benchmarks/README.md)
  python3 start.py wheelhouse DIR   what a site without a network installs from
  python3 start.py job 42  any other `wattkeeper` command
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCKS = {"test": "dev", "bench": "dev", "wheelhouse": "dev"}
CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check", "--quiet"),
    ("ruff", "format", "--check", "--quiet"),
    ("mypy", "--no-error-summary"),
    ("lint-imports", "--no-cache"),
)
LAUNCHER = """\
#!{python}
import sys
from wattkeeper.cli.main import main
sys.exit(main())
"""


def main(args: Sequence[str]) -> int:
    """Set up what the command needs, then run it."""
    if sys.version_info < (3, 11):
        return with_newer_python(args)
    if not args or args[0] in {"-h", "--help"}:
        print(__doc__)
        return 0 if args else 2
    command, rest = args[0], list(args[1:])
    set_up(LOCKS.get(command, "wattkeeper"))
    if command == "test":
        return test(rest)
    if command == "bench":
        return run(str(BIN / "python"), "-m", "benchmarks", *rest)
    if command == "wheelhouse":
        return run(str(BIN / "python"), "deploy/wheelhouse.py", *rest)
    launcher = str(BIN / "wattkeeper")
    sys.stdout.flush()
    os.environ["WATTKEEPER_PROGRAM"] = f"python3 {Path(__file__).name}"
    os.execv(launcher, [launcher, *args])


def with_newer_python(args: Sequence[str]) -> int:
    """Start again with a later Python if there is one."""
    for minor in (13, 12, 11):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, __file__, *args])
    print("Wattkeeper needs Python 3.11 or later: install python3.11", file=sys.stderr)
    return 2


def set_up(lock: str) -> None:
    """Make the environment in .venv and install the locked dependencies, once per lock."""
    requirements = ROOT / "requirements" / f"{lock}.txt"
    stamp = VENV / f".installed-{lock}"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    if not (BIN / "python").exists() or not any(VENV.glob("lib/python3*/site-packages/pip")):
        make_environment()
    print(f"Installing {requirements.relative_to(ROOT)} into .venv …", file=sys.stderr)
    pip = (str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    if run(*pip, "--require-hashes", "-r", str(requirements)):
        raise SystemExit("start.py: pip could not install the dependencies; see above")
    link()
    stamp.write_text(digest)


def make_environment() -> None:
    """Create .venv; on Debian, whose Python comes without ensurepip, install python3-venv first."""
    print("Creating .venv …", file=sys.stderr)
    try:
        import ensurepip  # noqa: F401, PLC0415 -- Debian takes it out of the standard library
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        need = ("apt-get", "install", "-y", "--no-install-recommends", f"python{version}-venv")
        if os.geteuid() or not shutil.which("apt-get"):
            raise SystemExit(f"start.py: run `{' '.join(need)}` as root first") from None
        run("apt-get", "update", "-qq")
        if run(*need):
            raise SystemExit("start.py: could not install python3-venv; see above") from None
    shutil.rmtree(VENV, ignore_errors=True)
    if run(sys.executable, "-m", "venv", str(VENV)):
        raise SystemExit("start.py: could not create .venv; see above")


def link() -> None:
    """Let the environment import the package from this checkout."""
    site = next(VENV.glob("lib/python3*/site-packages"))
    (site / "wattkeeper.pth").write_text(f"{ROOT / 'daemon'}\n")
    launcher = BIN / "wattkeeper"
    launcher.write_text(LAUNCHER.format(python=BIN / "python"))
    launcher.chmod(0o755)


def test(pytest_args: Sequence[str]) -> int:
    """Run every check, and the tests (or only those that are named)."""
    for check in () if pytest_args else CHECKS:
        print("→", *check, flush=True)
        if run(str(BIN / check[0]), *check[1:]):
            return 1
    # Tests wait for servers: one more of them than there are cores keeps the cores busy.
    workers = str((os.cpu_count() or 1) + 1)
    return run(str(BIN / "pytest"), *(pytest_args or ("-n", workers)))


def run(*command: str) -> int:
    """Run a program in the checkout and return its exit code."""
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
