"""Which load of the NVIDIA driver this is: another load is another epoch of every counter."""

from pathlib import Path


def driver_load(path_sysfs: Path, path_procfs: Path, driver: str) -> str:
    """Return an identity of the present load, the same for every process until the next load.

    The energy counter starts at zero when the kernel module is loaded, and the driver tells
    nobody when that was. But sysfs makes the folder of a module anew at each load, and kernfs
    hands out inode numbers in a cycle: `/sys/module/nvidia` keeps its inode from load to unload
    and does not get it again. Without that folder the module's address in `/proc/modules` stands
    in (root only: others see zeros), and without both only the driver's version is left.
    """
    try:
        return f"{driver}/{(path_sysfs / 'module/nvidia').stat().st_ino}"
    except OSError:
        address = _address(path_procfs / "modules")
        return f"{driver}/{address}" if address else driver


def _address(modules: Path) -> str:
    try:
        lines = modules.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[0] == "nvidia" and words[5].strip("0x"):
            return words[5]
    return ""


def pci_addresses(path_sysfs: Path) -> list[str]:
    """Return the PCI addresses that the NVIDIA driver is bound to, from sysfs alone."""
    folder = path_sysfs / "bus/pci/drivers/nvidia"
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.count(":") == 2)
    except OSError:
        return []
