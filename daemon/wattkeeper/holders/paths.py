"""Cgroup paths: which Slurm job or Kubernetes pod is behind one. Pure text, tried on real paths."""

import re
from dataclasses import dataclass

SLURM = "slurm"
KUBERNETES = "kubernetes"

# Slurm with cgroup v1; several slurmd on one host put the node's name behind `slurm`.
_SLURM_V1 = re.compile(
    r"(?:^|/)slurm(?:_[^/]+)?/uid_[0-9]+/job_(?P<id>[0-9]+)(?=/|$)",
)
# Slurm with cgroup v2: 26.05 names the folder by SLUID unless CgroupJobIdPaths=yes.
_SLURM_V2 = re.compile(
    r"(?:^|/)(?:[^/]+_)?slurmstepd\.scope/"
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
_USERS = re.compile(r"(?:^|/)user\.slice(?=/|$)")


@dataclass(frozen=True, slots=True)
class JobPath:
    """The job or pod of a path. `raw_id` is a Slurm job id or SLUID, or a pod's UID with dashes.

    `container` is the innermost container's id in a pod's path, None elsewhere.
    """

    manager: str
    raw_id: str
    container: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What the path itself tells about the holder."""
        if self.manager == KUBERNETES:
            return {"pod_uid": self.raw_id}
        return {"job_id" if self.raw_id.isdecimal() else "sluid": self.raw_id}


def parse(path: str) -> JobPath | None:
    """Return the job or pod of a cgroup path, None if it is the machine's own.

    The outermost match counts: whatever a job makes below its own folder stays the job's. Below
    `user.slice` users own the names, so nothing there is believed.
    """
    matches = [m for m in (p.search(path) for p in (_SLURM_V1, _SLURM_V2, _POD)) if m]
    if not matches:
        return None
    match = min(matches, key=lambda found: found.start())
    if _USERS.search(path, 0, match.start() + 1):
        return None
    groups = match.groupdict()
    if "uid" in groups:
        return JobPath(KUBERNETES, groups["uid"].replace("_", "-"), _container(path))
    return JobPath(SLURM, groups["id"] or groups["sluid"])


def _container(path: str) -> str | None:
    ids = [match["id"] for match in _CONTAINER.finditer(path)]
    return ids[-1] if ids else None
