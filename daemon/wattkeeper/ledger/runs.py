"""Runs and holders, as far as it takes to tell which run a holder belongs to."""

from dataclasses import dataclass, field

TOUCH_MS = 60_000
"""Lives within this of each other may be one run: nodes start a job one after the other, and their
clocks differ."""
SAME_START_MS = 1_000
"""Schedulers tell the start of a run in whole seconds, and always the same one."""
WORDS = (
    "job_id", "account", "partition", "namespace", "owner_kind", "owner_name", "array", "state",
)  # fmt: skip
"""What is said of a workload, beside the names in `identity`."""
NAMES = ("user", "name")
FREE_WORDS = ("job_id", "owner_name", "array")
"""Words that people choose, and where they may name themselves."""

_UNIQUE = ("slurm", "kubernetes")
"""Managers whose ids, where they are no plain numbers, name one run for ever: SLUID, pod UID."""


def unique_ids(manager: str, *ids: str) -> set[str]:
    """Return those of the ids that no other run will ever have."""
    if manager not in _UNIQUE:
        return set()
    return {one for one in ids if one and not one.isdecimal()}


def counts_differ(one: str, other: str) -> bool:
    """Tell whether both are restart counts, and not the same."""
    return one.isdecimal() and other.isdecimal() and int(one) != int(other)


@dataclass(slots=True)
class Run:
    """One run of a workload: its ids, its words and names, the scheduler's times.

    `token` tells runs of one id apart (`WorkloadInfo.run`). `scheduler` is who speaks of it, ""
    while only holders do. `born_ms`: the first birth of its holders, as far as they are read.
    `erased`: its names were, and never come back.
    """

    id: int
    cluster: str
    manager: str
    raw_id: str
    words: dict[str, str]
    other_id: str = ""
    token: str = ""
    scheduler: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    born_ms: int | None = None
    erased: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    changed: bool = False
    relabelled: bool = False

    @property
    def uniques(self) -> set[str]:
        """The ids that no other run will ever have."""
        return unique_ids(self.manager, self.other_id, self.raw_id)

    @property
    def began_ms(self) -> int | None:
        """When it began, by its scheduler, else by its holders."""
        return self.born_ms if self.start_ms is None else self.start_ms

    def put(self, **values: object) -> None:
        """Set what differs, and note that it did."""
        for name, value in values.items():
            if getattr(self, name) != value:
                setattr(self, name, value)
                self.changed = True

    def say(self, words: dict[str, str], *, replace: bool) -> None:
        """Take words that are not empty; without `replace` only where nothing is known."""
        for name, word in words.items():
            if self.erased and name in (*NAMES, *FREE_WORDS):
                continue
            known = self.words[name]
            nameless = not known or (name == "job_id" and known in (self.raw_id, self.other_id))
            if word and word != known and (replace or nameless):
                self.words[name] = word
                self.changed = True

    def label(self, labels: dict[str, str]) -> None:
        """Take other labels, if there are any; those that were erased stay away."""
        if labels and not self.erased and labels != self.labels:
            self.labels = labels
            self.relabelled = True


@dataclass(slots=True)
class Held:
    """A holder: its ids and its life on one node.

    `start_ms`, `token`: when its run started and how often it was restarted, where the node was
    told. `workload` is the run that it stands under, None if it is new.
    """

    id: int
    node: int
    manager: str
    raw_id: str
    other_id: str
    birth_ms: int
    seen_ms: int
    start_ms: int | None = None
    token: str = ""
    workload: int | None = None
    words: dict[str, str] = field(default_factory=dict)

    @property
    def uniques(self) -> set[str]:
        """The ids that no other run will ever have."""
        return unique_ids(self.manager, self.other_id, self.raw_id)

    @property
    def number(self) -> str:
        """The number of its job, "" where only other ids are known."""
        return next((one for one in (self.raw_id, self.other_id) if one.isdecimal()), "")
