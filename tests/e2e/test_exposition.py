"""`/metrics` of the real programs: the agreed text, and lint-free."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import Site, fetch, until
from tests.fake_nvml.library import FakeNvml

pytestmark = pytest.mark.compiler

GOLDEN = Path(__file__).parents[1] / "fixtures/exposition/agent.prom"
_RAPL = "class/powercap/intel-rapl:0"
_CORETEMP = "devices/platform/coretemp.0/hwmon/hwmon0"


@pytest.fixture
def node(site: Site, fake: FakeNvml) -> Site:
    """Run the agent on two GPUs, one of them in slices, one socket and one job."""
    fake.set_count(2)
    fake.gpu(0).wave(300)
    fake.gpu(1).wave(400)
    fake.gpu(1).slice(("MIG-0c1d", "3g.40gb", 3), ("MIG-4e5f", "4g.40gb", 4))
    for name, text in _kernel_files().items():
        file = site.sysfs / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    link = site.sysfs / "class/hwmon/hwmon0"
    link.parent.mkdir(parents=True)
    link.symlink_to(site.sysfs / _CORETEMP)
    site.aggregator()
    site.agent("--cluster", "test")
    until("the agent is up", site.samples)
    site.mark("start", "4711", "0")
    return site


def _kernel_files() -> dict[str, str]:
    return {
        f"{_RAPL}/name": "package-0\n",
        f"{_RAPL}/energy_uj": "123456789\n",
        f"{_RAPL}/max_energy_range_uj": "262143328850\n",
        f"{_RAPL}:0/name": "dram\n",
        f"{_RAPL}:0/energy_uj": "23456789\n",
        f"{_RAPL}:0/max_energy_range_uj": "65712999613\n",
        f"{_CORETEMP}/name": "coretemp\n",
        f"{_CORETEMP}/temp1_label": "Package id 0\n",
        f"{_CORETEMP}/temp1_input": "61000\n",
    }


def test_agent_exposition_is_the_golden_one(node: Site, request: pytest.FixtureRequest) -> None:
    """Names, help, types and labels are a contract; `pytest --regenerate` renews the file."""

    def whole() -> str | None:
        text = fetch(f"{node.agent_url}/metrics")
        late = ("holder_ratio{", "meter_crosscheck_ratio{", 'cpu_power_watts{cluster="test"')
        return _masked(text) if all(f"\nwattkeeper_{name}" in text for name in late) else None

    text = until("every family is there", whole)
    if request.config.getoption("--regenerate"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


def _masked(text: str) -> str:
    """Mask values and our version; sort the samples of a family, whose order says nothing."""
    masked: list[str] = []
    samples: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            masked += [*sorted(samples), line]
            samples = []
        else:
            series = re.sub(r' version="[^"]*"|(?<=[{,])version="[^"]*"', 'version="_"', line)
            samples.append(series.rpartition(" ")[0] + " _")
    return "\n".join([*masked, *sorted(samples), ""])


@pytest.mark.promtool
def test_promtool_finds_nothing(node: Site) -> None:
    """`promtool check metrics` has no complaint about either program."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (the distribution's prometheus package)")

    def job_is_shown() -> bool:
        if node.ask("/v1/fleet") is None:
            return False
        return 'workload="4711"' in fetch(f"{node.aggregator_url}/metrics")

    until("the job has reached the aggregator", job_is_shown)
    for url in (node.agent_url, node.aggregator_url):
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=fetch(f"{url}/metrics"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
