"""`[access]` of aggregator.toml: who may ask, and how they prove who they are."""

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from wattkeeper.settings import Section

USER_HEADER = "X-Forwarded-User"
GROUPS_HEADER = "X-Forwarded-Groups"
_LOCALHOST = ("localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback")

Anonymous = Literal["operator", "public", "none"]


def is_loopback(address: str) -> bool:
    """Tell whether a host, with or without a port, is this machine as it calls itself."""
    try:
        host = urlsplit(f"//{address}").hostname or ""
        if host in _LOCALHOST or host.endswith(".localhost"):
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AccessSection(Section):
    """Who may ask for what; docs/security.md has the roles."""

    anonymous: Anonymous | None = Field(
        None,
        description="who a caller without any proof is: operator, public or none; by default "
        "operator where listen is this machine's alone and no proof is set up below, else public",
    )
    tokens_file: Path | None = Field(
        None, description="hashes of tokens, as `wattkeeper token` writes it; read when it changes"
    )
    proxy_from: tuple[str, ...] = Field(
        (), description="addresses or networks of proxies that say in a header who asks"
    )
    proxy_user_header: str = Field(USER_HEADER, description="header with the user's name")
    proxy_groups_header: str = Field(
        GROUPS_HEADER, description="header with the user's groups, separated by commas"
    )
    operators: tuple[str, ...] = Field((), description="users that may ask for everything")
    operator_groups: tuple[str, ...] = Field((), description="groups whose users may, too")
    managers: dict[str, tuple[str, ...]] = Field(
        {}, description='users that see all jobs of an account: {"physics": ["ann"]}'
    )
    socket: Path | None = Field(
        None, description="unix socket that knows who asks: /run/wattkeeper/aggregator.sock"
    )

    @field_validator("proxy_from")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError as error:
                raise ValueError(f"{one!r} is no address or network: {error}") from error
        return value

    @field_validator("socket")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("is no absolute path; write /run/wattkeeper/aggregator.sock")
        return value

    def anonymous_at(self, listen: str) -> Anonymous:
        """Return who a caller without any proof is, where the aggregator listens at an address.

        Where a proof is set up, the proxy that asks for others may be on this machine.
        """
        if self.anonymous is not None:
            return self.anonymous
        proof = self.tokens_file or self.proxy_from or self.socket
        return "operator" if is_loopback(listen) and not proof else "public"
