"""What Slurm's GPU indices mean on a node."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from wattkeeper.agent.slurm import SlurmDevices, gauges
from wattkeeper.holders.base import HolderKey
from wattkeeper.holders.mark_holders import MarkHolders
from wattkeeper.holders.precedence import Conflict
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Partition


def specs(*minors: int) -> list[MeterSpec]:
    """Return GPUs a, b, … in PCI order, with their minor numbers."""
    return [
        MeterSpec(
            MeterInfo(
                f"gpu/{chr(97 + index)}", Component.GPU, "nvml",
                {"gpu": str(index), "minor": str(minor)},
            )
        )
        for index, minor in enumerate(minors)
    ]  # fmt: skip


def devices(
    found: list[MeterSpec], parts: Mapping[str, Partition] | None = None, order: str = "pci"
) -> SlurmDevices:
    """Return the devices of a node."""
    return SlurmDevices(lambda: found, lambda: parts or {}, order)


def test_indices_follow_the_pci_order() -> None:
    """Whatever the minors are; with File= in gres.conf they follow these."""
    found = specs(2, 0, 1)
    assert {0: "gpu/a", 1: "gpu/b", 2: "gpu/c"} == devices(found).devices()
    assert {0: "gpu/b", 1: "gpu/c", 2: "gpu/a"} == devices(found, order="minor").devices()


@pytest.mark.parametrize(("minors", "told"), [((0, 1, 2), 0), ((4, 5), 0), ((1, 0), 1), ((), 0)])
def test_minors_against_pci_order_are_told(minors: tuple[int, ...], told: int) -> None:
    """Only then the two ways to count differ."""
    assert told == len(devices(specs(*minors)).findings())


def test_gpus_of_two_makers_have_no_certain_index() -> None:
    """Slurm counts them together, in the order of its gres.conf: nothing is guessed."""
    makers = {"gpu/a": "nvidia", "gpu/b": "amd"}
    found = [
        MeterSpec(MeterInfo(name, Component.GPU, "", {"gpu": "0", "vendor": maker}))
        for name, maker in makers.items()
    ]
    assert {} == devices(found).devices()
    [finding] = devices(found).findings()
    assert "GPUs of amd and nvidia" in finding.detail


def test_no_driver_no_devices() -> None:
    """A GPU without a minor is in PCI order only."""
    assert {} == devices([]).devices()
    unknown = [MeterSpec(MeterInfo("gpu/a", Component.GPU, "nvml", {"gpu": "0", "minor": ""}))]
    assert {0: "gpu/a"} == devices(unknown).devices()
    assert {} == devices(unknown, order="minor").devices()
    assert [] == devices(unknown).findings()


def test_a_gpu_in_mig_mode_counts_as_its_instances() -> None:
    """The GPUs behind it move on."""
    parts = {
        uuid: Partition(uuid, "gpu/b", number, 250_000, 142_857)
        for number, uuid in enumerate(["MIG-1", "MIG-2"])
    }
    found = devices(specs(0, 1, 2), parts)
    expected = {0: "gpu/a", 1: parts["MIG-1"], 2: parts["MIG-2"], 3: "gpu/c"}
    assert expected == found.devices()
    assert {0: "gpu/a", 1: "gpu/b", 2: "gpu/c"} == found.gpus()


def test_what_is_counted(tmp_path: Path) -> None:
    """Every kind has its series from the start; two schedulers' words are one kind."""
    registry = HolderRegistry(())
    marks = MarkHolders(tmp_path, dict, "b")
    kinds = ("environ", "environ", "pods", "marks", "processes")
    key = HolderKey("slurm", "7", 1)
    registry.conflicts = tuple(Conflict(kind, "gpu/a", key, ()) for kind in kinds)
    found = {(gauge.name, gauge.labels): gauge.value for gauge in gauges(registry, marks)}
    expected = {"allocated": 2, "mapping": 0, "environ": 2, "processes": 1}
    conflicts = {("holder_conflicts", (("kind", kind),)): n for kind, n in expected.items()}
    assert conflicts | {("missed_epilogs_total", ()): 0} == found
