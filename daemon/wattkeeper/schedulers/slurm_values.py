"""Values as the versions of Slurm write them: numbers, text and lists in more than one shape."""

import math

from wattkeeper.model.holder import MAX_LABEL


def number(value: object) -> int | None:
    """Return `5`, or `{"set": true, "infinite": false, "number": 5}` (23.02+); None if not set."""
    if isinstance(value, dict):
        # `number` is 0 when not set and when infinite.
        if value.get("set") is not True or value.get("infinite") is True:
            return None
        value = value.get("number")
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value if isinstance(value, int) else None


def positive(value: object) -> int | None:
    """Return a number above 0: Slurm writes 0 for ids that there are not."""
    found = number(value)
    return found if found is not None and found > 0 else None


def instant_ms(value: object) -> int | None:
    """Return UTC milliseconds of seconds; 0 is not set."""
    found = positive(value)
    # Beyond the year 9999 it is Slurm's "infinite" (2^32 - 1 and the like) or nonsense.
    return None if found is None or found > 253_402_300_799 else found * 1000


def clean(value: str) -> str:
    """Return text that every encoder takes: JSON may hold halves of surrogate pairs."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def text(value: object) -> str:
    """Return text, cut to what the books keep; anything else is not known."""
    return clean(value[:MAX_LABEL]) if isinstance(value, str) else ""


def words(value: object) -> tuple[str, ...]:
    """Return `"RUNNING"`, or `["RUNNING", "COMPLETING"]` (23.02+)."""
    if isinstance(value, str):
        return (clean(value),) if value else ()
    if isinstance(value, list):
        return tuple(clean(word) for word in value if isinstance(word, str) and word)
    return ()
