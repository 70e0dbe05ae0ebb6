"""The states of a source. Absent, denied, failing and stale are different things."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How a source, or one device of it, is doing."""

    OK = "ok"
    ABSENT = "absent"
    DENIED = "denied"
    FAILING = "failing"
    STALE = "stale"
    QUARANTINED = "quarantined"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one subject, why, and what to do about it.

    `subject` is a source (`rapl`) or a thing in it (`cpu/0/package`, `gpu/GPU-5c1f`).
    `detail` says what was seen with its exact reason; `fix` the remedy, empty if none is needed.
    """

    subject: str
    state: State
    detail: str
    fix: str = ""
