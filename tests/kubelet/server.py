"""A kubelet that serves pod-resources v1 over a unix socket, as far as tests can tell.

Messages are compiled by protoc and served by gRPC's C core: neither shares a line with the client
under test.
"""

import contextlib
import functools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc

from tests.kubelet.protocol import compiled

_SERVICE = "v1.PodResourcesLister"
_HANG_S = 30.0

Devices = Sequence[tuple[str, Sequence[str]]]
"""Resource names with their device ids."""


def messages() -> Any:
    """Return the module of the protocol's messages, compiled now."""
    return compiled("podresources")


def pod(
    name: str,
    containers: Mapping[str, Devices],
    namespace: str = "default",
    claims: Sequence[Mapping[str, Any]] = (),
) -> Any:
    """Return a PodResources. `claims`: fields of ClaimResources of the first container."""
    pb = messages()
    made = pb.PodResources(name=name, namespace=namespace)
    for container, devices in containers.items():
        inner = made.containers.add(name=container, cpu_ids=[0, 1, 300])
        inner.memory.add(memory_type="memory", size=2**40, topology={"nodes": [{"ID": 1}]})
        for resource, ids in devices:
            inner.devices.add(
                resource_name=resource, device_ids=ids, topology={"nodes": [{"ID": 0}]}
            )
    if claims:
        resource = made.containers[0].dynamic_resources.add(
            claim_name="gpu", claim_namespace=namespace
        )
        for claim in claims:
            resource.claim_resources.add(**claim)
    return made


class Kubelet:
    """A kubelet at `socket`. A test changes what it knows, and what it does not do.

    `unoffered`: calls it does not have; `disabled`: calls whose feature gate is off; `hanging`:
    calls that it takes and does not answer. `calls` counts what it was asked.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.pods: list[Any] = []
        self.allocatable: list[Any] = []
        self.unoffered: set[str] = set()
        self.disabled: set[str] = set()
        self.hanging: set[str] = set()
        self.refusing: dict[str, grpc.StatusCode] = {}
        self.calls: Counter[str] = Counter()
        self._released = threading.Event()
        self._server: grpc.Server | None = None

    def start(self) -> Self:
        """Listen."""
        self._released.clear()
        self.socket.unlink(missing_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers([self._handlers()])
        assert self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening, at once, and take the socket away."""
        self._released.set()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None
        self.socket.unlink(missing_ok=True)

    def _handlers(self) -> grpc.GenericRpcHandler:
        pb = messages()
        requests = {
            "List": (self._list, pb.ListPodResourcesRequest),
            "Get": (self._get, pb.GetPodResourcesRequest),
            "GetAllocatableResources": (self._allocatable, pb.AllocatableResourcesRequest),
        }
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                call: grpc.unary_unary_rpc_method_handler(
                    functools.partial(self._answer, call, answer),
                    request_deserializer=request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for call, (answer, request) in requests.items()
                if call not in self.unoffered
            },
        )

    def _answer(
        self, call: str, answer: Callable[[Any, Any], Any], request: Any, context: Any
    ) -> Any:
        self.calls[call] += 1
        if call in self.hanging:
            self._released.wait(_HANG_S)
        if call in self.disabled:
            context.abort(grpc.StatusCode.UNKNOWN, f"PodResources API {call} method disabled")
        if call in self.refusing:
            context.abort(self.refusing[call], "rejected by rate limit")
        return answer(request, context)

    def _list(self, request: Any, context: Any) -> Any:
        return messages().ListPodResourcesResponse(pod_resources=self.pods)

    def _get(self, request: Any, context: Any) -> Any:
        for known in self.pods:
            if (known.name, known.namespace) == (request.pod_name, request.pod_namespace):
                return messages().GetPodResourcesResponse(pod_resources=known)
        context.abort(
            grpc.StatusCode.UNKNOWN,
            f"pod {request.pod_name} in namespace {request.pod_namespace} not found",
        )
        return None

    def _allocatable(self, request: Any, context: Any) -> Any:
        return messages().AllocatableResourcesResponse(devices=self.allocatable)


class Impostor:
    """Something else that listens at the kubelet's socket: to a request it says `words`.

    Then it says nothing more, or hangs up.
    """

    def __init__(self, path: Path, words: bytes, *, hang_up: bool = False) -> None:
        self._words = words
        self._hang_up = hang_up
        self._callers: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for caller in self._callers:
            caller.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return  # closed
            with contextlib.suppress(OSError):  # the caller may have given up
                _await_request(caller)
                caller.sendall(self._words)
            if self._hang_up:
                caller.close()
            else:
                self._callers.append(caller)


def _await_request(caller: socket.socket) -> None:
    """Read up to the end of the first HEADERS frame, which asks for a call."""
    stream = caller.makefile("rb")
    stream.read(24)  # the preface of HTTP/2
    kind = None
    while kind != 1:
        head = stream.read(9)
        if len(head) < 9:
            return  # the caller has given up
        kind = head[3]
        stream.read(int.from_bytes(head[:3], "big"))
