"""The child process that owns NVML."""

import ctypes
import sys
from typing import Any, NoReturn

from wattkeeper.sources.driver_child import leave_because, serve
from wattkeeper.sources.nvml_device import NvmlDevice, nvml


def _open(library: str, places: list[str], *, gpm: bool) -> tuple[str, list[NvmlDevice]]:
    if library:
        try:
            ctypes.CDLL(library)  # the binding's own look-up then finds it by its soname
        except OSError as error:
            leave_because({"code": 12, "call": "dlopen", "text": str(error)})
    call = "nvmlInit"
    try:
        # Without attaching, a GPU is opened only when its own thread looks it up: the others
        # are then free for a reset, and one that hangs does not hold up the rest.
        nvml.nvmlInitWithFlags(nvml.NVML_INIT_FLAG_NO_ATTACH if places else 0)
        call = "nvmlSystemGetDriverVersion"
        version = nvml.nvmlSystemGetDriverVersion()
        call = "nvmlDeviceGetCount"
        found: list[Any] = [*places] or [*range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        leave_because(NvmlDevice.failure(error.value).words(call))
    return version, [NvmlDevice(place, gpm=gpm) for place in found]


def main(library: str, gpm: str, *places: str) -> NoReturn:
    """Serve the agent.

    `library`: path of libnvidia-ml.so.1 to use instead of the system's, or "".
    `gpm`: "gpm" to sample the activity of MIG instances, or "".
    `places`: PCI addresses of the only GPUs to open; none means all.
    """
    serve(lambda: _open(library, [*places], gpm=bool(gpm)))


if __name__ == "__main__":
    main(*sys.argv[1:])
