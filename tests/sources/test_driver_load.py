"""The identity of a driver load survives an agent restart, and no reload."""

from pathlib import Path

from wattkeeper.sources.driver_load import driver_load, pci_addresses


def test_inode_of_the_module(tmp_path: Path) -> None:
    """The same folder is the same load; a folder made anew is another one."""
    module = tmp_path / "module/nvidia"
    module.mkdir(parents=True)
    first = driver_load(tmp_path, tmp_path, "nvidia", "610.43.02")
    assert driver_load(tmp_path, tmp_path, "nvidia", "610.43.02") == first
    module.rename(tmp_path / "kept")  # so that the file system cannot hand out the inode again
    module.mkdir()
    assert driver_load(tmp_path, tmp_path, "nvidia", "610.43.02") != first


def test_address_in_proc_modules(tmp_path: Path) -> None:
    """Without sysfs the module's address tells one load from the next."""
    modules = tmp_path / "modules"
    modules.write_text(
        "nvidia_uvm 1 0 - Live 0xffffffffc1000000 (POE)\n"
        "nvidia 56729600 12 nvidia_uvm, Live 0xffffffffc0a00000 (POE)\n"
    )
    assert driver_load(tmp_path, tmp_path, "nvidia", "610") == "610/0xffffffffc0a00000"


def test_hidden_address(tmp_path: Path) -> None:
    """An address that the kernel hides from us is none, nor is garbage."""
    modules = tmp_path / "modules"
    modules.write_text("nvidia 1 0 - Live 0x0000000000000000 (POE)\n")
    assert driver_load(tmp_path, tmp_path, "nvidia", "610") == "610"
    modules.write_text("nvidia\n\n")
    assert driver_load(tmp_path, tmp_path, "nvidia", "610") == "610"
    modules.unlink()
    assert driver_load(tmp_path, tmp_path, "nvidia", "610") == "610"


def test_pci_addresses(tmp_path: Path) -> None:
    """Only what looks like an address is one; no driver has none."""
    assert pci_addresses(tmp_path, "nvidia") == []
    for name in ("0000:65:00.0", "0000:17:00.0", "module", "new_id"):
        (tmp_path / "bus/pci/drivers/nvidia" / name).mkdir(parents=True)
    assert pci_addresses(tmp_path, "nvidia") == ["0000:17:00.0", "0000:65:00.0"]
