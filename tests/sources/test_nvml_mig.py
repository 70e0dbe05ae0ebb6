"""MIG GPUs through the real binding: their parts, who is on them, how busy each is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENVIRONMENT, MIG, FakeNvml
from wattkeeper.model.meter import Partition
from wattkeeper.sources.base import DeviceProcess
from wattkeeper.sources.driver_gpus import Gpus
from wattkeeper.sources.driver_partitions import partitions
from wattkeeper.sources.driver_wire import Board, GpuAnswer, Instance, Slow
from wattkeeper.sources.nvml import NVIDIA

pytestmark = pytest.mark.compiler

GIB = 1 << 30
SMALL, MIDDLE, LARGE = ("MIG-s", "1g.10gb", 1), ("MIG-m", "2g.20gb", 2), ("MIG-l", "3g.40gb", 3)

MIG_PROGRAM = """
import json, sys, time
sys.path[:0] = sys.argv[1:]
import pynvml as n
from wattkeeper.sources.nvml_mig import Mig

def call(name, *args):
    try:
        return getattr(n, name)(*args)
    except n.NVMLError:
        return None

n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
mig = Mig(call, gpm=True)
mig.look(gpu, 7)
first = mig.activity(gpu)
at_once = mig.activity(gpu)
time.sleep(0.12)
print(json.dumps([first, at_once, mig.activity(gpu)]))
"""


def slow(*instances: Instance, memory: int = 81559 << 20, most: int = 7) -> Slow:
    """Return slow values of a GPU with these instances; by default an H100 with 80 GB."""
    return Slow(0, memory, None, {}, {}, {}, [], list(instances), most)


@pytest.mark.parametrize(
    ("memory_mb", "slices", "expected"),
    [
        (9856, 1, (125_000, 142_857)),
        (19968, 1, (250_000, 142_857)),
        (19968, 2, (250_000, 285_714)),
        (40448, 3, (500_000, 428_571)),
        (40448, 4, (500_000, 571_428)),
        (80896, 7, (1_000_000, 1_000_000)),
    ],
)
def test_parts_of_an_h100(memory_mb: int, slices: int, expected: tuple[int, int]) -> None:
    """Every profile is a whole number of memory slices, of which there are eight."""
    (part,) = partitions(slow(Instance("MIG-1", "", 3, slices, slices, memory_mb)), "gpu/a")
    assert part == Partition("MIG-1", "gpu/a", 3, *expected)


def test_parts_of_an_a30() -> None:
    """Four compute and four memory slices."""
    instance = Instance("MIG-1", "1g.6gb", 3, 1, 1, 5952)
    (part,) = partitions(slow(instance, memory=24258 << 20, most=4), "gpu/a")
    assert (part.memory_ppm, part.compute_ppm) == (250_000, 250_000)


def test_a_memory_that_is_no_whole_slice_is_taken_as_it_is() -> None:
    """A GPU divided in a way not known here; and one whose memory is not told goes by compute."""
    odd = Instance("MIG-1", "", 3, 2, 2, 3_500)
    (part,) = partitions(slow(odd, memory=10_000 << 20, most=5), "gpu/a")
    assert (part.memory_ppm, part.compute_ppm) == (350_000, 400_000)
    (part,) = partitions(slow(odd, memory=0, most=5), "gpu/a")
    assert (part.memory_ppm, part.compute_ppm) == (400_000, 400_000)


async def test_partitions(bench: Bench) -> None:
    """By UUID, with the GPU instance's number; GPUs without MIG have none."""
    bench.fake.gpu(1).slice(SMALL, LARGE, gpu_instances=(9, 2))
    await bench.source.start()
    meter = bench.fake.meter(1)
    assert bench.source.partitions() == {
        "MIG-s": Partition("MIG-s", meter, 9, 125_000, 142_857),
        "MIG-l": Partition("MIG-l", meter, 2, 500_000, 428_571),
    }
    assert [spec.info.labels["minor"] for spec in bench.source.meters()] == ["0", "1", "2", "3"]


async def test_compute_instances_share_the_memory_of_their_gpu_instance(bench: Bench) -> None:
    """Three compute instances in one 3g.40gb: a third of its memory and a slice each."""
    rows = [(f"MIG-{n}", "1c.3g.40gb", 3) for n in range(3)]
    bench.fake.gpu(0).slice(*rows, gpu_instances=(1, 1, 1))
    await bench.source.start()
    parts = bench.source.partitions().values()
    assert [(p.instance, p.memory_ppm, p.compute_ppm) for p in parts] == [(1, 166_666, 142_857)] * 3


@pytest.mark.parametrize("unprivileged", [0, 1])
async def test_processes_stand_on_their_instances(bench: Bench, unprivileged: int) -> None:
    """Told by the list of the whole GPU, else by asking each instance; MPS clients as well."""
    gpu = bench.fake.gpu(0)
    gpu.slice(SMALL, MIDDLE)
    gpu.processes([7, 8, 9], instances=("MIG-s", "MIG-m", "MIG-m"), mps=(9,))
    gpu.unprivileged = unprivileged
    await bench.source.start()
    assert bench.source.processes()[bench.fake.meter(0)] == [
        DeviceProcess(7, None, "MIG-s"),
        DeviceProcess(8, None, "MIG-m"),
        DeviceProcess(9, None, "MIG-m"),
    ]


async def test_instances_come_and_go(bench: Bench) -> None:
    """The layout is that of the last look; an instance that does not answer is left out."""
    gpu = bench.fake.gpu(0)
    gpu.slice(SMALL, MIDDLE)
    await bench.source.start()
    assert [*bench.source.partitions()] == ["MIG-s", "MIG-m"]
    gpu.slice(LARGE)
    bench.fake.reload()
    await bench.read_until(lambda _: [*bench.source.partitions()] == ["MIG-l"])
    gpu.code[MIG] = 999
    bench.fake.reload()
    await bench.read_until(lambda _: not bench.source.partitions())


async def test_mps_clients_are_listed(bench: Bench) -> None:
    """Without MIG as well: beside their server."""
    bench.fake.gpu(0).processes([7, 8], [80, 0], mps=(8,))
    await bench.source.start()
    assert bench.source.processes()[bench.fake.meter(0)] == [
        DeviceProcess(7, 800_000), DeviceProcess(8, 0)
    ]  # fmt: skip


def test_activity_of_an_instance_is_that_of_its_processes() -> None:
    """What GPM said of the instance goes for whoever is on it; others keep their own."""
    board = Board(
        "GPU-1", "", "H100", "", "", "hopper", module_scope=False, max_limit_mw=0, counter=True
    )
    known = replace(
        slow(Instance("MIG-1", "1g.10gb", 3, 1, 1, 9856)),
        processes=[(7, None, "MIG-1"), (8, None, "MIG-2"), (9, 40, "")],
        busy_ppm={"MIG-1": 370_000},
    )
    gpus = Gpus(NVIDIA)
    gpus.learn([GpuAnswer(0, "GPU-1", board=board, slow=known, boot_ns=1, power_mw=1)], ())
    assert gpus.processes()["gpu/GPU-1"] == [
        DeviceProcess(7, 370_000, "MIG-1"), DeviceProcess(8, None, "MIG-2"),
        DeviceProcess(9, 400_000),
    ]  # fmt: skip


async def test_gpm_is_said_where_it_is_on(bench: Bench) -> None:
    """Whoever looks for why a profiler is locked out finds it in `doctor`."""
    bench.fake.gpu(0).slice(SMALL)
    await bench.source.start()
    assert "GPM" not in bench.finding().detail
    bench.source, plain = bench.build(gpm=True), bench.source
    await plain.close()
    await bench.source.start()
    assert "profilers" in bench.finding().detail


def test_gpm_tells_how_busy_an_instance_was_between_two_samples(
    tmp_path: Path, nvml_library: Path
) -> None:
    """Nothing at first, nothing too soon; then in ppm, alike for what shares a GPU instance."""
    gpu = FakeNvml(tmp_path / "state", 1).gpu(0)
    half = [(f"MIG-{n}", "1c.2g.20gb", 2) for n in range(2)]
    gpu.slice(SMALL, *half, gpu_instances=(9, 3, 3))
    gpu.mig[0].sm_percent, gpu.mig[1].sm_percent = 80, 35
    busy = {"MIG-s": 800_000, "MIG-0": 350_000, "MIG-1": 350_000}
    assert ask(tmp_path, nvml_library) == [{}, {}, busy]
    gpu.gpm = 0
    assert ask(tmp_path, nvml_library) == [{}, {}, {}]


def ask(folder: Path, library: Path) -> list[dict[str, int]]:
    """Run the program above on the fake library."""
    source = str(Path(__file__).parents[2] / "daemon")
    done = subprocess.run(
        [sys.executable, "-c", MIG_PROGRAM, source],
        env={
            **os.environ,
            ENVIRONMENT: str(folder / "state"),
            "LD_LIBRARY_PATH": str(library.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[dict[str, int]] = json.loads(done.stdout)
    return answers
