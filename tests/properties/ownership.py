"""From when to when a job may be charged for a meter: by what was told of it, and when.

All times in ms since the story began.
"""

from collections.abc import Iterator

from tests.properties.node import GRACE_MS, Node
from tests.properties.stories import CPU, DEVICES, GPUS, Job
from tests.properties.world import World

EVER = 1 << 40
WINDOW_MS = 12_000
"""For so long, at most, an agent has not committed what it has booked."""
Span = tuple[int, int]


class Ownership:
    """What could be known of a story that was played."""

    def __init__(self, world: World) -> None:
        self._jobs = world.jobs
        self._node: Node = world.node

    def of(self, job: Job, meter: str) -> Span | None:
        """Return from when to when a job may be charged for a meter, None if it never may."""
        spans = [*self._spans(job, meter)]
        for heir in self._heirs(job):
            until = EVER if heir.start is None else self.look(heir.start.found)
            spans += [(begin, min(end, until)) for begin, end in self._spans(heir, meter)]
        spans = [(begin, end) for begin, end in spans if begin < end]
        if not spans:
            return None
        end = min(max(end for _, end in spans), self._next_owner(job, meter))
        return min(begin for begin, _ in spans), end

    def owed_uj(self, job: Job, meter: str) -> int | None:
        """Return what a job must be charged at least, None if it is not that certain.

        That is so of a whole GPU, between two marks that were found in time, while the agent ran
        and nobody else had a claim to it.
        """
        whole = {DEVICES[index].meter for index in job.devices if DEVICES[index].whole}
        if job.start is None or job.end is None or meter not in whole:
            return None
        begin, end = job.start.at, job.end.at
        looks, starts = self._node.looks, self._node.starts[1:]
        in_time = self.look(job.start.found) == self.look(begin)
        if not in_time or self.look(job.end.found) != self.look(end):
            return None
        others = (other for other in self._jobs if meter in other.meters and other is not job)
        breaks = [
            *((looks[first - 1] - WINDOW_MS, self.look(looks[first - 1] + 1)) for first in starts),
            *((at, self.read(at + 1, meter)) for at in self._node.reloads),
            *(self.of(other, meter) or (EVER, EVER) for other in others),
        ]
        if any(broken <= end and begin <= mended for broken, mended in breaks):
            return None
        return self.drawn_uj(meter, begin, end)

    def drawn_uj(self, meter: str, begin: int, end: int) -> int:
        """Return what a meter drew."""
        return sum(
            max(0, min(to, end) - max(at, begin)) * power_mw
            for at, to, power_mw in self._node.drawn[meter]
        )

    def look(self, at: int) -> int:
        """Return the first look at or after an instant."""
        return next((look for look in self._node.looks if look >= at), EVER)

    def read(self, at: int, meter: str) -> int:
        """Return the first reading of a meter at or after an instant."""
        return next((read for read in self._node.reads[meter] if read >= at), EVER)

    def read_before(self, at: int, meter: str) -> int:
        """Return the last reading of a meter at or before an instant."""
        return max((read for read in self._node.reads[meter] if read <= at), default=0)

    def _spans(self, job: Job, meter: str) -> Iterator[Span]:
        """Yield each kind of evidence, from its beginning to its end."""
        if meter == CPU:
            # Processor time is told of the time between two looks.
            yield self.read_before(job.born - 1, CPU), self.look(job.died)
            return
        if meter in job.meters and job.start is not None:
            yield self._marked(job)
        if meter in job.meters and job.shown is not None:
            yield job.born, self._gone(job)
        strays = {GPUS[job.strays]} if job.strays is not None else set()
        if job.works is not None and meter in job.meters | strays:
            yield self.look(job.works[0]), self.look(job.works[1])

    def _marked(self, job: Job) -> Span:
        assert job.start is not None
        begin = job.start.at if job.shown is None else job.begins
        if job.end is not None:
            return begin, self._known(job.end.at, job.end.found)
        if not self._lived(job, job.start.found):
            return begin, EVER  # no cgroup is known whose end would end it
        gone = self._gone(job)
        for heir in self._later(job):
            if heir.born >= self.look(gone + GRACE_MS):
                break
            if heir.start is not None:
                return begin, self._known(heir.start.at, heir.start.found)
            gone = self._gone(heir)
        looks = self._node.looks
        for first in self._node.starts:
            # An agent that was restarted meanwhile waits anew.
            if first < len(looks) and looks[first] <= self.look(gone + GRACE_MS):
                gone = max(gone, looks[first])
        return begin, self.look(max(gone + GRACE_MS, job.start.found))

    def _lived(self, job: Job, marked: int) -> bool:
        """Tell whether an agent that knows the mark has seen the cgroup, or seen it go."""
        looks, seen = self._node.looks, [s for s in self._node.scans if job.born <= s < job.died]
        if any(scan >= self.look(marked) for scan in seen):
            return True
        begun = [looks[first] for first in self._node.starts if first < len(looks)]
        until = max(self.look(marked), self._gone(job))
        return bool(seen) and not any(seen[-1] < at <= until for at in begun)

    def _gone(self, job: Job) -> int:
        """Return when it is noticed that a cgroup has gone."""
        return job.died if job.died in self._node.scans else self.look(job.died)

    def _known(self, at: int, found: int) -> int:
        """Return up to when a mark is not known: its own time, if the next look finds it."""
        return at if self.look(at) == self.look(found) else self.look(found)

    def _later(self, job: Job) -> list[Job]:
        """Return the later runs of the same job."""
        return [
            other
            for other in self._jobs
            if other.raw_id == job.raw_id and other.restarts > job.restarts
        ]

    def _heirs(self, job: Job) -> Iterator[Job]:
        """Yield the later runs that count as this one until they are marked: its hold is open."""
        if job.start is None:
            return
        until = self._marked(job)[1] if job.end is None else self.look(job.end.found)
        for heir in self._later(job):
            if heir.born <= until:
                yield heir
            if heir.start is not None:
                return

    def _next_owner(self, job: Job, meter: str) -> int:
        """Return when a mark gives the whole GPU to another."""
        ends = [EVER]
        for other in self._jobs:
            whole = {DEVICES[index].meter for index in other.devices if DEVICES[index].whole}
            if meter in whole & job.meters and other.start and other.begins > job.begins:
                start, end = other.start, other.end
                if end is None or self.look(start.found) <= self.look(end.found):
                    ends.append(self._known(start.at, start.found))
        return min(ends)
