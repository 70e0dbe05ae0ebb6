"""Reading pod-resources messages: against protobuf's own writer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kubelet.server import messages, pod
from wattkeeper.holders import pod_wire
from wattkeeper.holders.pod_wire import ClaimedDevice, PluginDevice, PodDevices

messages()  # compiled before any test is timed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CLAIM = st.builds(ClaimedDevice, TEXT, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple))


def listed(*pods: object) -> bytes:
    """Return a List answer as protobuf writes it."""
    return bytes(messages().ListPodResourcesResponse(pod_resources=pods).SerializeToString())


def test_reads_what_matters_and_skips_the_rest() -> None:
    """Containers, device ids and claims are read; CPUs, memory and topology are passed over."""
    claim = {
        "driver_name": "gpu.nvidia.com",
        "pool_name": "node-1",
        "device_name": "gpu-0",
        "cdi_devices": [{"name": "k8s.gpu.nvidia.com/device=gpu-0"}],
    }
    made = pod(
        "train-0",
        {"init": [("nvidia.com/gpu", ["a", "b"])], "main": [("x/y", ["c"]), ("x/z", [])]},
        "team",
        [claim],
    )
    expected = PodDevices(
        "team",
        "train-0",
        ("init", "main"),
        (
            PluginDevice("nvidia.com/gpu", "a"),
            PluginDevice("nvidia.com/gpu", "b"),
            PluginDevice("x/y", "c"),
        ),
        (ClaimedDevice("gpu.nvidia.com", "node-1", "gpu-0", ("k8s.gpu.nvidia.com/device=gpu-0",)),),
    )
    assert pod_wire.pods(listed(made, made)) == (expected, expected)
    one = messages().GetPodResourcesResponse(pod_resources=made).SerializeToString()
    assert pod_wire.pod(one) == expected
    assert pod_wire.pods(b"") == ()


@settings(deadline=None)
@given(
    namespace=TEXT,
    name=TEXT,
    devices=st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=4)), max_size=4),
    claims=st.lists(CLAIM, max_size=3),
)
def test_agrees_with_protobuf(
    namespace: str, name: str, devices: list[tuple[str, list[str]]], claims: list[ClaimedDevice]
) -> None:
    """Whatever protobuf writes is read back."""
    fields = [
        {
            "driver_name": claim.driver,
            "pool_name": claim.pool,
            "device_name": claim.device,
            "cdi_devices": [{"name": name} for name in claim.cdi],
        }
        for claim in claims
    ]
    [found] = pod_wire.pods(listed(pod(name, {"c": devices}, namespace, fields)))
    assert (found.namespace, found.name, found.containers) == (namespace, name, ("c",))
    assert found.devices == tuple(PluginDevice(r, id_) for r, ids in devices for id_ in ids)
    assert found.claimed == tuple(claims)


@settings(deadline=None)
@given(namespace=TEXT, name=TEXT)
def test_request_is_read_by_protobuf(namespace: str, name: str) -> None:
    """Protobuf reads the one message that we write."""
    request = messages().GetPodResourcesRequest.FromString(pod_wire.pod_request(namespace, name))
    assert (request.pod_namespace, request.pod_name) == (namespace, name)


def test_later_fields_are_skipped() -> None:
    """Fields of every wire type that a later kubelet may add change nothing."""
    later = (
        b"\xa0\x06\x96\x01" + b"\xa1\x06" + b"8" * 8 + b"\xa5\x06" + b"4" * 4 + b"\xa2\x06\x02hi"
    )
    found = messages().ListPodResourcesResponse.FromString(later + listed(pod("a", {})))
    assert found.pod_resources[0].name == "a"
    assert [p.name for p in pod_wire.pods(later + listed(pod("a", {})))] == ["a"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x0a\x05abc", "cut short"),
        (b"\x0a", "without an end"),
        (b"\xff" * 11, "without an end"),
        (b"\x02\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\xa1\x06abc", "cut short"),
        (b"\x0a\x03\x0a\x01\xff", "invalid start byte"),
    ],
)
def test_says_what_is_wrong(message: bytes, why: str) -> None:
    """Bytes that are no such message are a ValueError with the reason."""
    with pytest.raises(ValueError, match=why):
        pod_wire.pods(message)


def test_an_answer_without_a_pod() -> None:
    """Get without a pod is no pod, not an empty one."""
    with pytest.raises(ValueError, match="no pod"):
        pod_wire.pod(b"")


@settings(deadline=None)
@given(message=st.binary(max_size=200))
def test_garbage_is_read_or_refused(message: bytes) -> None:
    """No bytes do anything but be read or raise ValueError."""
    for read in (pod_wire.pods, pod_wire.pod, pod_wire.allocatable):
        try:
            read(message)
        except ValueError:
            continue
