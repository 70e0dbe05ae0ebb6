"""What sysfs tells of AMD GPUs. Standard library only: the driver's child imports it, too."""

import re
from collections.abc import Iterator
from pathlib import Path

from wattkeeper.sources.files import UnreadableError, names, text_if_any

_VENDOR = "0x1002"
_GPU_CLASSES = ("0x03", "0x12")
"""Display controllers, and processing accelerators, as which the Instinct series comes."""
_APUS = frozenset({"0x74a0"})
"""Device ids of MI300A."""
_UNIQUE_ID = re.compile(r"[0-9a-f]{1,16}")
_RENDER = re.compile(r"renderD([0-9]+)")


def gpus(path_sysfs: Path) -> Iterator[str]:
    """Yield the PCI addresses of the AMD GPUs of this machine, whatever driver they have."""
    devices = path_sysfs / "bus/pci/devices"
    for address in _names(devices):
        if text_if_any(devices / address / "vendor") == _VENDOR and text_if_any(
            devices / address / "class"
        ).startswith(_GPU_CLASSES):
            yield address


def loaded(path_sysfs: Path) -> bool:
    """Tell whether the amdgpu driver is loaded."""
    return (path_sysfs / "module/amdgpu").is_dir()


def identity(path_sysfs: Path, address: str) -> str:
    """Return the UUID of a GPU as HIP and rocminfo print it, its PCI address where it has none.

    It is `GPU-` and the 16 hexadecimal digits of the kernel's `unique_id`. What amdsmi calls UUID
    is made of the same number, but differently in each of its versions.
    """
    unique_id = text_if_any(path_sysfs / "bus/pci/devices" / address / "unique_id").lower()
    if not _UNIQUE_ID.fullmatch(unique_id) or not unique_id.strip("0"):
        return address
    return f"GPU-{unique_id.zfill(16)}"


def counts_processors(path_sysfs: Path, address: str) -> bool:
    """Tell whether the power of a GPU is that of its whole socket, processors and all."""
    return text_if_any(path_sysfs / "bus/pci/devices" / address / "device") in _APUS


def minor(path_sysfs: Path, address: str) -> int | None:
    """Return N of /dev/dri/renderDN, None if there is none."""
    for name in _names(path_sysfs / "bus/pci/devices" / address / "drm"):
        found = _RENDER.fullmatch(name)
        if found:
            return int(found[1])
    return None


def _names(folder: Path) -> list[str]:
    try:
        return names(folder)
    except UnreadableError:
        return []
