"""A device plugin: offers devices to a real kubelet, and tells containers which they were given."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc

from tests.kubelet.protocol import compiled

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_VERSION = "v1beta1"
_SERVICE = f"{_VERSION}.DevicePlugin"


class DevicePlugin:
    """Offers the device ids of one resource, as NVIDIA's plugin does.

    `folder`: the kubelet's, in which it listens. A kubelet that starts removes the plugins' sockets
    there: `register` starts anew.
    """

    def __init__(self, folder: Path, resource: str, ids: Sequence[str]) -> None:
        self._folder = folder
        self._resource = resource
        self._ids = tuple(ids)
        self._socket = folder / f"{resource.replace('/', '-')}.sock"
        self._stopped = threading.Event()
        self._server: grpc.Server | None = None

    def register(self) -> Self:
        """Listen, and tell the kubelet so."""
        self.stop()
        self._stopped = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers([self._handlers()])
        assert self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()
        pb = compiled("deviceplugin")
        with grpc.insecure_channel(f"unix:{self._folder}/kubelet.sock") as channel:
            register = channel.unary_unary(
                f"/{_VERSION}.Registration/Register",
                request_serializer=pb.RegisterRequest.SerializeToString,
                response_deserializer=pb.Empty.FromString,
            )
            request = pb.RegisterRequest(
                version=_VERSION, endpoint=self._socket.name, resource_name=self._resource
            )
            register(request, timeout=10, wait_for_ready=True)
        return self

    def stop(self) -> None:
        """Stop listening."""
        self._stopped.set()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def _handlers(self) -> grpc.GenericRpcHandler:
        pb = compiled("deviceplugin")

        def send(message: Any) -> bytes:
            sent: bytes = message.SerializeToString()
            return sent

        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                    self._options, pb.Empty.FromString, send
                ),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._watch, pb.Empty.FromString, send
                ),
                "Allocate": grpc.unary_unary_rpc_method_handler(
                    self._allocate, pb.AllocateRequest.FromString, send
                ),
            },
        )

    def _options(self, request: Any, context: Any) -> Any:
        return compiled("deviceplugin").DevicePluginOptions()

    def _watch(self, request: Any, context: Any) -> Iterator[Any]:
        devices = [{"ID": one, "health": "Healthy"} for one in self._ids]
        yield compiled("deviceplugin").ListAndWatchResponse(devices=devices)
        self._stopped.wait()

    def _allocate(self, request: Any, context: Any) -> Any:
        given = [
            {"envs": {VISIBLE: ",".join(container.devices_ids)}}
            for container in request.container_requests
        ]
        return compiled("deviceplugin").AllocateResponse(container_responses=given)
