"""How the schedulers answer: what `/metrics` and the fleet say of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from wattkeeper.model.state import Finding, State

STATES = ("waiting", "answering", "failing")


@dataclass(frozen=True, slots=True)
class Poll:
    """One scheduler: `waiting` for its first answer, `answering`, or `failing` now.

    `answered_ms`: when its last answer was asked for (UTC); `answer_s`: how long that took until
    it stood in the ledger; both None before there is one. `message`: why it fails, else empty.
    """

    scheduler: str
    state: Literal["waiting", "answering", "failing"] = "waiting"
    answered_ms: int | None = None
    answer_s: float | None = None
    message: str = ""


class Polls:
    """Of every scheduler the last poll. Read from any thread, written from the event loop."""

    def __init__(self, schedulers: Iterable[str]) -> None:
        self._polls = {name: Poll(name) for name in schedulers}

    def now(self) -> tuple[Poll, ...]:
        """Return how each stands, in the order of the configuration."""
        return tuple(self._polls.values())

    def findings(self) -> list[Finding]:
        """Return how each is, and what to do."""
        return [_finding(poll) for poll in self.now()]

    def answered(self, scheduler: str, asked_ms: int, seconds: float) -> None:
        """Note an answer that stands in the ledger."""
        self._polls[scheduler] = Poll(scheduler, "answering", asked_ms, seconds)

    def failed(self, scheduler: str, message: str) -> None:
        """Note that there was none, and why; the last one stays known."""
        self._polls[scheduler] = replace(self._polls[scheduler], state="failing", message=message)


def _finding(poll: Poll) -> Finding:
    subject = f"scheduler/{poll.scheduler}"
    if poll.state == "failing":
        fix = "names and settlement wait for it, no joule does; see docs/operations.md"
        state = State.FAILING if poll.answered_ms is None else State.STALE
        return Finding(subject, state, poll.message, fix)
    if poll.state == "waiting":
        return Finding(subject, State.STALE, "has not answered yet")
    return Finding(subject, State.OK, "answers")
