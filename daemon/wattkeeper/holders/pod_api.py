"""The kubelet's pod-resources v1 service, asked over its unix socket.

Imports grpclib, the extra `wattkeeper[kubernetes]`: import this module only where a kubelet is.
"""

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from wattkeeper.holders import pod_wire
from wattkeeper.holders.pod_answers import (
    DeniedError,
    GarbledError,
    KubeletError,
    RefusedError,
    SilentError,
    UnofferedError,
)
from wattkeeper.holders.pod_wire import PluginDevice, PodDevices

DEADLINE_S: Final = 5.0
"""For one call, connecting included."""

_SERVICE = "/v1.PodResourcesLister"
# What grpclib and h2 raise when the other side does not speak gRPC, or stops in mid-sentence.
_GARBLED = (
    AssertionError,
    AttributeError,
    H2Error,
    KeyError,
    NotImplementedError,
    ProtocolError,
    StreamTerminatedError,
    ValueError,
    struct.error,
)

T = TypeVar("T")


class PodApi:
    """Asks the kubelet at `socket`. Each call has a connection of its own.

    A kubelet that restarts makes its socket anew, so a connection that is kept would be one to
    nobody. `deadline_s`: seconds for one call.
    """

    def __init__(self, socket: Path, deadline_s: float = DEADLINE_S) -> None:
        self._socket = socket
        self._deadline_s = deadline_s

    async def list(self) -> tuple[PodDevices, ...]:
        """Return every pod that the kubelet lists, also ended ones, with its devices.

        Raises:
            KubeletError: why there is no answer.

        """
        return await self._ask("List", b"", pod_wire.pods)

    async def get(self, namespace: str, name: str) -> PodDevices:
        """Return one pod with its devices.

        Raises:
            UnofferedError: the kubelet has no such call, or has it switched off.
            KubeletError: why there is no answer; a pod unknown to the kubelet is a RefusedError.

        """
        request = pod_wire.pod_request(namespace, name)
        return await self._ask("Get", request, pod_wire.pod)

    async def allocatable(self) -> tuple[PluginDevice, ...]:
        """Return every device of a device plugin that pods may be given.

        Raises:
            UnofferedError: the kubelet has no such call, or has it switched off.
            KubeletError: why there is no answer.

        """
        return await self._ask("GetAllocatableResources", b"", pod_wire.allocatable)

    async def _ask(self, call: str, request: bytes, read: Callable[[bytes], T]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._exchange(f"{_SERVICE}/{call}", request)
                # 10,000 devices take some ten ms to read.
                return await asyncio.to_thread(read, answer)
        except TimeoutError as error:
            raise SilentError(f"no answer to {call} within {self._deadline_s:g} s") from error
        except GRPCError as error:
            raise _refusal(call, error) from error
        except PermissionError as error:
            raise DeniedError(f"{self._socket}: {error.strerror}") from error
        except OSError as error:
            raise KubeletError(f"{self._socket}: {error.strerror or error}") from error
        except _GARBLED as error:
            what = f"{type(error).__name__}: {error}"[:200]
            raise GarbledError(f"the answer to {call} is not pod-resources v1 ({what})") from error

    async def _exchange(self, path: str, request: bytes) -> bytes:
        async with Channel(path=str(self._socket), codec=_Bytes()) as channel:
            method = UnaryUnaryMethod[bytes, bytes](channel, path, bytes, bytes)
            return await method(request)


class _Bytes(CodecBase):
    """Leaves messages as they are: `pod_wire` reads and writes them."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, _message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, _message_type: Any) -> bytes:
        return data


def _refusal(call: str, error: GRPCError) -> KubeletError:
    said = (error.message or "")[:200]
    detail = f"{call}: {error.status.name}{f': {said}' if said else ''}"
    # A kubelet that has a call but not its feature gate says so in words, as UNKNOWN.
    if error.status is Status.UNIMPLEMENTED or "disabled" in said:
        return UnofferedError(detail)
    if error.status in (Status.PERMISSION_DENIED, Status.UNAUTHENTICATED):
        return DeniedError(detail)
    return RefusedError(detail)
