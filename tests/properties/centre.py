"""The centre of a story: a real intake and ledger, and schedulers that know some of its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from tests.ledger.books import Journal
from tests.ledger.settling import settle_all
from tests.properties.fakes import ZERO_MS
from tests.properties.stories import DEVICES, Job
from wattkeeper.agent.transport import RefusedError, UnreachableError
from wattkeeper.delivery.wire import Ack, Batch, pack, unpack
from wattkeeper.holders.paths import SLURM
from wattkeeper.ledger import schema
from wattkeeper.ledger.grants import granting_clusters
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, NodeGpus, NodeInfo, WorkloadInfo

NODES = (NodeInfo("c", "n1", len(DEVICES), "IDLE"),)


def granted(job: Job) -> tuple[int, int]:
    """Return from when to when a job ran by its scheduler's clock: UTC in ms, whole seconds."""
    begins, over = ZERO_MS + job.begins, ZERO_MS + job.over
    return begins // 1_000 * 1_000, -(-over // 1_000) * 1_000


def describe(job: Job, at_ms: int) -> WorkloadInfo | None:
    """Return what its scheduler says of a job at an instant of UTC, None if nothing."""
    start_ms, end_ms = granted(job)
    if not job.named or at_ms < start_ms:
        return None
    runs, slurm = at_ms < end_ms, job.manager == SLURM
    # Of parts of GPUs Slurm tells no index, and a pod's GPUs only the kubelet knows.
    whole = tuple(index for index in job.devices if DEVICES[index].whole)
    return WorkloadInfo(
        "c", job.manager, job.raw_id, job.raw_id,
        run=str(job.restarts) if slurm else "",
        state="RUNNING" if runs else "COMPLETED",
        start_ms=start_ms, end_ms=None if runs else end_ms, nodes=("n1",),
        gpus=(NodeGpus("n1", whole),) if runs and whole and slurm else (),
    )  # fmt: skip


def emptied(ledger: Ledger) -> Ledger:
    """Return a ledger without anything in it: opening another compiles every statement anew."""
    with ledger.writing() as connection:
        for table in schema.metadata.sorted_tables:
            if table is not schema.setting:
                connection.execute(sa.delete(table))
        connection.execute(sa.delete(schema.setting).where(schema.setting.c.key != "slot_ms"))
    return ledger


@dataclass
class Centre:
    """An aggregator without HTTP; what it is sent and told is kept, in order.

    `loses`: its next acknowledgement gets lost. `unheard`: answers of schedulers on their way.
    """

    ledger: Ledger
    now_ms: int = ZERO_MS
    loses: bool = False
    batches: list[Batch] = field(default_factory=list)
    unheard: list[tuple[str, Knowledge]] = field(default_factory=list)
    heard: list[tuple[str, Knowledge]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with empty books."""
        self.intake = Intake(emptied(self.ledger))

    async def send(self, batch: Batch) -> Ack:
        """Take a delivery in its real encoding."""
        received = unpack(pack(batch))
        try:
            ack = self.intake.accept(received, self.now_ms)
        except Refusal as refusal:
            raise RefusedError(refusal.kind, refusal.detail) from refusal
        self.batches.append(received)
        if self.loses:
            self.loses = False
            raise UnreachableError("the answer was lost")
        return ack

    async def close(self) -> None:
        """Nothing to let go of."""

    def ask(self, jobs: Sequence[Job]) -> None:
        """Let Slurm and Kubernetes say what they know now; `listen` hears it."""
        infos = [info for job in jobs if (info := describe(job, self.now_ms)) is not None]
        slurm = tuple(info for info in infos if info.manager == SLURM)
        pods = tuple(info for info in infos if info.manager != SLURM)
        self.unheard.append((SLURM, Knowledge(slurm, self.now_ms, nodes=NODES)))
        self.unheard.append(("kubernetes", Knowledge(pods, complete_ms=self.now_ms)))

    def listen(self) -> None:
        """Take in what the schedulers have said, as the aggregator does."""
        for scheduler, knowledge in self.unheard:
            record_knowledge(self.ledger, scheduler, knowledge, now_ms=self.now_ms)
        self.heard += self.unheard
        self.unheard = []
        self.intake.follow_grants(granting_clusters(self.ledger, self.now_ms))

    def restart(self) -> None:
        """Forget what is not committed."""
        self.intake = Intake(self.ledger)

    def told_at_once(self, ledger: Ledger) -> "Centre":
        """Return another centre that was sent all in one piece, then told all, and settled last.

        Only the first answer comes first: nothing is settled from before a scheduler was known.
        """
        other = Centre(ledger, self.now_ms)
        for heard in (self.heard[:1], self.heard[1:]):
            other.unheard = list(heard)
            other.listen()
            self.delivered().deliver(other.intake, self.now_ms)
            other.intake.commit_sync()
        settle_all(ledger, self.now_ms)
        return other

    def delivered(self) -> Journal:
        """Return all that was delivered as one journal."""
        newest = self.batches[-1]
        journal = Journal(
            newest.journal, newest.node, newest.boot, newest.cluster,
            boot_offset=newest.wall_ms - newest.boot_ms, epochs={},
        )  # fmt: skip
        records: dict[int, bytes] = {}
        for batch in self.batches:
            records |= enumerate(batch.records, batch.first)
            journal.meters |= batch.meters
            journal.holders |= batch.holders
            journal.epochs |= batch.epochs
        assert sorted(records) == list(range(1, len(records) + 1))
        journal.records = [records[number] for number in sorted(records)]
        return journal
