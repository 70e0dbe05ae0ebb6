"""The contract of every store, on real engines."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.telemetry.contract import StoreContract
from tests.telemetry.engines import Engine, prometheus, victoria_metrics

from wattkeeper.telemetry.base import TelemetryStore
from wattkeeper.telemetry.remote import RemoteStore
from wattkeeper.telemetry.remote_cursors import SqliteCursors
from wattkeeper.telemetry.remote_options import RemoteOptions


class _RemoteContract(StoreContract):
    """Each store has an engine of its own, which knows nothing yet."""

    def engine(self, stack: ExitStack, folder: Path) -> Engine:
        """Start one."""
        raise NotImplementedError

    @contextmanager
    def empty_store(self) -> Iterator[TelemetryStore]:
        """Return a store on a new engine."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._engine = self.engine(stack, folder)
            cursors = SqliteCursors(folder / "cursors.sqlite")
            store = RemoteStore(RemoteOptions(self._engine.write_url), cursors, folder / "refused")
            stack.callback(store.close)
            yield store

    def settle(self, store: TelemetryStore) -> None:
        """Make what was written visible."""
        self._engine.flush()


@pytest.mark.engines
class TestPrometheus(_RemoteContract):
    """Prometheus 2, whose ranges hold both of their ends."""

    def engine(self, stack: ExitStack, folder: Path) -> Engine:
        """Start one that takes samples of any order."""
        return stack.enter_context(prometheus(folder, "30d"))


@pytest.mark.engines
class TestVictoriaMetrics(_RemoteContract):
    """VictoriaMetrics, whose ranges hold the later end only."""

    def engine(self, stack: ExitStack, folder: Path) -> Engine:
        """Start one."""
        return stack.enter_context(victoria_metrics(folder))
