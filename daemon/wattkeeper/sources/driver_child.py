"""The child process that owns a GPU driver's library: no sockets of ours, nothing to lose.

Calls of such a library hang, now and then for good and in uninterruptible sleep. So each GPU has
a thread of its own here, and the agent speaks to this process over standard input (a socket
pair), one JSON object a line. The process leaves with `os._exit` once the agent's end is closed,
whatever its threads are stuck in.

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
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from wattkeeper.sources.driver_device import Device

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
            self._outbox.put((self, seq, self.device.answer()))
            self.device.refresh()
            self._outbox.put((self, seq, None))


Reply = tuple[Worker, int, dict[str, Any] | None]


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


def leave_because(words: dict[str, Any]) -> NoReturn:
    """Tell the agent why there is nothing to read (`driver_wire.Failed`), and leave."""
    send({"failed": words})
    os._exit(1)


def _leave_with_agent() -> None:
    """Wait for the agent's end to close: the main thread may hang in its first call by then."""
    hang_up = select.poll()
    hang_up.register(0, 0)
    hang_up.poll()
    os._exit(0)


def _crash(args: threading.ExceptHookArgs) -> None:
    """Let no thread die alone: its GPU would look stuck for ever. The agent starts us anew."""
    sys.excepthook(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    os._exit(70)


def serve(open_driver: Callable[[], tuple[str, Sequence[Device]]]) -> NoReturn:
    """Serve the agent until its end of standard input is closed.

    `open_driver` loads and initialises the library, and returns the driver's version and the GPUs
    to read; where it cannot, it leaves with the reason (`leave_because`).
    """
    threading.excepthook = _crash
    threading.Thread(target=_leave_with_agent, daemon=True).start()
    version, devices = open_driver()
    gc.collect()  # a binding leaves megabytes of garbage from its class definitions
    ctypes.CDLL(None).malloc_trim(0)
    send({"hello": {"driver": version, "gpus": len(devices)}})
    outbox: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    workers = [Worker(device, outbox) for device in devices]
    with open(0, "rb", closefd=False) as asks:
        for line in asks:
            ask = json.loads(line)
            by = time.monotonic() + ask["deadline_s"]
            if ask.get("hurry"):
                for worker in workers:
                    worker.device.hurry()
            send({"seq": ask["seq"], "gpus": collect(workers, outbox, ask["seq"], by)})
    os._exit(0)
