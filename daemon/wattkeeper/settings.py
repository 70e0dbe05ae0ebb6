"""Configuration from file, environment and flags, the same for every program.

A settings model derives from `Settings`, its nested tables from `Section`. `load` puts together
the TOML file, `WATTKEEPER_<PROGRAM>_…` variables (`__` between levels) and flags, the later ones
first. An unknown key is an error wherever it stands, and every error says where the value came
from. Imports nothing of ours: both wings stand on it.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from wattkeeper.flags import ConfigError, flags, nearest
from wattkeeper.folders import FOLDER, data_dir
from wattkeeper.values import Address, Duration, hide_passwords, host_port

__all__ = [
    "FOLDER",
    "Address",
    "ConfigError",
    "Duration",
    "Loaded",
    "Section",
    "Settings",
    "data_dir",
    "host_port",
    "load",
    "load_with_origins",
]

DEFAULT = "default"
_INJECTED = re.compile(
    r"(.+_)?SERVICE_(HOST|PORT(_.+)?)|(.+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
"""Names that Kubernetes gives every pod for a service called `wattkeeper-…`."""
_INJECTED_URL = re.compile(r"(tcp|udp|sctp)://")


class Section(BaseModel):
    """A table of a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(BaseSettings):
    """A program's configuration. Constructing one reads nothing but its arguments."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    @classmethod
    def settings_customise_sources(
        cls, *_: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the sources to `load`, so that a model built in code is what the code says."""
        return (sources["init_settings"],)


M = TypeVar("M", bound=Settings)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """Settings, and by dotted key where each value that is not a default came from."""

    settings: M
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Return the origin of a dotted key: a file, a variable, a flag or `default`."""
        while key and key not in self.origins:
            key = key.rpartition(".")[0]
        return self.origins.get(key, DEFAULT)


def load(
    model: type[M],
    *,
    program: str,
    cli_args: Sequence[str] = (),
    config_path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    command: str | None = None,
) -> M:
    """Return the settings of `program` (`agent`, `aggregator`); see `load_with_origins`."""
    return load_with_origins(
        model,
        program=program,
        cli_args=cli_args,
        config_path=config_path,
        overrides=overrides,
        environ=environ,
        command=command,
    ).settings


def load_with_origins(
    model: type[M],
    *,
    program: str,
    cli_args: Sequence[str] = (),
    config_path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    command: str | None = None,
) -> Loaded[M]:
    """Read every source and return the settings with the origin of each value.

    `overrides` (nested) beat flags, flags beat the environment, the environment beats the file
    (`config_path`, else `--config` in `cli_args`, else `/etc/wattkeeper/<program>.toml` if it is
    there). `--help` among the flags prints the help of `command` (the program's own, if it is
    not another that takes the same flags) and leaves.

    Raises:
        ConfigError: everything that is wrong, one line each.

    """
    flagged, chosen = flags(model, cli_args, command or f"wattkeeper {program}", config_flag=True)
    path = config_path or chosen
    prefix = f"WATTKEEPER_{program.upper()}_"
    variables = os.environ if environ is None else environ
    named = dict(_variables(model, prefix, variables))
    layers = [
        (_read_file(path, FOLDER / f"{program}.toml"), str(path or FOLDER / f"{program}.toml")),
        (_read_environment(model, prefix, variables), None),
        (flagged, "flag"),
        (dict(overrides or {}), "program"),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for values, origin in layers:
        _merge(merged, values)
        for key in _leaves(model, values):
            if origin == "flag":
                origins[key] = "--" + key.replace("_", "-")
            else:
                origins[key] = origin or named.get(key, prefix + key.upper().replace(".", "__"))
    try:
        return Loaded(model(**merged), origins)
    except ValidationError as error:
        lines = [_explain(model, item, origins) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _read_file(chosen: Path | None, usual: Path) -> dict[str, Any]:
    path = chosen or usual
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if chosen is None:
            return {}
        raise ConfigError(f"{path}: there is no such file; check --config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error


def _read_environment(
    model: type[BaseSettings], prefix: str, variables: Mapping[str, str]
) -> dict[str, Any]:
    source = EnvSettingsSource(model, env_prefix=prefix)
    source.env_vars = {
        name.lower(): value
        for name, value in variables.items()
        if value and not _injected(name.removeprefix(prefix), value)
    }
    try:
        return source()
    except SettingsError as error:
        raise ConfigError(f"{prefix}…: {error}; write lists and tables as JSON") from error


def _variables(
    model: type[BaseModel], prefix: str, variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, name) of our variables; an unknown one is an error.

    pydantic-settings looks only for the names it knows, so a misspelt one would be ignored.
    """
    for name, value in variables.items():
        rest = name.removeprefix(prefix)
        if not name.startswith(prefix) or _injected(rest, value):
            continue
        key = rest.lower().replace("__", ".")
        _, table, flaw = _field(model, key.split("."))
        if flaw is not None:
            above = key[: key.rindex(flaw)].replace(".", "__").upper()
            known = [f"{prefix}{above}{field.upper()}" for field in table.model_fields]
            raise ConfigError(f"{_printable(name)}: unknown key; {nearest(name, known)}")
        yield key, name


def _injected(rest: str, value: str) -> bool:
    if _INJECTED.fullmatch(rest):
        return True
    return rest.endswith("PORT") and _INJECTED_URL.match(value) is not None


def _field(model: type[BaseModel], path: Sequence[str]) -> tuple[Any, type[BaseModel], str | None]:
    """Follow a key into nested tables: (annotation, table it is in, first unknown part)."""
    table: type[BaseModel] = model
    annotation: Any = model
    parts = iter(path)
    for part in parts:
        field = table.model_fields.get(part)
        if field is None:
            return None, table, part
        annotation = field.annotation
        if get_origin(annotation) is dict:
            # A table of tables: the next part is a name.
            annotation = get_args(annotation)[1] if next(parts, None) is not None else annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        table = annotation
    return annotation, table, None


def _leaves(
    model: type[BaseModel], values: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[str]:
    for name, value in values.items():
        path = (*above, name)
        annotation = _field(model, path)[0]
        nested = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if nested and isinstance(value, Mapping):
            yield from _leaves(model, value, path)
        else:
            yield ".".join(path)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        below = into.get(name)
        if isinstance(below, dict) and isinstance(value, Mapping):
            _merge(below, value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _explain(model: type[BaseModel], item: Any, origins: Mapping[str, str]) -> str:
    """Return one line: where, which key, what it says, what is wrong, what to do."""
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    about = (k for k in origins if f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}."))
    origin = next((origins[k] for k in about), DEFAULT)
    said = _printable(key)
    where = f"{origin}: {said}" if key and not origin.startswith("--") else origin
    if item["type"] == "extra_forbidden":
        table = _field(model, path)[1]
        return f"{where}: unknown key; {nearest(path[-1], list(table.model_fields))}"
    if item["type"] == "missing":
        return f"{said}: has no value and no default; set it in the file, the environment or a flag"
    # Of a table the message itself says which key is meant.
    hidden = "token" in key or isinstance(item["input"], Mapping)
    shown = "" if hidden else hide_passwords(f" {item['input']!r}")[:120]
    return f"{where}:{shown} {_printable(item['msg'].removeprefix('Value error, '))}"


def _printable(text: str) -> str:
    """Return a text in one line that no terminal obeys."""
    return text if text.isprintable() else repr(text)[1:-1]
