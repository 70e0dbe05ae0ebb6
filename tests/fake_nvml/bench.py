"""An `NvmlSource` on the fake library, for tests."""

from tests.fake_nvml.library import FakeNvml
from tests.sources.bench import QUICK, DriverBench
from wattkeeper.sources.driver_patience import Patience
from wattkeeper.sources.nvml import NvmlSource


class Bench(DriverBench[FakeNvml]):
    """NVIDIA's."""

    module = "nvidia"
    lost = 15
    energy_call = "nvmlDeviceGetTotalEnergyConsumption"

    def build(self, patience: Patience = QUICK, *, gpm: bool = False) -> NvmlSource:
        """Return another source on the same hardware."""
        return NvmlSource(self.folder, self.folder, str(self.library), patience, gpm=gpm)
