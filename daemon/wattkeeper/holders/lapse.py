"""When a marked hold ends though no epilog says so: the rules, without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.gpus import whole
from wattkeeper.holders.mark_book import Hold
from wattkeeper.model.clock import NS_PER_S

_NEVER_SEEN_NS = 300 * NS_PER_S
"""A hold without any cgroup is this old before Slurm is asked about it."""


class Cgroups(Protocol):
    """What is known of the cgroups of jobs."""

    def birth_ms(self, manager: str, raw_id: str) -> int | None:
        """Return the birth of a job that has a cgroup now."""
        ...

    def died_ns(self, manager: str, raw_id: str) -> int | None:
        """Return when the last cgroup of a job went, in boot time."""
        ...


class Roll(Protocol):
    """Slurm's list of the jobs here: the last answer, and whether it answers at all."""

    answer: tuple[int, frozenset[str]] | None
    silent: bool


@dataclass(slots=True)
class Review:
    """What became of the open holds: those that lapsed, and those whose cgroup is new.

    `ask`: Slurm's word is needed about another.
    """

    lapsed: list[Hold] = field(default_factory=list)
    lived: list[Hold] = field(default_factory=list)
    ask: bool = False


class Lapse:
    """Finds holds whose epilog was missed.

    A hold whose cgroup is there goes on. One whose cgroup has gone ends `grace_ns` later, unless
    Slurm still lists the job (an allocation between two steps has no cgroup), or at once where
    another job names what it held alone. One whose cgroup never was ends when Slurm does not list
    it.
    """

    def __init__(self, cgroups: Cgroups, roll: Roll, grace_ns: int) -> None:
        self._cgroups = cgroups
        self._roll = roll
        self._grace_ns = grace_ns
        self._missing: dict[HolderKey, int] = {}

    def review(
        self,
        holds: Sequence[Hold],
        held: Mapping[HolderKey, Mapping[str, Claim]],
        others: Mapping[str, Sequence[Claim]],
        now_ns: int,
    ) -> Review:
        """Look at every open hold.

        `held`: what each claims, by meter; `others`: claims on meters by the environments of jobs.
        """
        review = Review()
        keys = {hold.key for hold in holds}
        self._missing = {key: at for key, at in self._missing.items() if key in keys}
        for hold in holds:
            if any(self._cgroups.birth_ms(hold.start.manager, name) for name in hold.names):
                self._missing.pop(hold.key, None)
                if not hold.lived:
                    review.lived.append(hold)
            elif self._has_lapsed(hold, held[hold.key], others, now_ns, review):
                review.lapsed.append(hold)
        return review

    def _has_lapsed(
        self,
        hold: Hold,
        held: Mapping[str, Claim],
        others: Mapping[str, Sequence[Claim]],
        now_ns: int,
        review: Review,
    ) -> bool:
        gone_ns = self._gone_ns(hold, now_ns)
        if gone_ns is None:
            review.ask |= now_ns - hold.start.boot_ns >= _NEVER_SEEN_NS
            return self._is_listed(hold, hold.start.boot_ns + _NEVER_SEEN_NS) is False
        if not hold.latest.shared and any(
            claim.holder is not None
            and claim.holder.raw_id not in hold.names
            and _takes(claim, own)
            for meter, own in held.items()
            for claim in others.get(meter, ())
        ):
            return True
        if now_ns - gone_ns < self._grace_ns:
            return False
        review.ask = True
        listed = self._is_listed(hold, gone_ns)
        return not listed if listed is not None else self._roll.silent

    def _gone_ns(self, hold: Hold, now_ns: int) -> int | None:
        """Return since when the cgroup of a hold has been gone, None if it never was."""
        ends = [self._cgroups.died_ns(hold.start.manager, name) for name in hold.names]
        # An older end is that of another run of the job.
        died = max((at for at in ends if at is not None and at > hold.start.boot_ns), default=None)
        if died is not None:
            return died
        return self._missing.setdefault(hold.key, now_ns) if hold.lived else None

    def _is_listed(self, hold: Hold, after_ns: int) -> bool | None:
        """Tell whether Slurm, asked after an instant, lists the job; None if nobody said."""
        if self._roll.answer is None or "job_id" not in hold.latest.labels:
            return None
        asked_ns, listed = self._roll.answer
        return hold.latest.labels["job_id"] in listed if asked_ns > after_ns else None


def _takes(claim: Claim, own: Claim) -> bool:
    """Tell whether another's claim on a GPU is to what was held alone."""
    if own.partitions and claim.partitions:
        return not set(own.partitions).isdisjoint(claim.partitions)
    return bool(own.partitions) or whole(own)
