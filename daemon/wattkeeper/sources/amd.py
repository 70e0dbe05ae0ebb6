"""AMD GPUs through amdsmi."""

import importlib.util
import os
from pathlib import Path

from wattkeeper.model.state import Finding, State
from wattkeeper.sources import amd_sysfs
from wattkeeper.sources.driver import DriverSource
from wattkeeper.sources.driver_gpus import Driver
from wattkeeper.sources.driver_patience import Patience

_LOST = "look for amdgpu messages in the kernel log; reset the GPU (amd-smi reset) or reboot"
_INSTALL = (
    "install ROCm's amd-smi-lib, or pip install 'wattkeeper[amd]' 'amdsmi==VERSION' with the "
    "version of ROCm; where ROCm is not in /opt/rocm, set ROCM_PATH"
)
AMD = Driver(
    name="amdsmi",
    vendor="amd",
    maker="AMD",
    module="amdgpu",
    child="wattkeeper.sources.amd_child",
    init="amdsmi_init",
    one_by_one=False,
    divided="parts",
    states={4: State.ABSENT, 10: State.DENIED, 34: State.ABSENT, 51: State.ABSENT},
    words={},
    fixes={
        2: "this GPU offers neither an energy counter nor a power reading",
        4: _INSTALL,
        5: "binding and library are of two versions of ROCm: " + _INSTALL,
        10: "give the agent's user access to /dev/kfd and /dev/dri/render* (groups render, video)",
        31: _LOST,
        34: "load the driver: modprobe amdgpu",
        51: "load the driver: modprobe amdgpu",
    },
    lost=_LOST,
    hung="look for amdgpu messages in the kernel log",
)


def binding(rocm: Path) -> Path | None:
    """Return the folder that amdsmi is imported from, None if there is none.

    ROCm brings its own, which fits its library: structures differ between versions. One that was
    installed beside the agent serves where ROCm has none.
    """
    own = rocm / "share/amd_smi"
    if (own / "amdsmi/__init__.py").is_file():
        return own
    installed = importlib.util.find_spec("amdsmi")
    origin = installed.origin if installed is not None else None
    return None if origin is None else Path(origin).parents[1]


class AmdSource(DriverSource):
    """The AMD driver. `rocm`: where ROCm is, None for $ROCM_PATH or /opt/rocm.

    The library opens all GPUs at once, so a release of one is a release of all.
    """

    def __init__(
        self,
        path_sysfs: Path,
        path_procfs: Path,
        rocm: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        rocm = rocm or Path(os.environ.get("ROCM_PATH") or "/opt/rocm")
        self._binding = binding(rocm)
        folders = () if self._binding is None else (str(self._binding),)
        options = (str(path_sysfs), str(rocm))
        super().__init__(AMD, options, folders, path_sysfs, path_procfs, patience)

    @property
    def blind(self) -> bool:
        """Whether it is known that no GPU can be asked, and none ever was."""
        return not self._gpus and self._problem is not None

    def _unready(self) -> Finding | None:
        if not amd_sysfs.loaded(self._path_sysfs):
            detail = "there is an AMD GPU, and no amdgpu driver"
            return Finding(self.name, State.ABSENT, detail, "load the driver: modprobe amdgpu")
        if self._binding is None:
            return Finding(self.name, State.ABSENT, "no amdsmi is installed", _INSTALL)
        return None
