"""What of a run names a person, and how a pseudonym takes its place. Figures are not touched."""

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.runs import FREE_WORDS, Run

MARK = "person~"
"""What every pseudonym begins with; no user of a Unix system has a tilde in their name."""
_FREE_TEXTS = frozenset(("comment",))
"""Labels that people write about themselves and their work."""
_TOMB = schema.forgotten


def new_pseudonym() -> str:
    """Return a name that is nobody's, at random: there is nothing to be guessed in it."""
    return MARK + secrets.token_hex(6)


def without(text: str, user: str, called: str) -> str:
    """Return a text in which a user, as a word of its own, is `called` something else.

    Letters next to it make it another word; digits, dots and dashes do not: `jupyter-ada-0`.
    """
    if not user or user.lower() not in text.lower():
        return text
    word = re.compile(rf"(?<![^\W\d_]){re.escape(user)}(?![^\W\d_])", re.IGNORECASE)
    return word.sub(lambda _: called, text)


def tells_of(text: str, user: str) -> bool:
    """Tell whether a text has a user in it, as `without` finds them."""
    return without(text, user, "") != text


def erase(run: Run, called: str) -> None:
    """Forget who a run was of: its user is `called` so from now on, "" if nobody knows.

    Its name goes, and with it the id of a pod, which is the same text; so do labels of free
    text. In other labels and words the user's name is replaced.
    """
    user = run.words["user"]
    words = {name: without(run.words[name], user, called) for name in FREE_WORDS}
    if run.words["namespace"] and run.words["job_id"] == run.words["name"]:
        words["job_id"] = run.raw_id
    run.put(erased=True, words=run.words | words | {"user": called, "name": ""})
    kept = {
        key: without(value, user, called)
        for key, value in run.labels.items()
        if key not in _FREE_TEXTS
    }
    if kept != run.labels:
        run.labels, run.relabelled = kept, True


def entomb(connection: sa.Connection, user: str, cluster: str, at_ms: int) -> None:
    """Remember that a person was forgotten at an instant, without their name."""
    salt = secrets.token_hex(16)
    row = {"cluster": cluster, "salt": salt, "digest": _digest(salt, user), "at_ms": at_ms}
    connection.execute(sa.insert(_TOMB).values(row))


def keep_away(connection: sa.Connection, runs: Iterable[Run]) -> None:
    """Take the names off runs that are about to be written, of people who were forgotten later.

    A run of which nobody knows when it began has not begun.
    """
    named: dict[str, list[Run]] = {}
    for run in runs:
        if (run.fresh or run.changed) and not run.erased and run.began_ms is not None:
            named.setdefault(run.words["user"], []).append(run)
    named.pop("", None)
    if not named:
        return
    for tomb in connection.execute(sa.select(_TOMB)):
        for user, theirs in named.items():
            if _digest(tomb.salt, user) != tomb.digest:
                continue
            for run in theirs:
                if tomb.cluster in ("", run.cluster) and (run.began_ms or 0) < tomb.at_ms:
                    erase(run, "")


def _digest(salt: str, user: str) -> str:
    return blake2b(user.encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()
