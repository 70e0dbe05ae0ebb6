"""GPUs in Slurm's words for generic resources: how many a node has, which ones a job was given."""

import re
from collections.abc import Iterator, Sequence

from wattkeeper.schedulers.base import NodeGpus

_ENTRY = re.compile(r"([^,(]+)(\([^)]*\))?")
_INDICES = re.compile(r"IDX:([0-9,\-]*)")
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_SLICE = re.compile(r"[0-9]+g\.[0-9]+gb.*", re.IGNORECASE)
"""A type named like a MIG profile: each slice is a `gpu` to Slurm, counted with the others."""
_MAX_INDEX = 4096


def gpu_count(gres: str) -> int | None:
    """Return the GPUs of `gpu:a100:4(S:0),gpu:h100:4(S:1)`; None if it names none, or slices."""
    counts = [_count(parts) for parts, _ in _gpus(gres)]
    return None if not counts or has_slices(gres) else sum(counts)


def has_slices(gres: str) -> bool:
    """Tell whether a node's `gpu`s are MIG slices: then an index is not that of a GPU."""
    return any(_is_slice(parts) for parts, _ in _gpus(gres))


def granted(
    nodes: Sequence[str], detail: Sequence[str], sliced: frozenset[str] = frozenset()
) -> tuple[NodeGpus, ...]:
    """Return the GPUs of a job: `detail` has an entry for each of `nodes`, in their order.

    `sliced` are nodes whose indices count MIG slices. Parts of GPUs (`shard`, `mps`) and GPUs
    without an index (no `File=` in gres.conf) are not in the result.

    Raises:
        ValueError: the entries do not fit the nodes, or an index cannot be read.

    """
    if not any(detail):
        return ()
    if len(detail) != len(nodes):
        raise ValueError(f"gres_detail has {len(detail)} entries for {len(nodes)} nodes")
    given = []
    for node, entry in zip(nodes, detail, strict=True):
        if node in sliced or has_slices(entry):
            continue
        indices = [index for _, note in _gpus(entry) for index in _indices(note)]
        if indices:
            given.append(NodeGpus(node, tuple(sorted(set(indices)))))
    return tuple(given)


def _gpus(gres: str) -> Iterator[tuple[list[str], str]]:
    """Yield the parts `[type, count]` and the note in parentheses of every `gpu` entry."""
    for head, note in _ENTRY.findall(gres):
        name, *parts = head.strip().removeprefix("gres/").removeprefix("gres:").split(":")
        if name == "gpu":
            yield parts, note


def _is_slice(parts: Sequence[str]) -> bool:
    return any(_SLICE.fullmatch(part) for part in parts)


def _count(parts: Sequence[str]) -> int:
    last = parts[-1] if parts else "1"
    return int(last) if last.isascii() and last.isdigit() and len(last) <= 6 else 1


def _indices(note: str) -> Iterator[int]:
    if "IDX:" not in note or "IDX:N/A" in note:
        return
    listed = _INDICES.search(note)
    for part in listed[1].split(",") if listed is not None and listed[1] else ():
        limits = _RANGE.fullmatch(part)
        if limits is None:
            raise ValueError(f"gres_detail {note!r} has no index {part!r}")
        low, high = int(limits[1]), int(limits[2] or limits[1])
        if not low <= high < _MAX_INDEX:
            raise ValueError(f"gres_detail {note!r}: {part!r} is backward or too high")
        yield from range(low, high + 1)
