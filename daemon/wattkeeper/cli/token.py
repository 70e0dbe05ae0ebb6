"""`wattkeeper token`."""

import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from wattkeeper.aggregator.access.tokens import (
    ALL_NODES,
    AgentToken,
    ProxyToken,
    ReaderToken,
    Token,
    digest,
)
from wattkeeper.cli.command import Command, CommandError
from wattkeeper.cli.output import Format, console, emit_csv, emit_json, table
from wattkeeper.cli.token_files import add, listed, remove, write_secret, write_secrets
from wattkeeper.schedulers.hostlist import expand
from wattkeeper.values import Duration

_COLUMNS = ("name", "kind", "for", "expires", "state")
_TAKEN: dict[str, tuple[str, ...]] = {
    "agent": ("cluster", "nodes", "expires", "out"),
    "reader": ("role", "user", "accounts", "expires", "out"),
    "proxy": ("role", "expires", "out"),
    "list": ("format",),
    "revoke": ("name",),
}


class TokenCommand(Command):
    """Make, list and revoke tokens, by which the aggregator knows who asks and who delivers.

    agent     of nodes: each delivers for itself only. One file a node in --out, or one for all of
              a cluster's with --nodes '*'
    reader    of a person or a program: --role user (own jobs), manager (also those of
              --accounts), operator (everything), scraper (/metrics and discovery)
    proxy     of something that asks for users whom it names in a header: a relay on a login
              node, a proxy before the page. None of them counts for more than --role
    list      what there is, and what has expired
    revoke    take one out by its name

    The tokens file is access.tokens_file of aggregator.toml. It holds hashes: a token is told once,
    and whoever loses it needs another. The aggregator reads the file when it changes. To rotate,
    make the new token, take it into use, revoke the old one.

    Examples:
      wattkeeper token agent --cluster west --nodes 'node[001-100]' --out tokens/ --expires 365d
      wattkeeper token reader --role scraper --out /etc/prometheus/wattkeeper.token
      wattkeeper token reader --role user --user alice --expires 90d
      wattkeeper token proxy --out /etc/wattkeeper/relay.token
      wattkeeper token list
      wattkeeper token revoke 'west/node001 3f2a9c01'
    """

    action: CliPositionalArg[Literal["agent", "reader", "proxy", "list", "revoke"]] = Field(
        description="what to do"
    )
    name: CliPositionalArg[str | None] = Field(None, description="which one to revoke")
    cluster: str = Field("default", description="agent: the cluster, as its agents have it")
    nodes: str | None = Field(None, description="agent: node[001-100], or * for all in one token")
    role: Literal["user", "manager", "operator", "scraper"] | None = Field(
        None, description="reader: what it is; proxy: the most that its users are, manager"
    )
    user: str | None = Field(None, description="reader: whose token it is")
    accounts: str | None = Field(None, description="reader: physics,chemistry for a manager")
    expires: Duration | None = Field(None, description="how long it counts: 90d; for ever")
    out: Path | None = Field(
        None, description="agent: folder of the files; else: file instead of standard output"
    )
    tokens_file: Path | None = Field(None, description="instead of access.tokens_file")
    format: Format = Field("table", description="list: how to print")

    def run(self) -> int:
        """Do it."""
        self._check()
        path = self.tokens_file or _configured()
        if self.action == "list":
            self._list(path)
        elif self.action == "revoke":
            remove(path, self.name or "")
            print(f"{self.name} is revoked.")
        elif self.action == "agent":
            self._make_agents(path)
        else:
            self._make_one(path)
        return 0

    def _check(self) -> None:
        for name in sorted({one for names in _TAKEN.values() for one in names}):
            if name in self.model_fields_set and name not in _TAKEN[self.action]:
                flag = "NAME" if name == "name" else f"--{name}"
                raise CommandError(f"{flag} is not for `wattkeeper token {self.action}`")
        for action, name, flag in (
            ("revoke", "name", "NAME"),
            ("agent", "nodes", "--nodes"),
            ("agent", "out", "--out"),
            ("reader", "role", "--role"),
        ):
            if self.action == action and not getattr(self, name):
                raise CommandError(f"{flag} is missing; see `wattkeeper token --help`")

    def _make_agents(self, path: Path) -> None:
        assert self.nodes is not None
        assert self.out is not None
        try:
            names = [ALL_NODES] if self.nodes == ALL_NODES else expand(self.nodes)
        except ValueError as error:
            raise CommandError(f"--nodes: {error}") from error
        made, files = [], []
        for node in names:
            secret = _secret()
            called = self.cluster if node == ALL_NODES else node
            if "/" in called or called.startswith("."):
                raise CommandError(f"{called!r} cannot be the name of a file")
            token = AgentToken(
                name=_named(f"{self.cluster}/{node}", secret),
                sha256=digest(secret),
                expires=self._end(),
                cluster=self.cluster,
                nodes=node,
            )
            made.append(token)
            files.append((called, secret))
        add(path, made)
        write_secrets(self.out, files)
        print(
            f"{len(made)} tokens are in {self.out}, a file each; their hashes are in {path}. Put "
            "each on its node, of mode 0600, as aggregator.token_file of agent.toml"
        )

    def _make_one(self, path: Path) -> None:
        secret = _secret()
        try:
            token = self._token(secret)
        except ValueError as error:
            raise CommandError(str(error)) from error
        add(path, [token])
        if self.out is None:
            print(secret)
        else:
            try:
                write_secret(self.out, secret)
            except OSError as error:
                raise CommandError(f"--out: {self.out} ({error.strerror})") from error
        print(f"{token.name} counts now; its hash is in {path}.", file=sys.stderr)

    def _token(self, secret: str) -> Token:
        known: dict[str, Any] = {"sha256": digest(secret), "expires": self._end()}
        if self.action == "proxy":
            if self.role == "scraper":
                raise ValueError("--role: a proxy asks for users; it is user, manager or operator")
            name = _named("proxy", secret)
            return ProxyToken(name=name, role=self.role or "manager", **known)
        assert self.role is not None
        accounts = tuple(filter(None, (one.strip() for one in (self.accounts or "").split(","))))
        name = _named(self.user or self.role, secret)
        return ReaderToken(
            name=name, role=self.role, user=self.user or "", accounts=accounts, **known
        )

    def _end(self) -> datetime | None:
        if self.expires is None:
            return None
        return (datetime.now(UTC) + self.expires).replace(microsecond=0)

    def _list(self, path: Path) -> None:
        rows = list(_rows(listed(path)))
        if self.format == "json":
            emit_json(rows)
        elif self.format == "csv":
            emit_csv(rows, _COLUMNS)
        else:
            lines = [[str(row[name] or "-") for name in _COLUMNS] for row in rows]
            console().print(table(["name", "<kind", "<for", "<expires", "<state"], lines))


def _configured() -> Path:
    from wattkeeper.aggregator.config import AggregatorSettings
    from wattkeeper.settings import FOLDER, load

    path = load(AggregatorSettings, program="aggregator").access.tokens_file
    if path is None:
        raise CommandError(
            f"which file? Set access.tokens_file in {FOLDER / 'aggregator.toml'}, or give one "
            "with --tokens-file"
        )
    return path


def _secret() -> str:
    return f"wk_{secrets.token_urlsafe(32)}"


def _named(what: str, secret: str) -> str:
    """Return a name that another token of the same does not have."""
    return f"{what} {digest(secret)[:8]}"


def _rows(tokens: list[Token]) -> Iterator[dict[str, str | None]]:
    now_ms = time.time_ns() // 1_000_000
    for one in tokens:
        soon = one.expired(now_ms + timedelta(days=14) // timedelta(milliseconds=1))
        state = "expired" if one.expired(now_ms) else "ends soon" if soon else "counts"
        yield {
            "name": one.name,
            "kind": str(one.__struct_config__.tag),
            "for": _for(one),
            "expires": None if one.expires is None else one.expires.isoformat(),
            "state": state,
        }


def _for(token: Token) -> str:
    if isinstance(token, AgentToken):
        return f"{token.cluster}/{token.nodes}"
    if isinstance(token, ProxyToken):
        return f"users, {token.role} at most"
    return " ".join(filter(None, (token.role, token.user, ",".join(token.accounts))))
