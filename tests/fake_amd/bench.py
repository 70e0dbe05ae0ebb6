"""An `AmdSource` on the fake library, for tests."""

from tests.fake_amd.library import FakeAmd
from tests.sources.bench import QUICK, DriverBench
from wattkeeper.sources.amd import AmdSource
from wattkeeper.sources.driver_patience import Patience


class AmdBench(DriverBench[FakeAmd]):
    """AMD's."""

    module = "amdgpu"
    lost = 31
    energy_call = "amdsmi_get_energy_count"

    def build(self, patience: Patience = QUICK) -> AmdSource:
        """Return another source on the same hardware."""
        return AmdSource(self.folder, self.folder, self.library, patience)

    @property
    def blind(self) -> bool:
        """What the source says about itself to whoever may stand in for it."""
        assert isinstance(self.source, AmdSource)
        return self.source.blind
