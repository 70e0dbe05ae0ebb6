"""What the commands have in common: a model of their arguments, and errors for people."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from wattkeeper.flags import ConfigError, flags

PROGRAM = os.environ.get("WATTKEEPER_PROGRAM", "wattkeeper")
"""How this program was started, for hints that can be typed as they stand."""


class CommandError(Exception):
    """A command that cannot give its answer. The message says what to do."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Command(BaseModel):
    """The arguments of a command. The docstring of a command is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def run(self) -> int:
        """Do it and return the exit code: 0 fine, 1 "no", 2 wrong use, 3 nobody answers."""

    @classmethod
    def parse(cls, args: Sequence[str], program: str) -> "Command":
        """Return the command with its arguments.

        Raises:
            ConfigError: names the argument that is wrong.

        """
        return parse_model(cls, args, program)


C = TypeVar("C", bound=BaseModel)


def parse_model(model: type[C], args: Sequence[str], program: str) -> C:
    """Read `args` by the fields of a model.

    Raises:
        ConfigError: an argument that is unknown, missing or wrong; names it.

    """
    values, _ = flags(model, args, program, enforce_required=True)
    try:
        return model(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(model, item) for item in error.errors())) from error


def parse(command: Any, args: Sequence[str], program: str) -> Any:
    """Return `command` (a model, or a class with its own `parse`) with its arguments."""
    own = getattr(command, "parse", None)
    if own is not None:
        return own(args, program)
    return parse_model(command, args, program)


def _explain(model: type[BaseModel], item: Any) -> str:
    name = str(item["loc"][0]) if item["loc"] else "arguments"
    field = model.model_fields.get(name)
    positional = field is not None and any("Positional" in str(m) for m in field.metadata)
    flag = name.upper() if positional else "--" + name.replace("_", "-")
    return f"{flag}: {item['input']!r} {item['msg'].removeprefix('Value error, ')}"
