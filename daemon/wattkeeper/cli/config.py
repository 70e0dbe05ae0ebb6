"""`wattkeeper config`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg

from wattkeeper.cli.command import Command
from wattkeeper.cli.output import Format, console, emit_csv, emit_json, table
from wattkeeper.flags import ConfigError
from wattkeeper.settings import FOLDER, Loaded, load_with_origins

Program = Literal["agent", "aggregator"]


class Config(Command):
    """Check the configuration of agent and aggregator, or show it with its origins.

    Flags beat the environment, the environment beats the file, the file beats the default.
    Exit code 2 if a file or variable cannot be used; the key is named.

    Examples:
      wattkeeper config check
      wattkeeper config show agent
      wattkeeper config check agent --config /srv/agent.toml
    """

    action: CliPositionalArg[Literal["check", "show"]] = Field(description="check or show")
    program: CliPositionalArg[Program | None] = Field(None, description="agent or aggregator")
    config: Path | None = Field(None, description="this file, instead of the one in /etc")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Load and print."""
        if self.config is not None and self.program is None:
            raise ConfigError("PROGRAM: whose file is it? Say agent or aggregator")
        programs: tuple[Program, ...] = (
            (self.program,) if self.program is not None else ("agent", "aggregator")
        )
        loaded = {program: _load(program, self.config) for program in programs}
        if self.action == "check":
            for program in programs:
                _try_certificates(loaded[program].settings)
                print(f"{program}: fine ({self.config or _source(program)})")
                for remark in _remarks(loaded[program].settings):
                    print(f"{program}: {remark}")
            return 0
        self._show(loaded)
        return 0

    def _show(self, loaded: dict[Program, Loaded[Any]]) -> None:
        rows = [
            {"program": program, "key": key, "value": value, "origin": found.origin(key)}
            for program, found in loaded.items()
            for key, value in _leaves(found.settings)
        ]
        if self.format == "json":
            emit_json(rows)
        elif self.format == "csv":
            emit_csv(rows, ("program", "key", "value", "origin"))
        else:
            for program in loaded:
                lines = [
                    [row["key"], _say(row["value"]), row["origin"]]
                    for row in rows
                    if row["program"] == program
                ]
                console().print(table(["key", "<value", "<origin"], lines, title=program))


def _source(program: Program) -> str:
    path = FOLDER / f"{program}.toml"
    return str(path) if path.exists() else f"no {path}; environment and defaults"


def _load(program: Program, config: Path | None) -> Loaded[Any]:
    if program == "agent":
        from wattkeeper.agent.config import AgentSettings

        return load_with_origins(AgentSettings, program=program, config_path=config)
    from wattkeeper.aggregator.config import AggregatorSettings

    return load_with_origins(AggregatorSettings, program=program, config_path=config)


def _try_certificates(settings: BaseModel) -> None:
    """Read what is only named by the settings.

    Raises:
        ConfigError: a certificate, key or token cannot be used.

    """
    from wattkeeper.agent.config import AgentSettings
    from wattkeeper.tls.server import ServerCertificates

    section = settings.tls_server_config  # type: ignore[attr-defined]  # both programs have it
    if section.on and (trouble := ServerCertificates(section).trouble):
        raise ConfigError(trouble)
    if isinstance(settings, AgentSettings):
        from wattkeeper.agent.build import transport

        way = transport(settings)
        if way is not None:
            way.credentials()


def _remarks(settings: BaseModel) -> Iterator[str]:
    """Yield what is right, and may yet be meant otherwise."""
    factors = getattr(settings, "factors", None)
    for name, section in factors or ():
        if section.constant:
            yield (
                f"factors.{name}.value counts at all times, closed periods too; where it changes, "
                f"write old and new into a table, factors.{name}.file"
            )


def _leaves(model: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with values as JSON has them; secrets come masked."""
    dumped = model.model_dump(mode="json")
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{above}{name}.")
        elif isinstance(value, dict) and value and _are_tables(value.values()):
            for key, table in value.items():
                yield from _leaves(table, f"{above}{name}.{key}.")
        else:
            yield f"{above}{name}", dumped[name]


def _are_tables(values: Iterable[Any]) -> bool:
    return all(isinstance(value, BaseModel) for value in values)


def _say(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
