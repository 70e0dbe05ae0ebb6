"""Which jobs a pattern means: `123`, `123_4`, `123_[0-9,15]`, `100-180`, lists of those."""

import re

LIMIT = 1000
"""Jobs that one request may ask for."""
_TASKS = re.compile(r"(\d+)_\[([\d,\- ]+)\]")
_RANGE = re.compile(r"(\d+)-(\d+)")


def expand(pattern: str) -> list[str]:
    """Return the job ids of a pattern, without doubles; other ids (pods) stand for themselves.

    Raises:
        ValueError: a range that is backward, or more than LIMIT jobs.

    """
    ids: dict[str, None] = {}
    # A comma inside brackets belongs to an array's task list.
    for part in re.split(r",(?![^\[]*\])", pattern):
        word = part.strip()
        tasks = _TASKS.fullmatch(word)
        if tasks is not None:
            for piece in tasks[2].split(","):
                ids.update(dict.fromkeys(f"{tasks[1]}_{task}" for task in _numbers(piece.strip())))
        elif _RANGE.fullmatch(word):
            ids.update(dict.fromkeys(_numbers(word)))
        elif word:
            ids[word] = None
        if len(ids) > LIMIT:
            raise ValueError(f"{pattern[:80]!r} means more than {LIMIT} jobs; ask for fewer")
    return list(ids)


def _numbers(piece: str) -> list[str]:
    found = _RANGE.fullmatch(piece)
    if found is None:
        if not piece.isdigit():
            raise ValueError(f"{piece[:80]!r} is no task; write 123_[0-9,15]")
        return [piece]
    low, high = int(found[1]), int(found[2])
    if high < low or high - low >= LIMIT:
        raise ValueError(f"{piece[:80]!r} is backward or means more than {LIMIT} jobs")
    return [str(number) for number in range(low, high + 1)]
