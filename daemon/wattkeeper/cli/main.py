"""`wattkeeper`: the table of commands. A command's own module is imported when it runs."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wattkeeper import __version__


class Runnable(Protocol):
    """A command with its arguments. Returns the exit code: 0 fine, 1 "no", 2 wrong use."""

    def run(self) -> int:
        """Do it."""
        ...


class Entry(NamedTuple):
    """Where a command lives and what it is for. `quick`: it parses itself, without pydantic."""

    group: str
    module: str
    command: str
    help: str
    quick: bool = False


RUN, ASK, NODE, SETUP = "Run", "Ask", "On a node", "Set up"

COMMANDS: dict[str, Entry] = {
    "up": Entry(RUN, "up", "Up", "agent and aggregator on this machine"),
    "agent": Entry(RUN, "agent", "Agent", "meter this node"),
    "aggregator": Entry(RUN, "aggregator", "Aggregator", "keep the fleet's books and answer"),
    "relay": Entry(RUN, "relay", "Relay", "let a login node's users ask, each for their own"),
    "demo": Entry(RUN, "demo", "Demo", "a simulated fleet, to see it at work"),
    "top": Entry(ASK, "top", "Top", "nodes, GPUs and jobs now, live in the terminal"),
    "job": Entry(ASK, "job", "Job", "what a job used, and how sure that is"),
    "jobs": Entry(ASK, "jobs", "Jobs", "my jobs of the last 7 days, or anyone's"),
    "trace": Entry(ASK, "trace", "Trace", "the power of a job over time, as a plot"),
    "report": Entry(ASK, "report", "Report", "energy by user, account, partition, node, …"),
    "close": Entry(ASK, "close", "Close", "freeze a period as a statement"),
    "statement": Entry(ASK, "statement", "Statement", "the statements of closed periods"),
    "balance": Entry(ASK, "balance", "Balance", "do the books balance? exit 1 if not"),
    "budgets": Entry(ASK, "budgets", "Budgets", "will a budget be exceeded? exit 1 if one is"),
    "forget": Entry(ASK, "forget", "Forget", "erase a person's name from the books"),
    "audit": Entry(ASK, "audit", "Audit", "who read about others, and who changed what"),
    "export": Entry(ASK, "export", "Export", "history into a Parquet or CSV file"),
    "doctor": Entry(NODE, "doctor", "Doctor", "what is seen here, what is not, and what to do"),
    "mark": Entry(
        NODE, "mark", "Mark", "start or end of a job, from prolog and epilog", quick=True
    ),
    "release": Entry(NODE, "release", "Release", "let go of a GPU's driver for a while"),
    "token": Entry(SETUP, "token", "TokenCommand", "tokens: who may ask, and who may deliver"),
    "migrate": Entry(SETUP, "migrate", "Migrate", "move the books from SQLite to PostgreSQL"),
    "config": Entry(SETUP, "config", "Config", "check the configuration, or show where it is from"),
}

_OF_AGGREGATOR = {"alembic", "cramjam", "duckdb", "jinja2", "pyarrow", "sqlalchemy", "yaml"}

EXAMPLES = """\
Examples:
  wattkeeper up                           start everything on this machine
  wattkeeper job 123456                   what that job used
  wattkeeper report --by account --since -30d
  wattkeeper balance                      exit 0 if the books balance
  wattkeeper COMMAND --help               more about one command"""


def usage() -> str:
    """Return the help of `wattkeeper` itself."""
    lines = [
        "usage: wattkeeper COMMAND [OPTIONS]",
        "",
        "Meters every GPU and CPU, and keeps books that balance.",
    ]
    for group in (RUN, ASK, NODE, SETUP):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<12}{c.help}" for name, c in COMMANDS.items() if c.group == group]
    return "\n".join([*lines, "", EXAMPLES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    name = args.pop(0) if args else ""
    if name in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if name in {"-V", "--version", "version"}:
        print(f"wattkeeper {__version__}")
        return 0
    if name not in COMMANDS:
        return _unknown(name)
    if COMMANDS[name].quick:
        return _run_quick(name, args)
    return _run(name, args)


def _unknown(name: str) -> int:
    if not name:
        print(usage(), file=sys.stderr)
        return 2
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    advice = f"did you mean `{close[0]}`?" if close else "see `wattkeeper --help`"
    print(f"wattkeeper: {name}: no such command; {advice}", file=sys.stderr)
    return 2


def _run_quick(name: str, args: Sequence[str]) -> int:
    entry = COMMANDS[name]
    module = importlib.import_module(f"wattkeeper.cli.{entry.module}")
    command: Runnable = getattr(module, entry.command).parse(args, f"wattkeeper {name}")
    return command.run()


def _run(name: str, args: Sequence[str]) -> int:
    from wattkeeper.cli.command import CommandError, parse
    from wattkeeper.flags import ConfigError

    entry = COMMANDS[name]
    try:
        module = importlib.import_module(f"wattkeeper.cli.{entry.module}")
        command: Runnable = parse(getattr(module, entry.command), args, f"wattkeeper {name}")
        code = command.run()
        sys.stdout.flush()
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"wattkeeper {name}: {line}", file=sys.stderr)
        return 2
    except CommandError as error:
        print(f"wattkeeper {name}: {error}", file=sys.stderr)
        return error.code
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_AGGREGATOR:
            raise
        advice = "it is part of the aggregator: pip install 'wattkeeper[aggregator]'"
        print(f"wattkeeper {name}: {missing} is not installed; {advice}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (`head`) has seen enough; keep the interpreter from saying so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as if ended by SIGPIPE: neither yes nor no
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
