"""`python -m wattkeeper.simulation --nodes 64 --hours 24 --seed 1`: a run and its figures."""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from wattkeeper.simulation.fleet import Fleet, Shape
from wattkeeper.simulation.run import Campaign

_START_MS = 1_790_000_100_000


def main() -> int:
    """Run, print the figures; 1 if books and truth differ."""
    parser = argparse.ArgumentParser(prog="python -m wattkeeper.simulation", description=__doc__)
    parser.add_argument("--nodes", type=int, default=64, help="nodes of the fleet")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of each node")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours")
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it")
    parser.add_argument("--no-faults", action="store_true", help="let nothing go wrong")
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    shape = Shape(args.nodes, args.gpus, _START_MS, args.seed)
    began = time.monotonic()

    def progress(fleet: Fleet) -> None:
        seconds = (fleet.time.now_ms - fleet.time.start_ms) // 1000
        if seconds % 60 == 0:
            spent = time.monotonic() - began
            jobs = len(fleet.cluster.jobs)
            print(f"\r{seconds / 3600:6.2f} h, {jobs} jobs, {spent:.0f} s", end="", file=sys.stderr)  # noqa: T201

    with tempfile.TemporaryDirectory(prefix="wattkeeper-simulation-") as folder:
        campaign = Campaign(shape, round(args.hours * 3_600_000), Path(folder), not args.no_faults)
        verdict = asyncio.run(campaign.run(progress))
    print(file=sys.stderr)  # noqa: T201 a program prints
    print(verdict.report())  # noqa: T201 a program prints
    return 1 if verdict.wrong or verdict.residual_uj else 0


if __name__ == "__main__":
    sys.exit(main())
