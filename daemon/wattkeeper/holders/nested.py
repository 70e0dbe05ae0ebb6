"""Jobs inside pods: what a pod spent itself, without the jobs of the slurmd that runs in it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wattkeeper.holders.base import HolderKey
from wattkeeper.holders.cpu_claims import Spent
from wattkeeper.holders.paths import KUBERNETES


def without_inner(jobs: Sequence[Spent], pods: Mapping[HolderKey, str]) -> list[Spent]:
    """Return the jobs, each pod less the jobs in it; `pods` gives the pod's UID of each of these.

    A cgroup counts all that is below it. A pod with a job whose time is not known has none known.
    """
    inner: dict[str, list[Spent]] = {}
    for job in jobs:
        if job.holder in pods:
            inner.setdefault(pods[job.holder], []).append(job)
    return [
        _less(job, inner[job.holder.raw_id])
        if job.holder.manager == KUBERNETES and job.holder.raw_id in inner
        else job
        for job in jobs
    ]


def _less(pod: Spent, inner: Sequence[Spent]) -> Spent:
    known = [job.us for job in inner if job.us is not None]
    us = None
    if pod.us is not None and len(known) == len(inner):
        us = max(0, pod.us - sum(known))
    by_cpu = {
        cpu: max(0, spent - sum(job.by_cpu_us.get(cpu, 0) for job in inner))
        for cpu, spent in pod.by_cpu_us.items()
    }
    return replace(pod, us=us, by_cpu_us=by_cpu)
