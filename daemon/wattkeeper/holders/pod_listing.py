"""What the kubelet listed last: asked beside the samples, so that no kubelet holds one up."""

import asyncio
import importlib
import logging
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from wattkeeper.holders.pod_answers import (
    DeniedError,
    ExtraError,
    KubeletError,
    MissingError,
    RefusedError,
    UnofferedError,
)
from wattkeeper.holders.pod_devices import GpuPod, gpu_pod, parse
from wattkeeper.holders.pod_names import PodName
from wattkeeper.holders.pod_wire import PluginDevice, PodDevices
from wattkeeper.model.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

_LIST_NS: Final = 10 * NS_PER_S
_RETRY_NS: Final = 2 * NS_PER_S
_ALLOCATABLE_NS: Final = 60 * NS_PER_S
_PATIENCE_S: Final = 0.25
_FIRST_PATIENCE_S: Final = 2.0
_MOST_GETS: Final = 8
KEEP_NS: Final = 600 * NS_PER_S
"""How long a listing stands while the kubelet does not answer. Without a kubelet no pod is given
another device, so what it said last stays true for the pods that live on."""


class Kubelet(Protocol):
    """The calls of pod-resources v1; `pod_api.PodApi` is one."""

    async def list(self) -> tuple[PodDevices, ...]:
        """Return every pod that the kubelet lists."""
        ...

    async def get(self, namespace: str, name: str) -> PodDevices:
        """Return one pod."""
        ...

    async def allocatable(self) -> tuple[PluginDevice, ...]:
        """Return every device that pods may be given."""
        ...


class PodListing:
    """Keeps the kubelet's answers. `refresh` asks when it is time, without waiting for long.

    `trouble` is why the last question had no answer; `listed_ns` (boot time) when List last had
    one. `pods` stands for at most ten minutes beyond that, also where an agent starts anew in the
    same boot with what `remember()` gave. `allocatable`: ids of the GPUs that device plugins offer
    to pods, None where the kubelet does not say.
    """

    def __init__(
        self, socket: Path, clock: Clock, remembered: Mapping[str, Any] | None = None
    ) -> None:
        self._socket = socket
        self._clock = clock
        self._kubelet: Kubelet | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tried_ns: int | None = None
        self._allocatable_ns: int | None = None
        self._get_offered = True
        self._pods: tuple[GpuPod, ...] = ()
        self.allocatable: frozenset[str] | None = None
        self.trouble: KubeletError | None = None
        self.listed_ns: int | None = None
        if remembered is not None:
            self._pods = msgspec.convert(remembered["pods"], tuple[GpuPod, ...])
            self.listed_ns = remembered["listed_ns"]

    @property
    def pods(self) -> Sequence[GpuPod]:
        """The pods of the last answer, none once that is too old."""
        return self._pods if self.age_ns() < KEEP_NS else ()

    def age_ns(self) -> int:
        """Return how long ago List was answered, in ns; KEEP_NS if it never was."""
        return KEEP_NS if self.listed_ns is None else self._clock.boot_ns() - self.listed_ns

    def remember(self) -> dict[str, Any]:
        """Return, ready for JSON, what the kubelet said last of pods with devices."""
        equipped = [pod for pod in self.pods if pod.equipped]
        return {"pods": msgspec.to_builtins(equipped), "listed_ns": self.listed_ns}

    async def refresh(self, young: Sequence[PodName | None], living: Mapping[PodName, int]) -> None:
        """Ask if it is time; wait a moment for the answer.

        `young`: pods that have just come, by name, None where the name is not known yet. They
        make it time at once. `living`: when pods that live were born, in boot time.
        """
        if self._asking is None and (self._due() or young):
            # The first answer decides whose the GPUs are from the start on.
            patience_s = _PATIENCE_S if self._tried_ns is not None else _FIRST_PATIENCE_S
            # After trouble all pods are asked for: others may have come meanwhile.
            some = not self._due() and self.trouble is None and self.listed_ns is not None
            self._asking = asyncio.create_task(self._ask(young if some else (), living))
            await asyncio.wait({self._asking}, timeout=patience_s)
        if self._asking is not None and self._asking.done():
            asked, self._asking = self._asking, None
            await asked

    async def close(self) -> None:
        """Give up on the question that is still open."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
            self._asking = None

    def _due(self) -> bool:
        if self._tried_ns is None:
            return True
        lost = self.trouble is not None and self.age_ns() < KEEP_NS
        interval_ns = _RETRY_NS if lost else _LIST_NS
        # Tried, not listed: a question for one pod does not put off the one for all.
        return self._clock.boot_ns() - self._tried_ns >= interval_ns

    async def _ask(self, young: Sequence[PodName | None], living: Mapping[PodName, int]) -> None:
        try:
            kubelet = await self._open()
            if not await self._get(kubelet, young):
                self._tried_ns = as_of_ns = self._clock.boot_ns()
                pods = await kubelet.list()
                listed = await asyncio.to_thread(_gpu_pods, pods, as_of_ns)
                self._pods = _with_last_word(listed, self._pods, living)
                self.listed_ns = self._clock.boot_ns()
            await self._ask_allocatable(kubelet)
        except KubeletError as trouble:
            self._tried_ns = self._clock.boot_ns()
            self._get_offered = True  # who comes back may be a later kubelet
            self._allocatable_ns = None
            if self.trouble is None and not isinstance(trouble, MissingError):
                log.warning("pod-resources: %s", trouble)
            self.trouble = trouble
            return
        if self.trouble is not None:
            log.info("pod-resources: the kubelet answers")
        self.trouble = None

    async def _get(self, kubelet: Kubelet, young: Sequence[PodName | None]) -> bool:
        """Ask for the young pods only; False if it takes a List to know them."""
        names = [name for name in young if name is not None]
        if not self._get_offered or len(names) != len(young) or not 0 < len(names) <= _MOST_GETS:
            return False
        for name in dict.fromkeys(names):
            as_of_ns = self._clock.boot_ns()
            try:
                found = await kubelet.get(*name)
            except UnofferedError:
                self._get_offered = False
                return False
            except RefusedError:
                continue  # not known to the kubelet, or already gone
            others = [pod for pod in self._pods if (pod.namespace, pod.name) != name]
            self._pods = (*others, gpu_pod(found, as_of_ns))
        return True

    async def _ask_allocatable(self, kubelet: Kubelet) -> None:
        now_ns = self._clock.boot_ns()
        if self._allocatable_ns is not None and now_ns - self._allocatable_ns < _ALLOCATABLE_NS:
            return
        self._allocatable_ns = now_ns
        try:
            offered = await kubelet.allocatable()
            self.allocatable = await asyncio.to_thread(_gpu_ids, offered)
        except (UnofferedError, RefusedError):
            self.allocatable = None  # worth knowing, not worth giving up what List said

    async def _open(self) -> Kubelet:
        """Import the client where there is a kubelet, and only there."""
        if not await asyncio.to_thread(_is_there, self._socket):
            raise MissingError(self._socket)
        if self._kubelet is None:
            self._kubelet = await asyncio.to_thread(_client, self._socket)
        return self._kubelet


def _is_there(socket: Path) -> bool:
    try:
        return stat.S_ISSOCK(socket.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise DeniedError(f"{socket}: {error.strerror}") from error
    except OSError as error:
        raise KubeletError(f"{socket}: {error.strerror}") from error


def _gpu_pods(pods: Sequence[PodDevices], as_of_ns: int) -> tuple[GpuPod, ...]:
    return tuple(gpu_pod(pod, as_of_ns) for pod in pods)


def _with_last_word(
    listed: Sequence[GpuPod], before: Sequence[GpuPod], living: Mapping[PodName, int]
) -> tuple[GpuPod, ...]:
    """Keep what was said of pods that live, where a new answer has no devices for them.

    A kubelet that has just started lists no pods for a second; none takes a device from a pod.
    """
    told = {(pod.namespace, pod.name) for pod in listed if pod.equipped}
    kept = {
        (pod.namespace, pod.name): pod
        for pod in before
        if pod.equipped and living.get((pod.namespace, pod.name), pod.as_of_ns + 1) <= pod.as_of_ns
    }
    kept = {name: pod for name, pod in kept.items() if name not in told}
    return (*(pod for pod in listed if (pod.namespace, pod.name) not in kept), *kept.values())


def _gpu_ids(devices: Sequence[PluginDevice]) -> frozenset[str]:
    return frozenset(device.id for device in devices if parse(device) is not None)


def _client(socket: Path) -> Kubelet:
    try:
        module = importlib.import_module("wattkeeper.holders.pod_api")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("wattkeeper"):
            raise
        raise ExtraError(f"a kubelet is here, but {error.name} is not installed") from error
    client: Kubelet = module.PodApi(socket)
    return client
