"""Why the kubelet did not tell which pod holds which device."""

from pathlib import Path

from wattkeeper.model.state import State

_FIX_RESTART = "it comes back with the kubelet; if not, see `journalctl -u kubelet`"


class KubeletError(Exception):
    """There is no answer. The text says why; `state` and `fix` are what `doctor` shows."""

    state = State.FAILING
    fix = _FIX_RESTART


class MissingError(KubeletError):
    """There is no kubelet on this machine."""

    state = State.ABSENT
    fix = ""

    def __init__(self, socket: Path) -> None:
        super().__init__(f"no kubelet here ({socket} is not there)")


class ExtraError(KubeletError):
    """There is a kubelet, but not the package to ask it with."""

    state = State.ABSENT
    fix = "pip install 'wattkeeper[kubernetes]', or set kubernetes.enabled = false"


class DeniedError(KubeletError):
    """The agent may not ask."""

    state = State.DENIED
    fix = "run the agent as root: the kubelet's socket is root's"


class SilentError(KubeletError):
    """The kubelet took the question and did not answer in time."""

    state = State.STALE


class RefusedError(KubeletError):
    """The kubelet answered with an error."""


class UnofferedError(KubeletError):
    """The kubelet does not have this call, or has it switched off."""

    fix = "pod-resources v1 needs a kubelet of Kubernetes 1.20 or later"


class GarbledError(KubeletError):
    """Whoever answered does not speak pod-resources v1."""

    fix = "point kubernetes.pod_resources at the kubelet's own kubelet.sock"
