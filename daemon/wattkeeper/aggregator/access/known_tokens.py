"""The tokens that count now: those of the file, read again when it changes."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path

from wattkeeper.aggregator.access.tokens import Token, TokensError, digest, read
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.model.state import Finding, State
from wattkeeper.values import milliseconds

_LOOK_S = 2.0
_SOON_MS = milliseconds(timedelta(days=14))
_TROUBLE = "access.tokens_file"
_NAMED = 5


class KnownTokens:
    """Tokens by their hashes. A file that cannot be used leaves those that were there before."""

    def __init__(self, path: Path | None, troubles: Troubles, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._troubles = troubles
        self._now_ms = now_ms
        self._by_hash: Mapping[str, Token] = {}
        self._stamp: tuple[int, ...] | None = None

    def find(self, shown: str) -> Token | None:
        """Return the token that is shown, None if there is none; it may have expired.

        What is looked up is a hash: how long that takes tells nothing about a token.
        """
        return self._by_hash.get(digest(shown))

    def all(self) -> Collection[Token]:
        """Return the tokens that count."""
        return list(self._by_hash.values())

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the task that reads the file whenever it changes, until it is cancelled."""
        return [] if self._path is None else [asyncio.create_task(self._follow(), name="tokens")]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the file if it is another than the one that was read. Blocks."""
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp is not None and stamp == self._stamp:
            return
        try:
            found = read(self._path)
        except TokensError as error:
            self._troubles.failed(_TROUBLE, error)
            return
        finally:
            self._stamp = stamp
        self._by_hash = {one.sha256: one for one in found}
        self._troubles.recovered(_TROUBLE)

    def findings(self) -> list[Finding]:
        """Return how it goes with the file, and what expires soon."""
        if self._path is None:
            return []
        if why := self._troubles.why(_TROUBLE):
            fix = "the tokens that were there before count on; `wattkeeper token list` checks it"
            return [Finding("access", State.FAILING, why, fix)]
        soon_ms = self._now_ms() + _SOON_MS
        soon = sorted(one.name for one in self._by_hash.values() if one.expired(soon_ms))
        detail = f"{len(self._by_hash)} tokens count"
        if not soon:
            return [Finding("access", State.OK, detail)]
        named = ", ".join(soon[:_NAMED]) + (", …" if len(soon) > _NAMED else "")
        detail += f"; {len(soon)} of them end within 14 days: {named}"
        return [Finding("access", State.OK, detail, "make others with `wattkeeper token`")]


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file, None while it cannot be told.

    A file that was written just now may be written again within its clock's tick.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    settled = time.time() - max(found.st_mtime, found.st_ctime) > _LOOK_S
    if not settled:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
