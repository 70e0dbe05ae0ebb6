"""Flags of a pydantic-settings model, with errors that name the flag and what was meant."""

import argparse
import difflib
import inspect
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic_settings import CliSettingsSource

from wattkeeper.values import format_duration

_METAVARS = {
    "timedelta": "DURATION",
    "str": "TEXT",
    "int": "NUMBER",
    "float": "NUMBER",
    "Path": "PATH",
    "SecretStr": "SECRET",
}
_RELATIVE = re.compile(r"-[\d.]+(ms|[smhdw])")
_TIMEDELTA = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)(?=\)$)")


class ConfigError(ValueError):
    """A configuration that cannot be used. Names key, origin, value and fix, one per line."""


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ` Did you mean …?`, or the whole list where nothing is near."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(sorted(known))}"


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of leaving, and allows no abbreviations."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def flags(
    model: type[BaseModel],
    args: Sequence[str],
    program: str,
    *,
    config_flag: bool = False,
    enforce_required: bool = False,
) -> tuple[dict[str, Any], Path | None]:
    """Parse `args` by the model's fields; return the nested values and the file of `--config`.

    Raises:
        ConfigError: an unknown flag (names the nearest), or one without its value.

    """
    parser = _Parser(
        prog=program,
        description=inspect.cleandoc(model.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if config_flag:
        parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file to read")
    options: list[str] = []

    def add_argument(into: argparse._ActionsContainer, *names: str, **how: Any) -> argparse.Action:
        options.extend(names)
        if "metavar" in how:
            given = str(how["metavar"])
            structured = given.startswith(("dict[", "tuple[", "list["))
            how["metavar"] = "JSON" if structured else _METAVARS.get(given, given)
        how["help"] = _say_default(how.get("help") or "")
        return into.add_argument(*names, **how)

    source = CliSettingsSource[Any](
        model,  # type: ignore[arg-type]  # reads fields and docstring only, as CliApp does
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_enforce_required=enforce_required,
        cli_use_class_docs_for_groups=True,
        root_parser=parser,
        add_argument_method=add_argument,
    )
    parsed, unknown = parser.parse_known_args(_join_relative(args))
    if unknown:
        word = unknown[0].partition("=")[0]
        advice = nearest(word, options) if word.startswith("-") else "it is one argument too many"
        raise ConfigError(f"{word}: unknown argument; {advice}")
    given = vars(parsed)
    config = given.pop("config") if config_flag else None
    source(parsed_args=given)
    return source(), config


def _join_relative(args: Sequence[str]) -> list[str]:
    """Write `--since -24h` as `--since=-24h`, which argparse would take for a flag."""
    joined: list[str] = []
    for word in args:
        if _RELATIVE.fullmatch(word) and joined and joined[-1].startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _say_default(text: str) -> str:
    text = re.sub(r" ?\(default( factory: .*|: (None|\{\}|\(\)))\)$", "", text)
    return _TIMEDELTA.sub(_say_duration, text)


def _say_duration(found: re.Match[str]) -> str:
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return format_duration(timedelta(days, seconds, hours=hours, minutes=minutes))
