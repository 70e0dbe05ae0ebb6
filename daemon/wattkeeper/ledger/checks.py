"""What a record must be by itself before it is booked."""

from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.window import Point, Unmeasured, Window

LONGEST_WINDOW_MS = 31 * DAY_MS
SLACK_MS = 60_000
"""A late reading is booked to the window before it, so metered time may exceed its length."""
MOST_POWER_MW = 100_000_000_000
"""100 MW on one meter: what lies above would overflow a day's sum, and is no meter's."""
MOST = 1 << 62
"""Counts and times beyond this do not fit the books."""

_HOST_ACCOUNTS = frozenset((Account.OVERHEAD, Account.GAP, Account.COMPONENTS))
_DEVICE_ACCOUNTS = frozenset((Account.IDLE, Account.SYSTEM, Account.GAP, Account.OTHER))


class Unfit(ValueError):  # noqa: N818 - it stands at the record's number, it is not our fault
    """A record that cannot be booked. The message is the reason kept with its tombstone."""


def check_window(window: Window, host: bool) -> int:
    """Check a window by itself and return its highest holder number.

    Raises:
        Unfit: the first thing that is wrong with it.

    """
    flaw = window.flaw()
    if flaw is not None:
        raise Unfit(flaw)
    length = window.end_ms - window.start_ms
    if length > LONGEST_WINDOW_MS:
        raise Unfit(f"window of {length} ms is longer than 31 days")
    if window.covered_ms > 2 * length + SLACK_MS:
        raise Unfit(f"covered_ms {window.covered_ms} is far more than the window's {length} ms")
    if not 0 <= window.first_uj <= window.last_uj < MOST or not 0 <= window.boot_ms < MOST:
        raise Unfit(f"count {window.first_uj}..{window.last_uj} or boot_ms is out of range")
    check_power(window.last_uj - window.first_uj, length)
    accounts = _HOST_ACCOUNTS if host else _DEVICE_ACCOUNTS
    highest = 0
    for share in window.shares:
        number = share.holder
        if number < FIRST_HOLDER or host:
            if number not in accounts:
                kind = "host" if host else "device"
                raise Unfit(f"holder {number} cannot stand on a {kind} meter")
        elif number > highest:
            highest = number
        if not 0 <= share.from_ms <= share.to_ms <= length or share.idle_ms > LONGEST_WINDOW_MS:
            raise Unfit(
                f"share of holder {number} lies outside its window: "
                f"{share.from_ms}..{share.to_ms} of {length} ms, idle for {share.idle_ms} ms"
            )
    return highest


def check_power(uj: int, length_ms: int) -> None:
    """Refuse energy that no meter can have counted in that time."""
    if uj > MOST_POWER_MW * max(length_ms, 1000):
        raise Unfit(f"{uj} µJ in {length_ms} ms is more than 100 MW")


def check_point(point: Point) -> None:
    """Check a point by itself."""
    if not 0 <= point.value_uj < MOST or not 0 <= point.boot_ms < MOST:
        raise Unfit(f"value_uj {point.value_uj} or boot_ms {point.boot_ms} is out of range")


def check_unmeasured(record: Unmeasured) -> None:
    """Check unmeasured time by itself."""
    if record.end_ms < record.start_ms or not 0 <= record.boot_ms < MOST:
        raise Unfit(f"unmeasured from {record.start_ms} to {record.end_ms} goes backward")


def check_time(start_ms: int, end_ms: int, now_ms: int) -> None:
    """Refuse instants before 1970 or more than a day ahead."""
    if start_ms < 0 or end_ms > now_ms + DAY_MS:
        raise Unfit(f"{start_ms}..{end_ms} is before 1970 or more than a day ahead of {now_ms}")
