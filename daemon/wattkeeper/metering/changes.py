"""Who held a meter between two looks, where holders are known to have come or gone earlier."""

from collections.abc import Sequence

from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.metering.book import Claims


def changes(
    edges: Sequence[HolderEdge],
    held: Sequence[Claim],
    now: Sequence[Claim],
    from_ns: int,
) -> list[tuple[int, Claims]]:
    """Return (boot instant, claims from then on), none before `from_ns`, in order.

    `edges` are those of one meter that were found since `held` was true; `now` is true after
    them. A hold begins with its first edge and ends with its last: prolog or cgroup,
    whichever came first; cgroup or epilog, whichever went last. Who began and is not there now
    has ended in between, or was never believed. The next owner ends whoever is not there any more;
    one that has the meter alone does so also where the end of another was seen only later.
    """
    there = {claim.holder: claim for claim in now}
    ends = {edge.key: edge.boot_ns for edge in sorted(edges, key=_when) if not edge.started}
    current = {claim.holder: claim for claim in held}
    found: list[tuple[int, Claims]] = []
    for edge in sorted(edges, key=_when):
        before = dict(current)
        if edge.started:
            lasts = there.keys() | {key for key, at in ends.items() if at > edge.boot_ns}
            if edge.key not in lasts or (edge.key in current and not edge.alone):
                continue
            stay = {edge.key, *(there if edge.alone else lasts)}
            current = {holder: claim for holder, claim in current.items() if holder in stay}
            current.setdefault(edge.key, there.get(edge.key) or _short(edge.key))
        elif edge.key not in there and ends[edge.key] == edge.boot_ns:
            current.pop(edge.key, None)
        if current != before:
            found.append((max(edge.boot_ns, from_ns), tuple(current.values())))
    return found


def _when(edge: HolderEdge) -> tuple[int, bool]:
    # At one instant the old owner goes before the new one comes.
    return edge.boot_ns, edge.started


def _short(key: HolderKey) -> Claim:
    return Claim(key, allocated=True)
