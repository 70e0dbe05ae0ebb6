"""sd_notify(3): tells systemd how a service is, over the datagram socket that it gave us."""

import os
import socket
import time
from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager; False if there is none, or if it does not take it now.

    Never waits: whoever meters must not stand still because the manager does.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            sender.send("\n".join(lines).encode())
        except OSError:
            return False
    return True


def reloading() -> str:
    """Return what says that the configuration is being read again, until `READY`."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return after how many seconds without a sign of life we are ended; None if never."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000
