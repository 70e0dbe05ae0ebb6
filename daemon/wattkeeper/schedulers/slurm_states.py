"""States of jobs: what they say about whether a run goes on."""

import enum
from collections.abc import Collection, Sequence


class Life(enum.Enum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


_ENDED = (
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_MEMORY",
    "LAUNCH_FAILED",
    "REVOKED",
)
_HELD = ("SUSPENDED", "RUNNING", "RESIZING", "CONFIGURING", "SIGNALING", "STOPPED", "POWER_UP_NODE")
"""A suspended or stopped job keeps its GPUs, one whose nodes still boot has them already."""
_WAITING = (
    "PENDING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
    "RECONFIG_FAIL",
)
PASSING = ("COMPLETING", "STAGE_OUT")
"""22.05 says one word, and a flag hides the state it stands beside."""

ASKED = "R,S,CG,CF,RS,SI,SO,ST,CD,CA,F,TO,NF,PR,BF,DL,OOM"
"""What is asked of squeue: all but the jobs that wait, of which there may be most."""
ENDED_CODES = "CD,CA,F,TO,NF,PR,BF,DL,OOM,RQ,RS"
"""What is asked of sacct."""


def read(states: Sequence[str]) -> tuple[Life | None, str]:
    """Return where the live record of a job stands, and the word for it; None if unknown.

    slurmctld has taken the GPUs back from a job that is completing.
    """
    present = {state.upper() for state in states}
    for life, known in (
        (Life.ENDED, _ENDED),
        (Life.WAITING, _WAITING),
        (Life.RUNNING, _HELD),
        (Life.ENDED, PASSING),
    ):
        word = _first(present, known)
        if word:
            return life, word
    return None, next(iter(states), "")


def ending(states: Sequence[str]) -> str:
    """Return the word for how a run in the accounts ended: `["PENDING", "REQUEUED"]` too."""
    present = {state.upper().partition(" ")[0] for state in states}
    return _first(present, (*_ENDED, "RESIZING", *_WAITING[1:], *PASSING)) or next(iter(states), "")


def _first(present: Collection[str], known: Sequence[str]) -> str:
    return next((word for word in known if word in present), "")
