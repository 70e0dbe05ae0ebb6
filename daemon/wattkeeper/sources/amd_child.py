"""The child process that owns amdsmi."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from wattkeeper.sources.driver_child import leave_because, serve

_NO_LIBRARY, _NOT_FITTING = 4, 5
_TWO_DIES = ("0x7408", "0x740c")
"""Device ids of MI250X and MI250."""


def main(path_sysfs: str, rocm: str) -> NoReturn:
    """Serve the agent. `rocm`: where the binding looks for libamd_smi.so first."""
    os.environ["ROCM_PATH"] = rocm
    serve(lambda: _open(Path(path_sysfs)))


def _open(path_sysfs: Path) -> tuple[str, list[Any]]:
    device = _binding()
    smi = device.smi
    call = "amdsmi_init"
    try:
        smi.amdsmi_init(smi.AmdSmiInitFlags.INIT_AMD_GPUS)
        call = "amdsmi_get_processor_handles"
        handles = smi.amdsmi_get_processor_handles()
    except device.AmdDevice.error as error:
        leave_because(device.AmdDevice.failure(device.AmdDevice.code_of(error)).words(call))
    found = dict(_addresses(device, handles))
    return _version(device, handles), _meters(device, found, path_sysfs)


def _binding() -> Any:
    """Import amdsmi; it looks up every function of the library at once."""
    try:
        return importlib.import_module("wattkeeper.sources.amd_device")
    except AttributeError as error:
        leave_because({"code": _NOT_FITTING, "call": "import amdsmi", "text": str(error)})
    except KeyError:  # of its table of libraries
        text = f"no libamd_smi.so in {os.environ['ROCM_PATH']}/lib, nor where libraries are"
        leave_because({"code": _NO_LIBRARY, "call": "import amdsmi", "text": text})
    except (ImportError, OSError) as error:
        leave_because({"code": _NO_LIBRARY, "call": "import amdsmi", "text": str(error)})


def _addresses(device: Any, handles: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the PCI address of each handle; a GPU that is lost has none."""
    for handle in handles:
        try:
            yield device.smi.amdsmi_get_gpu_device_bdf(handle), handle
        except device.AmdDevice.error:
            continue


def _version(device: Any, handles: list[Any]) -> str:
    try:
        said = device.smi.amdsmi_get_gpu_driver_info(handles[0]) if handles else {}
    except device.AmdDevice.error:
        said = {}
    version = said.get("driver_version", "")
    return "" if version == "N/A" else str(version)


def _meters(device: Any, found: dict[str, Any], path_sysfs: Path) -> list[Any]:
    """Return a device for each handle that has a meter, with those that have none.

    The partitions of an MI300 are functions of one PCI device: the socket has one meter. Of the
    two dies of an MI250X the first in PCI order counts for both, and the second counts nothing. A
    GPU inside a processor is left to RAPL, which counts the package.
    """
    sockets: dict[str, list[str]] = {}
    for address in sorted(found):
        sockets.setdefault(address.rpartition(".")[0], []).append(address)
    meters: list[tuple[list[str], list[str]]] = []
    for addresses in sockets.values():
        alone = meters and len(meters[-1][0]) == 1 and not meters[-1][1]
        if alone and _second_die(device, found[addresses[0]]):
            meters[-1][1].extend(addresses)
        elif _draws_by_itself(device, found[addresses[0]]):
            meters.append((addresses, []))
    return [
        device.AmdDevice(own[0], [found[a] for a in (*own, *dies)], path_sysfs, dies)
        for own, dies in meters
    ]


def _second_die(device: Any, handle: Any) -> bool:
    """Tell whether this is a die of a pair, and not the one that counts."""
    try:
        asic = device.smi.amdsmi_get_gpu_asic_info(handle)
    except device.AmdDevice.error:
        return False
    return asic.get("device_id") in _TWO_DIES and _counts(device, handle) is False


def _draws_by_itself(device: Any, handle: Any) -> bool:
    """Tell whether a GPU has a power limit or an energy counter, unlike one inside a processor."""
    try:
        limited = bool(device.smi.amdsmi_get_power_cap_info(handle).get("max_power_cap"))
    except device.AmdDevice.error as error:
        limited = device.AmdDevice.code_of(error) not in device.AmdDevice.not_offered
    return limited or _counts(device, handle) is not False


def _counts(device: Any, handle: Any) -> bool | None:
    """Tell whether a GPU counts energy, None if that cannot be told now."""
    try:
        said = device.smi.amdsmi_get_energy_count(handle)
    except device.AmdDevice.error as error:
        return False if device.AmdDevice.code_of(error) in device.AmdDevice.not_offered else None
    return bool(said.get("energy_accumulator", said.get("power")))


if __name__ == "__main__":
    main(*sys.argv[1:])
