"""What in Slurm's own configuration makes figures worse than they could be, and what to change."""

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from wattkeeper.model.state import Finding, State

_LINE = re.compile(r"(?P<key>\w+)(?:\[\d+\])?\s+= ?(?P<value>.*)")
_UNSET = {"(null)", "(none)", "none", ""}
_AT_ALLOCATION = {
    "alloc", "contain", "deferbatch", "forcerequeueonfail", "nohold", "runinjob", "serial", "x11",
}  # fmt: skip
"""Flags that let the prolog run when the job is allocated: all others imply `alloc`."""
_MARK = "wattkeeper"
_MOST_BYTES = 1 << 20

Read = Callable[[str], str | None]
"""Gives the text of all files behind a path or pattern; None if none can be read here."""


def parse(text: str) -> dict[str, list[str]]:
    """Return what `scontrol show config` says; a numbered key (26.05) has several values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            value = match["value"].strip()
            found.setdefault(match["key"], []).extend([] if value.lower() in _UNSET else [value])
    return found


def read_scripts(pattern: str) -> str | None:
    """Return the text of the scripts that Slurm runs for a path, which may be a pattern."""
    texts = []
    for name in sorted(glob.glob(pattern)):  # noqa: PTH207 -- an absolute pattern
        try:
            with Path(name).open("rb") as script:
                texts.append(script.read(_MOST_BYTES).decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(texts) if texts else None


def advise(config: dict[str, list[str]], read: Read = read_scripts) -> list[Finding]:
    """Return hints that matter, each with what to do; all is well if there is none."""
    found = [*_marks(config, read), *_flags(config), *_cgroups(config)]
    if found:
        return found
    return [Finding("slurm", State.OK, "prolog and epilog make marks when a job gets its GPUs")]


def _hint(subject: str, detail: str, fix: str) -> Finding:
    return Finding(f"slurm/{subject}", State.STALE, detail, fix)


def _marks(config: dict[str, list[str]], read: Read) -> list[Finding]:
    found = []
    for key, kind, place in (
        ("Prolog", "start", "last"),
        ("Epilog", "end", "first"),
    ):
        scripts = config.get(key, [])
        subject = key.lower()
        fix = f"call `wattkeeper mark {kind}` {place} in it; deploy/slurm/{subject}.sh does"
        if not scripts:
            detail = (
                f"{key} is not set: who has which GPU comes from the environment of tasks, which "
                "their users can write, and counts from the cgroup's birth"
            )
            found.append(_hint(subject, detail, f"set {key} and {fix}"))
            continue
        texts = [text for text in map(read, scripts) if text is not None]
        if texts and not any(_MARK in text for text in texts):
            detail = f"{key} ({', '.join(scripts)}) makes no mark"
            found.append(_hint(subject, detail, fix))
    return found


def _flags(config: dict[str, list[str]]) -> list[Finding]:
    flags = {
        flag.strip().lower() for value in config.get("PrologFlags", ()) for flag in value.split(",")
    }
    if not config.get("Prolog") or flags & _AT_ALLOCATION:
        return []
    detail = (
        "PrologFlags=Alloc is not set: the prolog runs with a job's first step on the node, so "
        "until then its GPUs count as idle"
    )
    return [_hint("prolog_flags", detail, "set PrologFlags=Alloc (or Contain, which includes it)")]


def _cgroups(config: dict[str, list[str]]) -> list[Finding]:
    found = []
    tracking = _only(config.get("ProctrackType", ()))
    if tracking != "proctrack/cgroup":
        detail = f"ProctrackType is {tracking or 'not set'}: jobs may have no cgroup to be seen by"
        found.append(_hint("proctrack", detail, "set ProctrackType=proctrack/cgroup"))
    if _only(config.get("CgroupPlugin", ())) == "disabled":
        fix = "set CgroupPlugin=autodetect in cgroup.conf"
        found.append(_hint("cgroup_plugin", "CgroupPlugin is disabled: no job has a cgroup", fix))
    tasks = _only(config.get("TaskPlugin", ())).split(",")
    constrained = _only(config.get("ConstrainDevices", ())).lower() == "yes"
    if config.get("GresTypes") and not ("task/cgroup" in tasks and constrained):
        detail = "jobs are not kept to their GPUs: work on another's is booked to its owner"
        fix = "set TaskPlugin=task/cgroup (with others) and, in cgroup.conf, ConstrainDevices=yes"
        found.append(_hint("constrain_devices", detail, fix))
    gathering = _only(config.get("JobAcctGatherType", ()))
    if _only(config.get("CgroupPlugin", ())) == "cgroup/v1" and not gathering.endswith("/cgroup"):
        detail = (
            f"JobAcctGatherType is {gathering or 'not set'}: with cgroup v1 no cgroup counts the "
            "CPU time of a job"
        )
        found.append(_hint("jobacct_gather", detail, "set JobAcctGatherType=jobacct_gather/cgroup"))
    return found


def _only(values: Sequence[str]) -> str:
    return values[0] if values else ""
