#!/usr/bin/env python3
"""Build a folder from which a site without a network installs Wattkeeper.

    python3 start.py wheelhouse DIR [--python 3.11 …] [--machine x86_64 …]

Run it where there is a network: whatever this machine is, the wheels are for every Python and
machine that is named, by default for all. What comes from the index is what
`requirements/wattkeeper.txt` has the hash of.
"""

import argparse
import hashlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements/wattkeeper.txt"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
SUMS = "SHA256SUMS"
# pip takes the tags that it is given and no older ones. glibc 2.28 is that of RHEL 8 and Debian 10.
_GLIBC = range(17, 29)


class WheelhouseError(Exception):
    """It cannot be built. The message says why."""


def main(args: Sequence[str]) -> int:
    """Fill the folder; 1 if something could not be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an empty folder, or a new one")
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--machine", nargs="+", choices=MACHINES, default=MACHINES)
    given = parser.parse_args(args)
    try:
        build(given.folder.resolve(), given.python, given.machine)
    except WheelhouseError as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path, pythons: Sequence[str], machines: Sequence[str]) -> None:
    """Put our wheel, the wheels that it needs, the lock and the checksums into a folder.

    Raises:
        WheelhouseError: the folder is in use, or a wheel cannot be had.

    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise WheelhouseError(f"{folder} is not empty: name another, or empty it")
    _run("hatchling", "build", "--target", "wheel", "--directory", str(folder))
    for python, machine in itertools.product(pythons, machines):
        print(f"CPython {python} on {machine} …", flush=True)
        _download(folder, python, machine)
    shutil.copy(LOCK, folder / "requirements.txt")
    files = sorted(folder.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(sums))
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    print(f"{len(files)} files, {size_mb:.0f} MB in {folder}; check them with: sha256sum -c {SUMS}")


def _download(folder: Path, python: str, machine: str) -> None:
    tags = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in _GLIBC)]
    platforms = itertools.chain.from_iterable(("--platform", tag) for tag in tags)
    _run(
        "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder),
        "--only-binary", ":all:", "--no-deps", "--require-hashes", "--requirement", str(LOCK),
        "--implementation", "cp", "--python-version", python, *platforms,
    )  # fmt: skip


def _run(*module: str) -> None:
    done = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False)
    if done.returncode:
        raise WheelhouseError(f"{' '.join(module[:2])} failed: see above")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
