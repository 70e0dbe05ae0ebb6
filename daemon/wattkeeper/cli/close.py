"""`wattkeeper close`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from wattkeeper.cli.client import tell
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import Format
from wattkeeper.cli.statement import print_statement
from wattkeeper.tls.token import read_token

_PATIENCE_S = 1800.0
"""Every period that was closed before is counted again."""


class Close(Command):
    """Close a period: freeze what accounts used, and what it cost, as a statement.

    It is kept in the ledger with a hash, and holds the hash of the one before. What is booked
    to the period later (a backlog that arrives, a name that is corrected, a factor that was
    estimated) stands in the next statement as an adjustment. A period has to have ended, and
    no part of it may be closed already. Statements name accounts, never people.

    Where the aggregator has a `token`, it is to be shown: --token-file, or WATTKEEPER_TOKEN.

    Examples:
      wattkeeper close 2026-03
      wattkeeper close 2026-03 --timezone Europe/Berlin --token-file /etc/wattkeeper/token
      wattkeeper close 2026-Q1 --format json > 2026-Q1.json
    """

    period: CliPositionalArg[str] = Field(description="2026-03, 2026-Q1, 2026, 2026-03-14")
    timezone: str = Field("UTC", description="whose days they are: Europe/Berlin")
    token_file: Path | None = Field(None, description="file with the aggregator's token")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print the statement")

    def run(self) -> int:
        """Close it and print the statement."""
        body = {"period": self.period, "timezone": self.timezone}
        made = tell(self.url, "/v1/statements", body, token=self._token(), patience_s=_PATIENCE_S)
        print_statement(made, self.format)
        return 0

    def _token(self) -> str | None:
        return None if self.token_file is None else read_token(self.token_file, "--token-file")
