"""Asking the kubelet: against gRPC's own server, and against what is no kubelet at all."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kubelet.server import Impostor, Kubelet, pod
from wattkeeper.holders.pod_answers import (
    DeniedError,
    GarbledError,
    KubeletError,
    RefusedError,
    SilentError,
    UnofferedError,
)
from wattkeeper.holders.pod_api import PodApi
from wattkeeper.holders.pod_wire import PluginDevice
from wattkeeper.model.state import State

SETTINGS_FRAME = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket."""
    with TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def kubelet(folder: Path) -> Iterator[Kubelet]:
    """Return a kubelet that listens."""
    started = Kubelet(folder / "kubelet.sock").start()
    yield started
    started.stop()


async def test_every_call(kubelet: Kubelet) -> None:
    """List, Get and GetAllocatableResources over a unix socket."""
    kubelet.pods = [pod("a", {"c": [("nvidia.com/gpu", ["GPU-1"])]}), pod("b", {})]
    kubelet.allocatable = [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1", "GPU-2"]}]
    api = PodApi(kubelet.socket)
    assert [p.name for p in await api.list()] == ["a", "b"]
    found = await api.get("default", "a")
    assert found.devices == (PluginDevice("nvidia.com/gpu", "GPU-1"),)
    assert [device.id for device in await api.allocatable()] == ["GPU-1", "GPU-2"]


async def test_many_devices(kubelet: Kubelet) -> None:
    """500 pods with 10,000 devices come through, over several HTTP/2 windows, within a second."""
    ids = [f"GPU-{n:08d}-0000-0000-0000-000000000000::{n}" for n in range(10_000)]
    kubelet.pods = [
        pod(f"pod-{n}", {"c": [("nvidia.com/gpu.shared", ids[n * 20 : n * 20 + 20])]})
        for n in range(500)
    ]
    began = asyncio.get_running_loop().time()
    found = await PodApi(kubelet.socket).list()
    assert [d.id for p in found for d in p.devices] == ids
    assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.parametrize("how", ["unoffered", "disabled"])
async def test_what_is_not_offered(folder: Path, how: str) -> None:
    """A call that is missing, and one that is switched off, are told from a failure."""
    kubelet = Kubelet(folder / "kubelet.sock")
    setattr(kubelet, how, {"Get", "GetAllocatableResources"})
    kubelet.start()
    try:
        api = PodApi(kubelet.socket)
        with pytest.raises(UnofferedError):
            await api.get("default", "a")
        with pytest.raises(UnofferedError):
            await api.allocatable()
        assert await api.list() == ()
    finally:
        kubelet.stop()


async def test_a_pod_that_is_not_there(kubelet: Kubelet) -> None:
    """A pod that the kubelet does not know is refused, in its words."""
    with pytest.raises(RefusedError, match="pod x in namespace default not found"):
        await PodApi(kubelet.socket).get("default", "x")


async def test_refusals(kubelet: Kubelet) -> None:
    """An error status is a refusal; a denial is one of its own."""
    kubelet.refusing = {"List": grpc.StatusCode.RESOURCE_EXHAUSTED}
    with pytest.raises(RefusedError, match="RESOURCE_EXHAUSTED: rejected by rate limit"):
        await PodApi(kubelet.socket).list()
    kubelet.refusing = {"List": grpc.StatusCode.PERMISSION_DENIED}
    with pytest.raises(DeniedError):
        await PodApi(kubelet.socket).list()


async def test_a_hang(kubelet: Kubelet) -> None:
    """A call that is not answered ends at the deadline."""
    kubelet.hanging = {"List"}
    with pytest.raises(SilentError, match=r"no answer to List within 0.2 s"):
        await PodApi(kubelet.socket, 0.2).list()


async def test_a_kubelet_that_restarts(kubelet: Kubelet) -> None:
    """A socket made anew is found; without one there is no answer."""
    api = PodApi(kubelet.socket)
    assert await api.list() == ()
    kubelet.stop()
    with pytest.raises(KubeletError, match=r"kubelet.sock"):
        await api.list()
    kubelet.pods = [pod("a", {})]
    kubelet.start()
    assert [p.name for p in await api.list()] == ["a"]


async def test_a_socket_that_nobody_listens_at(folder: Path) -> None:
    """What a killed kubelet leaves behind refuses connections."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "kubelet.sock"))
    with pytest.raises(KubeletError, match="Connection refused"):
        await PodApi(folder / "kubelet.sock").list()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_denied(kubelet: Kubelet) -> None:
    """A socket that is root's is denied to others."""
    kubelet.socket.chmod(0o600)
    kubelet.socket.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(DeniedError) as denied:
            await PodApi(kubelet.socket).list()
    finally:
        os.seteuid(0)
    assert denied.value.state is State.DENIED


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100,
        bytes(range(256)) * 50,
        SETTINGS_FRAME + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        SETTINGS_FRAME + b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8,
    ],
)
async def test_impostors(folder: Path, words: bytes) -> None:
    """Whatever else speaks there is a KubeletError, at the deadline at the latest."""
    other = Impostor(folder / "kubelet.sock", words)
    try:
        with pytest.raises((GarbledError, SilentError)):
            await PodApi(folder / "kubelet.sock", 0.3).list()
    finally:
        other.close()


async def test_who_hangs_up(folder: Path) -> None:
    """A peer that closes at once is told by its error."""
    other = Impostor(folder / "kubelet.sock", b"", hang_up=True)
    try:
        with pytest.raises(KubeletError):
            await PodApi(folder / "kubelet.sock", 1).list()
    finally:
        other.close()


FRAME = st.builds(
    lambda kind, flags, stream, body: (
        len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body
    ),
    st.integers(0, 12),
    st.sampled_from([0, 1, 4, 5, 8, 255]),
    st.sampled_from([0, 1, 3]),
    st.one_of(
        st.binary(max_size=30),
        # Headers without Huffman or table: `:status 200`, the content type, a grpc-status.
        st.sampled_from(
            [
                b"\x88\x00\x0ccontent-type\x10application/grpc",
                b"\x88\x00\x0bgrpc-status\x01x",
                b"\x00\x0bgrpc-status\x010",
                b"\x00\x00\x00\x00\x05hello",
                b"\x01\x00\x00\x00\x00",
                b"",
            ]
        ),
    ),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frames=st.lists(FRAME, max_size=6))
async def test_no_frames_get_through(frames: list[bytes]) -> None:
    """HTTP/2 frames in any order raise nothing but a KubeletError."""
    with TemporaryDirectory(dir="/tmp") as name:
        other = Impostor(Path(name) / "s", SETTINGS_FRAME + b"".join(frames))
        try:
            assert await PodApi(Path(name) / "s", 0.05).list() == ()
        except KubeletError:
            pass
        finally:
            other.close()
