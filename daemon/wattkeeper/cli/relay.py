"""`wattkeeper relay`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, HttpUrl, model_validator

from wattkeeper.aggregator.access.config import GROUPS_HEADER, USER_HEADER
from wattkeeper.cli.command import CommandError
from wattkeeper.settings import Settings, load
from wattkeeper.supervised.daemon import Daemon, run_until_signal
from wattkeeper.supervised.journal import set_up
from wattkeeper.values import LogLevel


class RelaySettings(Settings):
    """Let the users of a login node ask an aggregator elsewhere, each for what is theirs.

    It listens on a unix socket, which tells who connects, and asks with a token of kind `proxy`.
    `wattkeeper job` and the others then just work, also over ssh: they find the socket by
    themselves. It needs no rights of its own; run it as a user that alone may read the token.

    Every key below may also stand in /etc/wattkeeper/relay.toml, or in the environment as
    WATTKEEPER_RELAY_URL, …

    Examples:
      wattkeeper token proxy --out relay.token        on the aggregator's machine
      wattkeeper relay --url https://aggregator:9746 --token-file /etc/wattkeeper/relay.token
    """

    url: HttpUrl = Field(description="the aggregator, https://aggregator:9746")
    token_file: Path = Field(description="file with a token of kind proxy, read for each question")
    socket: Path = Field(
        Path("/run/wattkeeper/aggregator.sock"), description="where it listens; clients look there"
    )
    ca: Path | None = Field(
        None, description="authority of the aggregator's certificate, PEM; the system's if unset"
    )
    certificate: Path | None = Field(None, description="certificate that is shown, PEM")
    key: Path | None = Field(None, description="its key, PEM; if unset, in certificate's file")
    user_header: str = Field(USER_HEADER, description="access.proxy_user_header of the aggregator")
    groups_header: str = Field(
        GROUPS_HEADER, description="access.proxy_groups_header of the aggregator"
    )
    log_level: LogLevel = Field("info", description="what is logged: this, and what is graver")

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.url.scheme != "https" and (self.ca or self.certificate):
            raise ValueError("ca and certificate are for TLS only; write https:// in url")
        if not self.socket.is_absolute():
            raise ValueError("socket is no absolute path; write /run/wattkeeper/aggregator.sock")
        return self


@dataclass(frozen=True, slots=True)
class Relay:
    """Ask for the users of this machine until told to stop."""

    settings: RelaySettings

    @classmethod
    def parse(cls, args: Sequence[str], _program: str) -> "Relay":
        """Read file, environment and flags."""
        return cls(load(RelaySettings, program="relay", cli_args=args))

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM."""
        from wattkeeper.listening.unix_door import SocketError

        set_up(self.settings.log_level)
        try:
            run_until_signal(self._serve)
        except SocketError as error:
            raise CommandError(f"socket: {error}") from error
        return 0

    async def _serve(self, daemon: Daemon) -> None:
        from wattkeeper.aggregator.access.relaying import Relay as Relaying
        from wattkeeper.aggregator.access.relaying import Way
        from wattkeeper.tls.client import ClientCertificates

        given = self.settings
        way = Way(
            str(given.url).rstrip("/"),
            given.token_file,
            ClientCertificates(given.ca, given.certificate, given.key),
            given.user_header,
            given.groups_header,
        )
        async with Relaying(way).listening(given.socket):
            daemon.ready(time.monotonic)
            await daemon.stop.wait()
