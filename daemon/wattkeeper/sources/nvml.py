"""NVIDIA GPUs through NVML."""

import importlib.util
from pathlib import Path

from wattkeeper.model.state import State
from wattkeeper.sources.driver import DriverSource
from wattkeeper.sources.driver_gpus import Driver
from wattkeeper.sources.driver_patience import Patience

_LOST = "look for Xid 79 in the kernel log; reset the GPU (nvidia-smi --gpu-reset) or reboot"


def binding() -> tuple[str, ...]:
    """Return the folder of pynvml, for the child to import from."""
    binding = importlib.util.find_spec("pynvml")
    origin = binding.origin if binding is not None else None
    return () if origin is None else (str(Path(origin).parent),)


NVIDIA = Driver(
    name="nvml",
    vendor="nvidia",
    maker="NVIDIA",
    module="nvidia",
    child="wattkeeper.sources.nvml_child",
    init="nvmlInit",
    one_by_one=True,
    divided="mig",
    states={4: State.DENIED, 9: State.ABSENT, 12: State.ABSENT},
    words={18: "driver/library version mismatch: reboot or reload"},
    fixes={
        3: "this GPU or vGPU profile offers neither an energy counter nor a power reading",
        4: "give the agent's user access to /dev/nvidia* (group video, or run it as root)",
        9: "load the driver: modprobe nvidia",
        12: "install the NVIDIA driver, or mount its libnvidia-ml.so.1 into the container",
        15: _LOST,
        16: "reset the GPU: wattkeeper release --gpu UUID --for 10m, then nvidia-smi --gpu-reset",
        18: "reboot, or unload and load the driver, so that module and library are of one version",
    },
    lost=_LOST,
    hung="look for Xid messages in the kernel log",
)


class NvmlSource(DriverSource):
    """The NVIDIA driver. `library`: path of libnvidia-ml.so.1, None for the system's.

    `gpm`: sample the activity of MIG instances (Hopper and newer).
    """

    def __init__(
        self,
        path_sysfs: Path,
        path_procfs: Path,
        library: str | None = None,
        patience: Patience | None = None,
        *,
        gpm: bool = False,
    ) -> None:
        options = (library or "", "gpm" if gpm else "")
        super().__init__(NVIDIA, options, binding(), path_sysfs, path_procfs, patience)
        self._gpm = gpm

    def _remark(self) -> str:
        if self._gpm and self.partitions():
            return "; GPM samples MIG instances: users' profilers may not get at them"
        return ""
