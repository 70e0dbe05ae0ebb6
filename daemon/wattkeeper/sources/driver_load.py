"""Which load of a GPU driver this is: another load is another epoch of every counter."""

from pathlib import Path


def driver_load(path_sysfs: Path, path_procfs: Path, module: str, version: str) -> str:
    """Return an identity of the present load, the same for every process until the next load.

    An energy counter starts at zero when the kernel module is loaded, and the driver tells
    nobody when that was. But sysfs makes the folder of a module anew at each load, and kernfs
    hands out inode numbers in a cycle: `/sys/module/nvidia` keeps its inode from load to unload
    and does not get it again. Without that folder the module's address in `/proc/modules` stands
    in (root only: others see zeros), and without both only the driver's version is left.
    """
    try:
        return f"{version}/{(path_sysfs / 'module' / module).stat().st_ino}"
    except OSError:
        address = _address(path_procfs / "modules", module)
        return f"{version}/{address}" if address else version


def _address(modules: Path, module: str) -> str:
    try:
        lines = modules.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[0] == module and words[5].strip("0x"):
            return words[5]
    return ""


def pci_addresses(path_sysfs: Path, module: str) -> list[str]:
    """Return the PCI addresses that a driver is bound to, from sysfs alone."""
    folder = path_sysfs / "bus/pci/drivers" / module
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.count(":") == 2)
    except OSError:
        return []
