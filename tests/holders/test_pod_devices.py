"""Device ids: which GPU, and which part of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattkeeper.holders.pod_devices import Device, GpuMap, Hold, gpu_pod, parse, parse_id
from wattkeeper.holders.pod_wire import ClaimedDevice, PluginDevice, PodDevices
from wattkeeper.model.meter import Component, MeterInfo, Partition

A = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f"
B = "GPU-11111111-2222-3333-4444-555555555555"
SLICE = "MIG-8ac3b1f2-0f4e-5d53-9d6e-3c2f3b1a9c10"
OTHER_SLICE = "MIG-8ac3b1f2-0f4e-5d53-9d6e-3c2f3b1a9c11"


def gpus(*, minors: tuple[int, ...] = (0, 1), sizes: tuple[int, ...] = (125_000,)) -> GpuMap:
    """Return a node with two GPUs and slices on the first, its minors in any order."""
    meters = [
        MeterInfo(f"gpu/{uuid}", Component.GPU, "nvml", {"gpu": str(n), "minor": str(minor)})
        for n, (uuid, minor) in enumerate(zip((A, B), minors, strict=True))
    ]
    names = (SLICE, OTHER_SLICE)
    parts = [
        Partition(uuid, f"gpu/{A}", 7 + n, size, 142_857)
        for n, (uuid, size) in enumerate(zip(names, sizes, strict=False))
    ]
    return GpuMap(meters, {part.uuid: part for part in parts})


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        (A, Device(gpu=A)),
        (f"{A}::3", Device(gpu=A, replica="3")),
        (SLICE, Device(mig=SLICE)),
        (f"{SLICE}::0", Device(mig=SLICE, replica="0")),
        (f"MIG-{A}/7/0", Device(gpu=A, instance=7)),
        ("nvidia0", Device(minor=0)),
        ("nvidia12/vgpu3", Device(minor=12, replica="3")),
        ("nvidia0/gi1", Device(minor=0, instance=1)),
        ("nvidia0/gi1/vgpu2", Device(minor=0, instance=1, replica="2")),
        ("GPU-5c89852c", None),
        (f"{A}::", None),
        (f"{A}::x", None),
        (f"{A}-0", None),
        (f" {A}", None),
        (f"{A}\n", None),
        ("nvidia", None),
        ("nvidia0/gi1/", None),
        ("nvidia٣", None),
        ("nvidiactl", None),
        ("0000:03:00.0", None),
        ("", None),
    ],
)
def test_plugin_ids(id_: str, expected: Device | None) -> None:
    """The ids of NVIDIA's and GKE's device plugins, and what only looks like one."""
    assert parse_id(id_) == expected


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text raises; what is accepted names exactly one kind of thing."""
    device = parse_id(text)
    if device is not None:
        assert [bool(device.gpu), bool(device.mig), device.minor is not None].count(True) == 1


@settings(deadline=None)
@given(st.integers(0, 9999), st.none() | st.integers(0, 99), st.none() | st.integers(0, 999))
def test_every_gke_id(minor: int, instance: int | None, replica: int | None) -> None:
    """Every id of GKE's shape is read whole."""
    slice_ = "" if instance is None else f"/gi{instance}"
    turn = "" if replica is None else f"/vgpu{replica}"
    expected = Device(
        minor=minor, instance=instance, replica="" if replica is None else str(replica)
    )
    assert parse_id(f"nvidia{minor}{slice_}{turn}") == expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (ClaimedDevice("gpu.nvidia.com", "n", "gpu-1"), Device(number=1)),
        (
            ClaimedDevice("gpu.nvidia.com", "n", "gpu-0-mig-1g10gb-19-4"),
            Device(number=0, slice="mig-1g10gb-19-4"),
        ),
        (ClaimedDevice("gpu.nvidia.com", "n", A), Device(gpu=A)),
        (
            ClaimedDevice("gpu.nvidia.com", "n", "x", (f"nvidia.com/gpu={SLICE}",)),
            Device(mig=SLICE),
        ),
        (ClaimedDevice("gpu.nvidia.com", "n", "gpu-vfio-0"), None),
        (ClaimedDevice("gpu.nvidia.com", "n", "", ("", "=", "nvidia.com/gpu")), None),
        (ClaimedDevice("gpu.intel.com", "n", "gpu-0"), None),
    ],
)
def test_claimed_devices(listed: ClaimedDevice, expected: Device | None) -> None:
    """What NVIDIA's DRA driver calls a device, or its CDI name where that has a UUID."""
    assert parse(listed) == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device(gpu=A), Hold(f"gpu/{A}")),
        (Device(gpu=B, replica="2"), Hold(f"gpu/{B}", replica="2")),
        (Device(minor=1), Hold(f"gpu/{B}")),
        (Device(minor=2), None),
        (Device(mig=SLICE), Hold(f"gpu/{A}", SLICE, 125_000, 142_857)),
        (Device(mig=OTHER_SLICE), None),
        (Device(gpu=A, instance=7), Hold(f"gpu/{A}", SLICE, 125_000, 142_857)),
        (Device(gpu=B, instance=7), None),
        (Device(minor=0, instance=7, replica="1"), Hold(f"gpu/{A}", SLICE, 125_000, 142_857, "1")),
        (Device(number=0), Hold(f"gpu/{A}")),
        (Device(number=5), None),
        (Device(number=0, slice="mig-1"), Hold(f"gpu/{A}", SLICE, 125_000, 142_857)),
        (Device(number=1, slice="mig-1"), None),
    ],
)
def test_on_its_meter(device: Device, expected: Hold | None) -> None:
    """A device is laid on the meter of its physical GPU, a slice with its size."""
    assert gpus().hold(device) == expected


def test_a_gpu_that_is_not_metered_yet() -> None:
    """A UUID says which meter it is, whether the driver has told us of it or not."""
    assert GpuMap([], {}).hold(Device(gpu=A)) == Hold(f"gpu/{A}")
    assert GpuMap([], {}).hold(Device(minor=0)) is None


def test_dra_numbers_are_believed_only_where_minor_and_index_agree() -> None:
    """The DRA driver counted by index once and counts by minor now: where they differ, ask."""
    crossed = gpus(minors=(1, 0))
    assert [crossed.hold(Device(number=n)) for n in (0, 1)] == [None, None]
    assert crossed.hold(Device(minor=0)) == Hold(f"gpu/{B}")


def test_a_slice_named_by_its_place_is_certain_only_if_it_is_the_only_one() -> None:
    """DRA names a slice by profile and place, which the driver does not tell."""
    assert gpus(sizes=(125_000, 125_000)).hold(Device(number=0, slice="mig-1")) is None


def test_picks_the_gpus_of_a_pod() -> None:
    """Each GPU once; NVIDIA's that cannot be read and other makers' apart; the rest is nothing."""
    pod = PodDevices(
        "team",
        "a",
        ("init", "main"),
        (
            PluginDevice("nvidia.com/gpu", A),
            PluginDevice("nvidia.com/gpu", A),
            PluginDevice("nvidia.com/gpu", "odd"),
            PluginDevice("amd.com/gpu", "0000:03:00.0"),
            PluginDevice("amd.com/gpu", "amdgpu_xcp_1"),
            PluginDevice("gpu.intel.com/i915", "card0-0"),
            PluginDevice("nvidia.com/hostdev", "0000:05:00.1"),
            PluginDevice("smarter-devices/fuse", "fuse-7"),
        ),
        (
            ClaimedDevice("gpu.nvidia.com", "n", "gpu-1"),
            ClaimedDevice("compute-domain.nvidia.com", "n", "channel-0"),
        ),
    )
    found = gpu_pod(pod, 7)
    assert found.gpus == {
        f"nvidia.com/gpu {A}": Device(gpu=A),
        "amd.com/gpu 0000:03:00.0": Device(pci="0000:03:00.0"),
        "gpu.nvidia.com gpu-1": Device(number=1),
    }
    assert found.unread == ("nvidia.com/gpu odd",)
    assert found.foreign == ("amd.com/gpu amdgpu_xcp_1", "gpu.intel.com/i915 card0-0")
    assert (found.equipped, found.as_of_ns) == (True, 7)
    assert not gpu_pod(PodDevices("team", "b"), 7).equipped


def test_amd_gpus_go_by_their_address() -> None:
    """A whole one, or either die of an MI250X; and no other maker's GPU."""
    whole = MeterInfo(
        "gpu/x", Component.GPU, "amdsmi", {"vendor": "amd", "pci_bus_id": "0000:c1:00.0"}
    )
    dies = whole.labels | {"pci_bus_id": "0000:c6:00.0", "dies": "0000:c9:00.0"}
    pair = MeterInfo("gpu/y", Component.GPU, "amdsmi", dies)
    parts = {
        uuid: Partition(uuid, "gpu/y", number, 500_000, 500_000)
        for number, uuid in enumerate(("y", "z"))
    }
    found = GpuMap([whole, pair], parts)
    assert found.hold(Device(pci="0000:c1:00.0")) == Hold("gpu/x")
    assert found.hold(Device(pci="0000:c6:00.0")) == Hold("gpu/y", "y", 500_000, 500_000)
    assert found.hold(Device(pci="0000:c9:00.0")) == Hold("gpu/y", "z", 500_000, 500_000)
    assert found.hold(Device(pci="0000:ce:00.0")) is None
    other = MeterInfo("gpu/n", Component.GPU, "nvml", {"pci_bus_id": "0000:c1:00.0"})
    assert GpuMap([other], {}).hold(Device(pci="0000:c1:00.0")) is None
