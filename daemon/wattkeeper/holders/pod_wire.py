"""The little of protobuf that the kubelet's pod-resources v1 needs, read from bytes.

Messages and field numbers are those of `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`. What
is not read here (CPU ids, memory, topology, whatever a later kubelet adds) is skipped by its wire
type, as protobuf asks. Four strings per device do not warrant a runtime and generated code that
have to agree on a version, on nodes where every import counts.
"""

from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT = 10
"""Bytes of a 64-bit number in steps of seven bits."""


@dataclass(frozen=True, slots=True)
class ClaimedDevice:
    """A device of a ResourceClaim (DRA). `cdi`: its fully qualified CDI names."""

    driver: str
    pool: str
    device: str
    cdi: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginDevice:
    """A device of a device plugin, by the resource's name and the plugin's own id."""

    resource: str
    id: str


@dataclass(frozen=True, slots=True)
class PodDevices:
    """A pod with the devices of all its containers, as the kubelet lists it."""

    namespace: str
    name: str
    containers: tuple[str, ...] = ()
    devices: tuple[PluginDevice, ...] = ()
    claimed: tuple[ClaimedDevice, ...] = ()


def pods(message: bytes) -> tuple[PodDevices, ...]:
    """Read a ListPodResourcesResponse.

    Raises:
        ValueError: the bytes are not such a message.

    """
    return tuple(_pod(inner) for inner in _Fields(message).messages(1))


def pod(message: bytes) -> PodDevices:
    """Read a GetPodResourcesResponse.

    Raises:
        ValueError: the bytes are not such a message, or it holds no pod.

    """
    found = _Fields(message).messages(1)
    if not found:
        raise ValueError("the answer holds no pod")
    return _pod(found[-1])


def allocatable(message: bytes) -> tuple[PluginDevice, ...]:
    """Read the devices of an AllocatableResourcesResponse.

    Raises:
        ValueError: the bytes are not such a message.

    """
    return _plugin_devices(_Fields(message).messages(1))


def pod_request(namespace: str, name: str) -> bytes:
    """Return a GetPodResourcesRequest."""
    return _text_field(1, name) + _text_field(2, namespace)


def _pod(message: bytes) -> PodDevices:
    fields = _Fields(message)
    containers = [_Fields(inner) for inner in fields.messages(3)]
    return PodDevices(
        fields.text(2),
        fields.text(1),
        tuple(container.text(1) for container in containers),
        _plugin_devices([inner for found in containers for inner in found.messages(2)]),
        tuple(
            _claimed(inner)
            for found in containers
            for resource in found.messages(5)
            for inner in _Fields(resource).messages(4)
        ),
    )


def _plugin_devices(messages: list[bytes]) -> tuple[PluginDevice, ...]:
    devices: list[PluginDevice] = []
    for message in messages:
        fields = _Fields(message)
        resource = fields.text(1)
        devices += [PluginDevice(resource, _text(id_)) for id_ in fields.messages(2)]
    return tuple(devices)


def _claimed(message: bytes) -> ClaimedDevice:
    fields = _Fields(message)
    cdi = tuple(_Fields(inner).text(1) for inner in fields.messages(1))
    return ClaimedDevice(fields.text(2), fields.text(3), fields.text(4), cdi)


class _Fields:
    """The length-delimited fields of one message, by number, in order; others are skipped."""

    __slots__ = ("_found",)

    def __init__(self, message: bytes) -> None:
        self._found: dict[int, list[bytes]] = {}
        at = 0
        while at < len(message):
            tag, at = _varint(message, at)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise ValueError("field number 0")
            if kind == _BYTES:
                size, at = _varint(message, at)
                end = at + size
                self._found.setdefault(number, []).append(message[at:end])
            elif kind == _VARINT:
                _, end = _varint(message, at)
            elif kind in (_FIXED64, _FIXED32):
                end = at + (8 if kind == _FIXED64 else 4)
            else:
                raise ValueError(f"wire type {kind}")
            if end > len(message):
                raise ValueError(f"field {number} is cut short")
            at = end

    def messages(self, number: int) -> list[bytes]:
        return self._found.get(number, [])

    def text(self, number: int) -> str:
        """Return the last value of a text field, as protobuf says; empty if there is none."""
        found = self._found.get(number)
        return _text(found[-1]) if found else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8")  # its UnicodeDecodeError is a ValueError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step, byte in enumerate(data[at : at + _MOST_VARINT]):
        value |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return value, at + step + 1
    raise ValueError("a number without an end")


def _text_field(number: int, text: str) -> bytes:
    data = text.encode()
    return _number(number << 3 | _BYTES) + _number(len(data)) + data


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
