"""Device ids as the kubelet lists them: which GPU, and which part of it, is meant.

NVIDIA's device plugin gives UUIDs, `::N` behind one that is shared in time; GKE's gives
`nvidia0/gi1/vgpu2`; the DRA driver names devices `gpu-0`. AMD's device plugin gives PCI addresses.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wattkeeper.holders.pod_wire import ClaimedDevice, PluginDevice, PodDevices
from wattkeeper.model.meter import MeterInfo, Partition

NVIDIA_DRIVER = "gpu.nvidia.com"
AMD_RESOURCE = "amd.com/gpu"

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BY_UUID = re.compile(
    rf"(?:(?P<gpu>GPU-{_UUID})|(?P<mig>MIG-{_UUID})"
    # Drivers before 470 named an instance by its GPU.
    rf"|MIG-(?P<parent>GPU-{_UUID})/(?P<instance>[0-9]{{1,4}})/[0-9]{{1,4}})"
    r"(?:::(?P<replica>[0-9]{1,9}))?"
)
_GKE = re.compile(
    r"nvidia(?P<minor>[0-9]{1,4})(?:/gi(?P<instance>[0-9]{1,4}))?(?:/vgpu(?P<replica>[0-9]{1,9}))?"
)
_DRA = re.compile(r"gpu-(?P<number>[0-9]{1,4})(?P<slice>-mig-.+)?")
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_GPU_KIND = re.compile(r"(?:^|[./_-])(?:gpu|mig)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Device:
    """What an id says. One of `gpu`, `mig`, `pci`, `minor` and `number` is set.

    `gpu`, `mig`: a UUID. `pci`: the address of an AMD GPU. `minor`: N of `/dev/nvidiaN`.
    `number`: what NVIDIA's DRA driver counts by, the minor since its API v1, the index before.
    `instance`: the GPU instance's id. `slice`: the name of a part of the GPU whose instance is
    not told. `replica`: which turn of a device that several take in turns, empty where one pod
    has it alone.
    """

    gpu: str = ""
    mig: str = ""
    pci: str = ""
    minor: int | None = None
    number: int | None = None
    instance: int | None = None
    slice: str = ""
    replica: str = ""


@dataclass(frozen=True, slots=True)
class GpuPod:
    """What a pod was given, as far as it matters here.

    `gpus` by what the kubelet calls them. `unread`: NVIDIA's that name no GPU we can tell;
    `foreign`: other makers' GPUs. `equipped`: it was given any device at all. `as_of_ns`: boot
    time of the question; a pod of this name that is younger is another one.
    """

    namespace: str
    name: str
    containers: tuple[str, ...]
    gpus: Mapping[str, Device]
    unread: tuple[str, ...]
    foreign: tuple[str, ...]
    equipped: bool
    as_of_ns: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A device on its meter.

    `part`: the UUID of a MIG instance, empty for all of the GPU; `memory_ppm`, `compute_ppm`: how
    much of it that is. `replica` as in `Device`.
    """

    meter: str
    part: str = ""
    memory_ppm: int | None = None
    compute_ppm: int | None = None
    replica: str = ""


def parse(listed: PluginDevice | ClaimedDevice) -> Device | None:
    """Return the GPU that a listed device is, None if it is none that we know to read."""
    if isinstance(listed, PluginDevice):
        # Network cards have such ids as well: only the resource tells.
        amd = listed.resource == AMD_RESOURCE and _PCI.fullmatch(listed.id)
        return Device(pci=listed.id) if amd else parse_id(listed.id)
    if listed.driver != NVIDIA_DRIVER:
        return None
    named = _DRA.fullmatch(listed.device)
    if named:
        return Device(number=int(named["number"]), slice=(named["slice"] or "").lstrip("-"))
    names = (listed.device, *(name.partition("=")[2] for name in listed.cdi))
    return next((device for device in map(parse_id, names) if device), None)


def parse_id(text: str) -> Device | None:
    """Return the GPU that a device plugin's id names, None if it names none."""
    found = _BY_UUID.fullmatch(text)
    if found:
        instance = found["instance"]
        return Device(
            gpu=found["gpu"] or found["parent"] or "",
            mig=found["mig"] or "",
            instance=None if instance is None else int(instance),
            replica=found["replica"] or "",
        )
    found = _GKE.fullmatch(text)
    if found:
        instance = found["instance"]
        return Device(
            minor=int(found["minor"]),
            instance=None if instance is None else int(instance),
            replica=found["replica"] or "",
        )
    return None


def gpu_pod(pod: PodDevices, as_of_ns: int) -> GpuPod:
    """Pick the GPUs out of all that a pod was given; each once, whichever containers list it."""
    gpus: dict[str, Device] = {}
    unread: set[str] = set()
    foreign: set[str] = set()
    given: tuple[PluginDevice | ClaimedDevice, ...] = (*pod.devices, *pod.claimed)
    for listed in given:
        device = parse(listed)
        kind = listed.resource if isinstance(listed, PluginDevice) else listed.driver
        if device is not None:
            gpus[_called(listed)] = device
        elif _GPU_KIND.search(kind):
            (unread if "nvidia" in kind else foreign).add(_called(listed))
    return GpuPod(
        pod.namespace,
        pod.name,
        pod.containers,
        gpus,
        tuple(sorted(unread)),
        tuple(sorted(foreign)),
        bool(given),
        as_of_ns,
    )


def _called(listed: PluginDevice | ClaimedDevice) -> str:
    if isinstance(listed, PluginDevice):
        return f"{listed.resource} {listed.id}"
    return f"{listed.driver} {listed.device}"


class GpuMap:
    """The GPUs of this node by every name that a device id can have.

    `meters`: those of the GPUs, with the labels `gpu` (index by PCI address), `minor`,
    `pci_bus_id` and, of the other dies of an MI250X, `dies`. `partitions`: the parts of divided
    GPUs by UUID.
    """

    def __init__(self, meters: Iterable[MeterInfo], partitions: Mapping[str, Partition]) -> None:
        known = list(meters)
        infos = [info for info in known if info.labels.get("vendor") != "amd"]
        self._by_address = _by_address(known)
        self._partitions = partitions
        self._by_minor = _by_number(infos, "minor")
        self._by_index = _by_number(infos, "gpu")

    def hold(self, device: Device) -> Hold | None:
        """Return the device on its meter, None where it is not certain which one that is."""
        if device.mig:
            partition = self._partitions.get(device.mig)
            return _in_part(partition, device.replica) if partition else None
        if device.pci:
            return self._at(device.pci)
        meter = f"gpu/{device.gpu}" if device.gpu else self._numbered(device)
        if meter is None:
            return None
        if device.instance is not None:
            here = (p for p in self._partitions.values() if p.meter == meter)
            partition = next((p for p in here if p.instance == device.instance), None)
            return _in_part(partition, device.replica) if partition else None
        if device.slice:
            return self._slice(meter)
        return Hold(meter, replica=device.replica)

    def _at(self, address: str) -> Hold | None:
        """Return an AMD GPU, or the part of one: of dies and partitions the first has its address.

        The other partitions of an MI300 are no PCI devices: what they are called is not read.
        """
        if address not in self._by_address:
            return None
        meter, number = self._by_address[address]
        here = [p for p in self._partitions.values() if p.meter == meter]
        part = next((p for p in here if p.instance == number), None)
        return Hold(meter) if part is None else _in_part(part, "")

    def _numbered(self, device: Device) -> str | None:
        if device.minor is not None:
            return self._by_minor.get(device.minor)
        if device.number is None:
            return None
        # Minor or index, by the driver's version: certain only where both are one GPU.
        meter = self._by_minor.get(device.number)
        return meter if meter == self._by_index.get(device.number) else None

    def _slice(self, meter: str) -> Hold | None:
        """DRA names a slice by its place on the GPU: certain where it is the only one."""
        here = [p for p in self._partitions.values() if p.meter == meter]
        return _in_part(here[0], "") if len(here) == 1 else None


def _in_part(partition: Partition, replica: str) -> Hold:
    return Hold(
        partition.meter, partition.uuid, partition.memory_ppm, partition.compute_ppm, replica
    )


def _by_number(infos: Iterable[MeterInfo], label: str) -> dict[int, str]:
    numbered = ((info.labels.get(label, ""), info.name) for info in infos)
    return {int(number): name for number, name in numbered if number.isdecimal()}


def _by_address(infos: Iterable[MeterInfo]) -> dict[str, tuple[str, int]]:
    """Return meter and number of the die at each PCI address of AMD's GPUs."""
    return {
        address: (info.name, number)
        for info in infos
        if info.labels.get("vendor") == "amd"
        for number, address in enumerate(
            filter(None, [info.labels["pci_bus_id"], *info.labels.get("dies", "").split(",")])
        )
    }
