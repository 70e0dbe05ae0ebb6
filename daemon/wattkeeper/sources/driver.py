"""GPUs through their driver's library, in a child process that may hang without harm."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from wattkeeper.model.meter import MeterSpec, Partition
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.base import DeviceProcess
from wattkeeper.sources.driver_gpus import Driver, Gpus, healthy
from wattkeeper.sources.driver_load import driver_load, pci_addresses
from wattkeeper.sources.driver_patience import Patience, Releases, Retries
from wattkeeper.sources.driver_process import MAX_ABANDONED, Child, Leaving
from wattkeeper.sources.driver_readings import meter_name
from wattkeeper.sources.driver_wire import Failed, GpuAnswer, Hello


class DriverSource:
    """A `Source`, `ProcessLister` and `Releasable` over one maker's driver.

    A child whose handles are broken is replaced, never repaired: a new process also loads the
    new library after a driver upgrade. The new one is started beside the old one, so that a lost
    GPU costs the others no sample. `options`: what the child's `main` takes before the PCI
    addresses of the only GPUs to open; `folders`: what it imports from besides this package.
    """

    def __init__(
        self,
        driver: Driver,
        options: Sequence[str],
        folders: Sequence[str],
        path_sysfs: Path,
        path_procfs: Path,
        patience: Patience | None = None,
    ) -> None:
        self._driver = driver
        self._options = options
        self._folders = folders
        self._path_sysfs = path_sysfs
        self._path_procfs = path_procfs
        self._patience = patience or Patience()
        self._gpus = Gpus(driver)
        self._child: Child | None = None
        self._leaving = Leaving()
        self._replacing: asyncio.Task[None] | None = None
        self._problem: Finding | None = None
        self._releases = Releases()
        self._retries = Retries(self._patience)
        self._by_place = False
        self._force = False
        self._hurry = False
        self._last_word = 0.0
        self._adopted_at = 0.0

    @property
    def name(self) -> str:
        """Return the driver's short name."""
        return self._driver.name

    async def start(self) -> None:
        """Start the first child; goes on without it if the driver takes its time."""
        self._see_to_child()
        if self._replacing is not None:
            await asyncio.wait({self._replacing}, timeout=self._patience.start_s)
        if self._child is not None:
            await self.read(self._patience.attach_s)  # carries the slow values of the first

    def meters(self) -> Sequence[MeterSpec]:
        """Return every GPU ever seen: a lost one keeps its meter."""
        return self._gpus.specs()

    def gauges(self) -> Sequence[Gauge]:
        """Return nothing: all live values belong to a GPU."""
        return ()

    def processes(self) -> Mapping[str, Sequence[DeviceProcess]]:
        """Return the processes on each GPU as of the last ten seconds."""
        return self._gpus.processes()

    def partitions(self) -> Mapping[str, Partition]:
        """Return the parts of divided GPUs by UUID, as of the last ten seconds."""
        return self._gpus.partitions()

    def hurry(self) -> None:
        """Look at processes every two seconds for a while: holders come and go just now."""
        self._hurry = True

    def findings(self) -> Sequence[Finding]:
        """Return the state of the driver, then of each GPU."""
        return [self._own_finding(), *self._gpus.findings()]

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Return what answered in time; sees to a sick child besides, without waiting for it."""
        if self._releases.over() and not self._force:
            self._force = True  # a child that opens again what was released
            self._retries.at_once()
        self._see_to_child()
        while (child := self._child) is not None:
            hurry, self._hurry = self._hurry, False
            answers = await child.ask(deadline_s, hurry=hurry)
            if child is self._child:
                return self._take(child, answers)
            # It was replaced meanwhile: its successor is asked, so that no tick is lost.
        return []

    def _take(self, child: Child, answers: Sequence[GpuAnswer] | None) -> Sequence[Reading]:
        if answers is None:
            call = "the process" if child.alive else "a process that has ended"
            detail = f"no answer from {call} (pid {child.pid})"
            self._gpus.all_are(State.STALE, detail, but=self._releases.still())
            return []
        readings = self._gpus.learn(answers, self._releases.asked_for())
        if self._gpus.answering:
            self._last_word = time.monotonic()
        return readings

    async def release(self, meter: str | None, for_s: float) -> Sequence[str]:
        """Close the driver for one GPU or all; readings come back by UUID after `for_s` seconds.

        Returns the meters that were let go, once no process of ours has the device open.

        Raises:
            ValueError: an unknown meter, or a time that is not positive.
            TimeoutError: the process hangs in the driver and still has the device open.

        """
        if for_s <= 0:
            raise ValueError(f"for_s must be above 0, not {for_s:g}")
        uuid = None if meter is None else self._gpus.uuid(meter)
        if not self._driver.one_by_one:
            uuid = None
        await self._stop_replacing()
        self._releases.add(uuid, for_s)
        old = self._child
        if not self._releases.all_of(len(self._gpus)):
            self._replacing = asyncio.create_task(self._replace(force=True))
            await self._replacing
        if self._child is old and old is not None:
            self._drop("closed for a release")
        if uuid is None:
            self._gpus.all_are(State.RELEASED, f"released for {for_s:g} s")
        else:
            self._gpus.one_is(uuid, State.RELEASED, f"released for {for_s:g} s")
        await self._leaving.ended(self._patience.end_s)
        return [meter_name(uuid)] if uuid else [spec.info.name for spec in self._gpus.specs()]

    async def close(self) -> None:
        """Let the child go; one that hangs in the driver is left behind."""
        await self._stop_replacing()
        self._retire()
        await self._leaving.abandon(min(1.0, self._patience.end_s))

    # -- the life of children ----------------------------------------------------------------

    def _see_to_child(self) -> None:
        """Begin to replace the child if there is reason to and it is time."""
        if self._releases.all_of(len(self._gpus)) or (
            self._replacing and not self._replacing.done()
        ):
            return
        now = time.monotonic()
        if self._child is not None and not self._child.alive:
            self._drop("the process that read it has ended")
        silent = now - self._last_word > self._patience.silent_s
        if self._child is not None and not (self._gpus.ailing or silent or self._force):
            if now - self._adopted_at > self._patience.steady_s:
                self._retries.begin_anew()
            return
        if self._retries.due():
            self._replacing = asyncio.create_task(self._replace(force=self._force))

    async def _replace(self, *, force: bool) -> None:
        """Start a child and adopt it if it sees more GPUs than the present one, or by `force`."""
        unready = self._unready()
        if unready is not None:
            self._fail(unready)
            return
        hanging = self._leaving.pids()
        if len(hanging) >= MAX_ABANDONED:
            pids = ", ".join(map(str, hanging))
            detail = f"{len(hanging)} processes hang in the driver (pid {pids})"
            fix = "reset the GPU or reboot; reading goes on as soon as one of them ends"
            self._fail(Finding(self.name, State.FAILING, detail, fix))
            return
        options = [*self._options, *await self._places()]
        child = Child(self._driver.child, options, self._folders)
        self._leaving.add(child)
        try:
            await child.start()
            await self._try_out(child, force=force)
        except OSError as error:
            self._fail(Finding(self.name, State.FAILING, f"no process could be started: {error}"))
        finally:
            if child is not self._child:
                child.leave()

    async def _try_out(self, child: Child, *, force: bool) -> None:
        hello = await self._greet(child)
        if hello is None:
            return
        load = await self._load(hello.driver)
        answers = await child.ask(self._patience.attach_s) or []
        if load != await self._load(hello.driver):
            return  # reloaded meanwhile: the handles are broken already
        better = healthy(answers) > self._gpus.healthy
        if self._child is None or better or (force and answers):
            self._adopt(child)
            self._gpus.begin(hello.driver, load)
            self._gpus.learn(answers, self._releases.asked_for())

    async def _greet(self, child: Child) -> Hello | None:
        """Return the child's hello; otherwise note why there is none."""
        try:
            async with asyncio.timeout(self._patience.hello_s):
                greeting = await asyncio.shield(child.greeting)
        except TimeoutError:
            # One GPU may hold up the others: the next child attaches each.
            self._by_place = self._driver.one_by_one
            detail = f"{self._driver.init} has not returned for {self._patience.hello_s:g} s"
            self._fail(Finding(self.name, State.STALE, detail, self._driver.hung))
            return None
        if isinstance(greeting, Failed):
            self._fail(self._driver.explain(self.name, greeting))
            return None
        if not greeting.gpus:
            fix = "look at lspci and the kernel log"
            self._fail(Finding(self.name, State.ABSENT, "the driver sees no GPU", fix))
            return None
        return greeting

    def _adopt(self, child: Child) -> None:
        self._retire()
        self._leaving.remove(child)
        self._child = child
        self._problem = None
        self._releases.forget_over()
        self._force = self._by_place = False
        self._adopted_at = self._last_word = time.monotonic()

    def _retire(self) -> None:
        if self._child is not None:
            self._child.leave()
            self._leaving.add(self._child)
            self._child = None

    def _drop(self, detail: str) -> None:
        """Let the child go without a successor: nothing answers until there is one."""
        self._retire()
        self._gpus.all_are(State.STALE, detail, but=self._releases.still())

    def _fail(self, problem: Finding) -> None:
        """Note why there is no new child; an old one of which nothing answers goes, too."""
        self._problem = problem
        if self._gpus.healthy == 0 and (self._child is None or self._gpus.answering):
            self._retire()
            released = self._releases.still()
            self._gpus.all_are(problem.state, problem.detail, problem.fix, but=released)

    async def _stop_replacing(self) -> None:
        if self._replacing is not None:
            self._replacing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._replacing
            self._replacing = None

    async def _places(self) -> list[str]:
        """Return the PCI addresses to open one by one, nothing for all at once."""
        released = self._releases.still()
        if not released and not self._by_place:
            return []
        return self._gpus.places(released) or await asyncio.to_thread(
            pci_addresses, self._path_sysfs, self._driver.module
        )

    async def _load(self, version: str) -> str:
        return await asyncio.to_thread(
            driver_load, self._path_sysfs, self._path_procfs, self._driver.module, version
        )

    # -- states --------------------------------------------------------------------------------

    def _own_finding(self) -> Finding:
        if self._releases.all_of(len(self._gpus)):
            left_s = self._releases.left_s()
            return Finding(self.name, State.RELEASED, f"released for another {left_s:.0f} s")
        if self._child is None or (self._problem is not None and not self._gpus.healthy):
            waiting = Finding(self.name, State.STALE, "waiting for the driver")
            return self._problem or waiting
        return self._gpus.overall(self._remark())

    def _unready(self) -> Finding | None:
        """Return why there is no use in starting a child; by default there always is."""
        return None

    def _remark(self) -> str:
        """Return what is to be said of a driver that works, beginning with `; `."""
        return ""
