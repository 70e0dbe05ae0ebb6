"""The parts of Kubernetes' objects that are read, as the API writes them; the rest is not decoded.

Lists and maps that are empty may be absent or null, so both mean the same here.
"""

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

MIRROR = "kubernetes.io/config.mirror"
"""Annotation of a static pod's image at the API: the UID that its node knows it by."""


class Base(msgspec.Struct, rename="camel", frozen=True):
    """An object or a part of one; fields that are not named are skipped."""


class OwnerReference(Base, frozen=True):
    """Who made an object. Of several, one at most is the controller."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None

    @property
    def group(self) -> str:
        """The API group, empty for the core's."""
        return self.api_version.rpartition("/")[0]


class Meta(Base, frozen=True):
    """Metadata of an object. `resource_version` is opaque: it is only ever given back."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages this object."""
        return next((r for r in self.owner_references or () if r.controller), None)


class Thing(Base, frozen=True):
    """An object of which the metadata is enough."""

    metadata: Meta


class Terminated(Base, frozen=True):
    """How a container ended."""

    finished_at: datetime | None = None


class ContainerState(Base, frozen=True):
    """What a container does now."""

    terminated: Terminated | None = None


class ContainerStatus(Base, frozen=True):
    """One container."""

    state: ContainerState = ContainerState()


class Condition(Base, frozen=True):
    """A named truth about an object and since when it holds."""

    type: str
    status: str = ""
    last_transition_time: datetime | None = None


class PodSpec(Base, frozen=True):
    """What was asked for."""

    node_name: str = ""
    hostname: str = ""


class PodStatus(Base, frozen=True):
    """What became of a pod."""

    phase: str = ""
    start_time: datetime | None = None
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        """All of its containers."""
        return (
            *(self.init_container_statuses or ()),
            *(self.container_statuses or ()),
            *(self.ephemeral_container_statuses or ()),
        )


class Pod(Thing, frozen=True):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Taint(Base, frozen=True):
    """Why pods keep away from a node."""

    key: str


class NodeSpec(Base, frozen=True):
    """What was asked of a node."""

    unschedulable: bool | None = None
    taints: list[Taint] | None = None


class NodeStatus(Base, frozen=True):
    """What a node says of itself. `capacity`: quantities as text, such as `8` or `1Ki`."""

    capacity: dict[str, str] | None = None
    conditions: list[Condition] | None = None


class Node(Thing, frozen=True):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


T = TypeVar("T", bound=Thing)


class ListMeta(Base, frozen=True):
    """Where a list stands. `continue_` fetches what follows."""

    resource_version: str
    continue_: str = msgspec.field(name="continue", default="")


class Page(Base, Generic[T], frozen=True):
    """A list, or a chunk of one. What lacks these is none: it must not pass for an empty one."""

    metadata: ListMeta
    items: list[T] | None


class Status(Base, frozen=True):
    """Why the API refuses, as an answer or as an event."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Event(Base, frozen=True):
    """One line of a watch; what `object` holds depends on `type`."""

    type: str
    object: msgspec.Raw
