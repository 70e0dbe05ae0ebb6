"""`python -m benchmarks`: run one of the benchmarks, or all of them, one after the other."""

import sys

from benchmarks import agent_cost, dashboards, forecast, history, intake, page, scrape, squeue

BENCHMARKS = {
    "agent": agent_cost.main,
    "dashboards": dashboards.main,
    "forecast": forecast.main,
    "history": history.main,
    "intake": intake.main,
    "page": page.main,
    "scrape": scrape.main,
    "squeue": squeue.main,
}


def main(args: list[str]) -> int:
    """Run what is named; without a name, everything with its defaults."""
    if args and args[0] in BENCHMARKS:
        return BENCHMARKS[args[0]](args[1:])
    if args:
        print(f"usage: python -m benchmarks [{'|'.join(BENCHMARKS)}] [OPTIONS]", file=sys.stderr)
        return 0 if args[0] in {"-h", "--help"} else 2
    return max(run([]) for run in BENCHMARKS.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
