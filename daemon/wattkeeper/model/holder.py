"""Who holds (part of) a device on a node, and the accounts that are nobody's."""

import enum
from typing import Annotated

import msgspec


class Account(enum.IntEnum):
    """Numbers below FIRST_HOLDER that a window books to instead of a holder.

    `COMPONENTS` stands only on host meters: energy that the component meters book already.
    `OTHER` is the part of holders beyond the cap of a window.
    """

    IDLE = 1
    SYSTEM = 2
    OVERHEAD = 3
    GAP = 4
    COMPONENTS = 5
    OTHER = 6


FIRST_HOLDER = 16
"""Numbers from here on are a journal's own holders."""

MAX_LABEL = 256
"""Characters kept of any label that comes from a user, a name or a comment."""


class HolderInfo(msgspec.Struct, frozen=True, array_like=True):
    """A holder: manager, raw id and birth, so that a reused job id is another holder.

    `manager` is `slurm`, `kubernetes` or `simulated`; `raw_id` the manager's own id as seen on
    the node (job id, SLUID, pod UID); `birth_ms` UTC milliseconds of the mark or cgroup birth.
    `labels` are what the node happened to learn (job_id, user, account, partition, name); the
    scheduler's word replaces them at the centre.
    """

    manager: str
    raw_id: str
    birth_ms: int
    labels: Annotated[dict[str, str], msgspec.Meta(max_length=256)] = {}
