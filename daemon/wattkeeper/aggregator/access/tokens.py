"""The tokens file: what each token is, by the hash of it.

A token is 256 bits drawn at random, so that its SHA-256 tells nothing of it and needs no salt.
"""

import hashlib
import re
import stat
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from wattkeeper.schedulers.hostlist import expand

ALL_NODES = "*"
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Expiry = Annotated[datetime, msgspec.Meta(tz=True)]
ReaderRole = Literal["user", "manager", "operator", "scraper"]
Highest = Literal["user", "manager", "operator"]


class TokensError(Exception):
    """A tokens file that cannot be used. Names the entry, and what to do."""


class _Entry(msgspec.Struct, kw_only=True, tag_field="kind", forbid_unknown_fields=True, dict=True):
    """A token. `name` is what people call it by; it is no secret."""

    name: Name
    sha256: Sha256
    expires: Expiry | None = None

    def expired(self, now_ms: int) -> bool:
        """Tell whether it counts no more."""
        return self.expires is not None and self.expires.timestamp() * 1000 <= now_ms


class AgentToken(_Entry, tag="agent"):
    """It delivers for nodes of one cluster: a host list, or `*` for each of them."""

    cluster: Name
    nodes: Annotated[str, msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        _ = self.names  # a host list that is none is an error of the file

    @cached_property
    def names(self) -> frozenset[str] | None:
        """The nodes; None is every one."""
        return None if self.nodes == ALL_NODES else frozenset(expand(self.nodes))


class ReaderToken(_Entry, tag="reader"):
    """It asks, as a user with these accounts, or as a program."""

    role: ReaderRole
    user: str = ""
    accounts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.role in ("user", "manager") and not self.user:
            raise ValueError(f"user is missing; whose jobs does role {self.role} see?")
        if (self.role == "manager") != bool(self.accounts):
            raise ValueError("accounts belong to role manager, and to no other")


class ProxyToken(_Entry, tag="proxy"):
    """It asks for users whom it names in headers, none of whom counts for more than `role`."""

    role: Highest = "manager"


Token = AgentToken | ReaderToken | ProxyToken


class _File(msgspec.Struct, forbid_unknown_fields=True):
    token: list[Token] = []


_ENTRY = re.compile(r"\$\.token\[(\d+)\]")


def digest(token: str) -> str:
    """Return the hash by which a token is known."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def parse(text: str) -> list[Token]:
    """Return the tokens of a file.

    Raises:
        TokensError: no TOML, or an entry that is wrong.

    """
    try:
        found = msgspec.convert(tomllib.loads(text), _File).token
    except tomllib.TOMLDecodeError as error:
        raise TokensError(f"is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        # Counted as people do, who find no index in the file.
        told = _ENTRY.sub(lambda found: f"token number {int(found[1]) + 1}, ", str(error))
        raise TokensError(told) from error
    for what in ("name", "sha256"):
        seen: set[str] = set()
        for one in found:
            if (value := getattr(one, what)) in seen:
                raise TokensError(f"two tokens have the {what} {value}")
            seen.add(value)
    return found


def read(path: Path) -> list[Token]:
    """Return the tokens of a file. Blocks.

    Raises:
        TokensError: it cannot be read, is wrong, or others may write it.

    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokensError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TokensError(f"{path} is no text") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TokensError(f"{path} may be written by others than its owner: chmod go-w {path}")
    try:
        return parse(text)
    except TokensError as error:
        raise TokensError(f"{path}: {error}") from error


def entry(token: Token) -> str:
    """Return a token as it stands in the file."""
    told = msgspec.to_builtins(token, builtin_types=(datetime,))
    first = {name: told.pop(name) for name in ("name", "kind")}
    lines = [f"{key} = {_value(value)}" for key, value in (first | told).items() if value]
    return "\n".join(["[[token]]", *lines, ""])


def _value(value: str | datetime | Sequence[str]) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A string of JSON is one of TOML, but for what JSON leaves as it is: DEL.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
