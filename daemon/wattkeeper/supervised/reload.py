"""Reads the configuration again while a daemon runs, and takes from it what can be taken."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from pydantic import BaseModel

from wattkeeper.flags import ConfigError

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


class Reload(Generic[M]):
    """One daemon's configuration as it runs.

    `read` gives what it would be started with now. `takers` take a value over, by dotted key; any
    other that differs from the running one is named in the log, and waits for a restart.
    """

    def __init__(
        self, running: M, read: Callable[[], M], takers: Mapping[str, Callable[[M], None]]
    ) -> None:
        self._running = running
        self._read = read
        self._takers = takers

    async def __call__(self) -> None:
        """Read and take over; a configuration that is wrong changes nothing."""
        try:
            found = await asyncio.to_thread(self._read)
        except ConfigError as error:
            for line in str(error).splitlines():
                log.error("reload: %s; all stays as it is", line)  # noqa: TRY400 -- no fault of ours
            return
        for take in self._takers.values():
            take(found)
        log.info("reload: %s as they are now", ", ".join(self._takers))
        for key in _differences(self._running, found):
            if key not in self._takers:
                log.warning("reload: %s differs; restart to take it over", key)


def _differences(before: BaseModel, after: BaseModel, above: str = "") -> Iterator[str]:
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from _differences(old, new, f"{above}{name}.")
        elif old != new:
            yield above + name
