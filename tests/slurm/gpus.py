"""The GPUs of the cluster's nodes: they draw what jobs make them draw, and remember all of it."""

import os
import selectors
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fake_nvml.library import FakeNvml
from tests.slurm.files import GPUS

REST_W = 60.0
STEP_MS = 20
BUSY_PERCENT = 90


class Gpus:
    """Every GPU of every node: one fake driver state per node, one named pipe per GPU.

    Who writes watts into a pipe makes the GPU draw so much above its rest until he closes it,
    however he ends. A GPU that nobody works on has a utilization of 0.
    """

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        self._folder = folder
        self._fakes = {name: FakeNvml(folder / f"{name}.state", GPUS) for name in nodes}
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        for n, (name, fake) in enumerate(self._fakes.items()):
            for i in range(GPUS):
                gpu = fake.gpu(i)
                gpu.uuid = f"GPU-{n:04x}{i:04x}-0000-4000-8000-0000c0ffee00".encode()
                gpu.wave(REST_W + i)
                gpu.step_ms, gpu.gpu_percent, gpu.memory_percent = STEP_MS, 0, 0
                os.mkfifo(folder / f"{name}.{i}")
                (folder / f"{name}.{i}").chmod(0o666)
                self._open(name, i)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def state(self, node: str) -> Path:
        """Return the file by which a node's driver library knows its GPUs."""
        return self._fakes[node].path

    def meter(self, node: str, gpu: int) -> str:
        """Return the meter name of a GPU."""
        return self._fakes[node].meter(gpu)

    def energy_uj(self, node: str, gpu: int, at_ns: int) -> int:
        """Return what the GPU's counter said at a boot time, exactly."""
        return self._fakes[node].gpu(gpu).energy_mj(at_ns) * 1000

    def step_uj(self, node: str, gpu: int) -> int:
        """Return the most that one step of the counter was ever worth."""
        state = self._fakes[node].gpu(gpu)
        most_w = max((state.loads[i].watts for i in range(state.load_count)), default=0)
        return int((state.base_w + most_w) * STEP_MS * 1000)

    def close(self) -> None:
        """Stop listening to jobs."""
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def _open(self, node: str, gpu: int) -> None:
        pipe = os.open(self._folder / f"{node}.{gpu}", os.O_RDONLY | os.O_NONBLOCK)
        self._selector.register(pipe, selectors.EVENT_READ, (node, gpu))

    def _watch(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                node, gpu = key.data
                said = os.read(key.fd, 4096).split()
                self._load(node, gpu, float(said[-1]) if said else 0.0)
                if not said:
                    # At its end a pipe stays readable until it is opened anew: that first, so
                    # that a job that opens it at this instant finds a reader.
                    self._selector.unregister(key.fd)
                    self._open(node, gpu)
                    os.close(key.fd)

    def _load(self, node: str, gpu: int, watts: float) -> None:
        state = self._fakes[node].gpu(gpu)
        state.load(watts, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        state.gpu_percent = BUSY_PERCENT if watts else 0
