"""Cgroup paths: which Slurm job or Kubernetes pod is behind one. Pure text, tried on real paths."""

import re
from dataclasses import dataclass

SLURM = "slurm"
KUBERNETES = "kubernetes"

# Slurm with cgroup v1; several slurmd on one host put the node's name behind `slurm`.
_SLURM_V1 = re.compile(
    r"(?:^|/)slurm(?:_(?P<node>[^/]+))?/uid_[0-9]+/job_(?P<id>[0-9]+)(?=/|$)",
)
# Slurm with cgroup v2: 26.05 names the folder by SLUID unless CgroupJobIdPaths=yes.
_SLURM_V2 = re.compile(
    r"(?:^|/)(?:(?P<node>[^/]+)_)?slurmstepd\.scope/"
    r"(?:job_(?P<id>[0-9]+)|(?P<sluid>s[0-9A-HJKMNP-TV-Z]{13}))(?=/|$)",
)
# Pods under cgroupfs, systemd, kind and nested kubelets; a static pod has 32 digits, no dashes.
_POD = re.compile(
    r"(?:^|[/-])pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
    r"(?=\.slice|[/:]|$)",
)
_CONTAINER = re.compile(
    r"(?:(?:cri-containerd|containerd|crio|docker|libpod)[-:])?"
    r"(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)",
)
_JOB_ID = re.compile(r"[0-9]{1,19}|s[0-9A-HJKMNP-TV-Z]{13}")
_USERS = re.compile(r"(?:^|/)user\.slice(?=/|$)")


@dataclass(frozen=True, slots=True)
class JobPath:
    """The job or pod of a path. `raw_id` is a Slurm job id or SLUID, or a pod's UID with dashes.

    `container` is the innermost container's id in a pod's path, None elsewhere. `node` is the
    slurmd's own name, where several run on one host, else empty. `pod_uid` is the pod in which
    that slurmd runs, empty on a plain host.
    """

    manager: str
    raw_id: str
    container: str | None = None
    node: str = ""
    pod_uid: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What the path itself tells about the holder."""
        if self.manager == KUBERNETES:
            return {"pod_uid": self.raw_id}
        known = {"job_id" if self.raw_id.isdecimal() else "sluid": self.raw_id}
        return {**known, "pod_uid": self.pod_uid} if self.pod_uid else known


@dataclass(frozen=True, slots=True)
class Believed:
    """Which cgroup paths are believed, and how far.

    `nodename`: only the jobs of the slurmd of this name; empty: of every one. `in_pods`: slurmd
    runs in pods, so a Slurm job's folder inside a pod's is a job, which pays itself. Only say so
    where no other pod may write to its own cgroups: its user could call himself any job.
    """

    nodename: str = ""
    in_pods: bool = False

    def parse(self, path: str) -> JobPath | None:
        """Return the job or pod that pays for a cgroup path, None if it is the machine's own."""
        job = parse(path)
        if job is not None and job.manager == KUBERNETES and self.in_pods:
            job = _inside(path, job)
        if job is not None and job.manager == SLURM and self.nodename not in {"", job.node}:
            return None
        return job

    def enters(self, path: str) -> bool:
        """Tell whether folders of jobs may lie below a path."""
        if _USERS.search(path):
            return False
        job = parse(path)
        return job is None or (self.in_pods and _inside(path, job).manager == KUBERNETES)


EVERY_JOB = Believed()
"""All slurmd and all pods of a host on which no slurmd runs in a pod."""


def parse(path: str) -> JobPath | None:
    """Return the job or pod of a cgroup path, None if it is the machine's own.

    The outermost match counts: whatever a job makes below its own folder stays the job's. Below
    `user.slice` users own the names, so nothing there is believed.
    """
    matches = [m for m in (p.search(path) for p in (_SLURM_V1, _SLURM_V2, _POD)) if m]
    if not matches:
        return None
    match = min(matches, key=lambda found: found.start())
    if _named_by_users(path, match):
        return None
    if "uid" in match.groupdict():
        return JobPath(KUBERNETES, match["uid"].replace("_", "-"), _container(path))
    return _slurm(match)


def is_job_id(text: str) -> bool:
    """Tell whether a text is a Slurm job id or a SLUID."""
    return _JOB_ID.fullmatch(text) is not None


def _inside(path: str, outer: JobPath) -> JobPath:
    """Return the Slurm job in a pod's path, else what is outermost."""
    if outer.manager != KUBERNETES:
        return outer
    matches = [m for m in (p.search(path) for p in (_SLURM_V1, _SLURM_V2)) if m]
    match = min(matches, key=lambda found: found.start(), default=None)
    if match is None or _named_by_users(path, match):
        return outer
    return _slurm(match, pod_uid=outer.raw_id)


def _named_by_users(path: str, match: re.Match[str]) -> bool:
    return _USERS.search(path, 0, match.start() + 1) is not None


def _slurm(match: re.Match[str], pod_uid: str = "") -> JobPath:
    groups = match.groupdict()
    raw_id = groups["id"] or groups["sluid"]
    return JobPath(SLURM, raw_id, node=groups["node"] or "", pod_uid=pod_uid)


def _container(path: str) -> str | None:
    ids = [match["id"] for match in _CONTAINER.finditer(path)]
    return ids[-1] if ids else None
