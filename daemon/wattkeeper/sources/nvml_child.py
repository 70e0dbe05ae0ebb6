"""The child process that owns NVML: no sockets of ours, no journal, nothing to lose.

NVML calls hang, now and then for good and in uninterruptible sleep. So each GPU has a thread of
its own here, and the agent speaks to this process over standard input (a socket pair), one JSON
object a line. The process leaves with `os._exit` once the agent's end is closed, whatever its
threads are stuck in.

    ask:     {"seq": 7, "deadline_s": 0.4}, with "hurry": true to read slow values more often
    replies: {"hello": {...}} or {"failed": {...}} once, then {"seq": 7, "gpus": [...]}
"""

import ctypes
import gc
import json
import os
import queue
import select
import sys
import threading
import time
from typing import Any, NoReturn

from wattkeeper.sources.nvml_device import BROKEN, Device, nvml

_PATIENCE_S = 0.5
"""A thread that is busy for less is waited for; it may just be reading its slow values."""


class Worker:
    """The thread of one GPU. `busy_since` belongs to the main thread."""

    def __init__(self, device: Device, outbox: "queue.SimpleQueue[Reply]") -> None:
        self.device = device
        self.busy_since: float | None = None
        self._inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._outbox = outbox
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, seq: int) -> None:
        """Give the thread, which must be idle, its next request."""
        self.busy_since = time.monotonic()
        self._inbox.put(seq)

    def stuck(self) -> dict[str, Any]:
        """Return the answer of a GPU that does not answer."""
        since = self.busy_since or time.monotonic()
        return {
            **self.device.identity(),
            "stuck_s": time.monotonic() - since,
            "call": self.device.call,
        }

    def _run(self) -> None:
        while True:
            seq = self._inbox.get()
            self._outbox.put((self, seq, self._read()))
            self._refresh()
            self._outbox.put((self, seq, None))

    def _read(self) -> dict[str, Any]:
        try:
            answer = self.device.read()
        except nvml.NVMLError as error:
            if error.value in BROKEN:
                self.device.detach()
            answer = _words(error, self.device.call)
        return {**self.device.identity(), **self.device.news(), **answer}

    def _refresh(self) -> None:
        try:
            self.device.refresh()
        except nvml.NVMLError:
            self.device.detach()  # the next read says what is wrong


Reply = tuple[Worker, int, dict[str, Any] | None]


def _words(error: Any, call: str) -> dict[str, Any]:
    return {"code": error.value, "call": call, "text": str(error)}


def collect(workers: list[Worker], outbox: "queue.SimpleQueue[Reply]", seq: int, by: float) -> Any:
    """Ask every GPU that is free and return what answers until the monotonic time `by`.

    Nothing is ever queued on a thread that is stuck: it is asked again once it has come back.
    An answer that came after its own tick counts, if there is no newer one: it is a true reading
    of its instant, and may carry news.
    """
    answers: dict[Worker, dict[str, Any]] = {}
    while not outbox.empty():
        _take(outbox.get(), answers)
    now = time.monotonic()
    waiting: set[Worker] = set()
    for worker in workers:
        if worker.busy_since is None:
            worker.ask(seq)
            waiting.add(worker)
        elif now - worker.busy_since < _PATIENCE_S:
            waiting.add(worker)
    while waiting:
        try:
            reply = outbox.get(timeout=max(0.0, by - time.monotonic()))
        except queue.Empty:
            break
        _take(reply, answers)
        worker, of, answer = reply
        if answer is not None and of == seq:
            waiting.discard(worker)
        elif answer is None and of != seq:
            worker.ask(seq)
    return [answers.get(worker) or worker.stuck() for worker in workers]


def _take(reply: Reply, answers: dict[Worker, dict[str, Any]]) -> None:
    """Note that the worker is free again, or take its answer with the news of a late one."""
    worker, _, answer = reply
    if answer is None:
        worker.busy_since = None
        return
    late = answers.get(worker, {})
    news: dict[str, Any] = {key: late[key] for key in ("board", "slow") if key in late}
    answers[worker] = {**news, **answer}


def send(message: dict[str, Any]) -> None:
    """Write one line to the agent; leaves if nobody is there any more."""
    data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    try:
        while data:
            data = data[os.write(0, data) :]
    except OSError:
        os._exit(0)


def initialise(places: list[str], *, gpm: bool) -> list[Device]:
    """Load and initialise NVML; returns the GPUs to read. Leaves with the reason if it fails."""
    call = "nvmlInit"
    try:
        # Without attaching, a GPU is opened only when its own thread looks it up: the others
        # are then free for a reset, and one that hangs does not hold up the rest.
        nvml.nvmlInitWithFlags(nvml.NVML_INIT_FLAG_NO_ATTACH if places else 0)
        call = "nvmlSystemGetDriverVersion"
        driver = nvml.nvmlSystemGetDriverVersion()
        call = "nvmlDeviceGetCount"
        found: list[Any] = [*places] or [*range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        send({"failed": _words(error, call)})
        os._exit(1)
    send({"hello": {"driver": driver, "gpus": len(found)}})
    return [Device(place, gpm=gpm) for place in found]


def _leave_with_agent() -> None:
    """Wait for the agent's end to close: the main thread may hang in nvmlInit by then."""
    hang_up = select.poll()
    hang_up.register(0, 0)
    hang_up.poll()
    os._exit(0)


def _crash(args: threading.ExceptHookArgs) -> None:
    """Let no thread die alone: its GPU would look stuck for ever. The agent starts us anew."""
    sys.excepthook(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    os._exit(70)


def main(library: str, gpm: str, *places: str) -> NoReturn:
    """Serve the agent until its end of standard input is closed.

    `library`: path of libnvidia-ml.so.1 to use instead of the system's, or "".
    `gpm`: "gpm" to sample the activity of MIG instances, or "".
    `places`: PCI addresses of the only GPUs to open; none means all.
    """
    threading.excepthook = _crash
    threading.Thread(target=_leave_with_agent, daemon=True).start()
    gc.collect()  # the binding leaves 10 MB of garbage from its class definitions
    ctypes.CDLL(None).malloc_trim(0)
    if library:
        try:
            ctypes.CDLL(library)  # the binding's own look-up then finds it by its soname
        except OSError as error:
            send({"failed": {"code": 12, "call": "dlopen", "text": str(error)}})
            os._exit(1)
    outbox: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    workers = [Worker(device, outbox) for device in initialise(list(places), gpm=bool(gpm))]
    with open(0, "rb", closefd=False) as asks:
        for line in asks:
            ask = json.loads(line)
            by = time.monotonic() + ask["deadline_s"]
            if ask.get("hurry"):
                for worker in workers:
                    worker.device.hurry()
            send({"seq": ask["seq"], "gpus": collect(workers, outbox, ask["seq"], by)})
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
