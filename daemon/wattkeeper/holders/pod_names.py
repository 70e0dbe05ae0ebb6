"""Which UID a pod of this name has, told by the folders that the kubelet keeps its logs in.

Pod-resources names pods, cgroups know UIDs. `/var/log/pods` has a folder
`<namespace>_<name>_<UID>` for each pod, made before its first container starts; its names are all
that is read.
"""

import os
import re
from pathlib import Path

_FOLDER = re.compile(
    r"(?P<namespace>[a-z0-9-]+)_(?P<name>[a-z0-9.-]+)_"
    r"(?P<uid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
)

PodName = tuple[str, str]
"""Namespace and name."""


class PodNames:
    """The pods that have a log folder. A name can have several UIDs, ended ones among them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uids: dict[PodName, tuple[str, ...]] = {}
        self._names: dict[str, PodName] = {}
        self.trouble = ""

    def scan(self) -> None:
        """List the folders anew; reads the disk. `trouble` says why it could not."""
        try:
            with os.scandir(self._folder) as entries:
                found = [match for match in (_FOLDER.fullmatch(e.name) for e in entries) if match]
        except OSError as error:
            self.trouble = f"{self._folder}: {error.strerror}"
            return
        self.trouble = ""
        uids: dict[PodName, tuple[str, ...]] = {}
        for match in found:
            name = (match["namespace"], match["name"])
            uids[name] = (*uids.get(name, ()), match["uid"])
        self._uids = uids
        self._names = {uid: name for name, known in uids.items() for uid in known}

    def uids(self, name: PodName) -> tuple[str, ...]:
        """Return the UIDs of the pods of this name, as of the last scan."""
        return self._uids.get(name, ())

    def name(self, uid: str) -> PodName | None:
        """Return namespace and name of a pod, as of the last scan."""
        return self._names.get(uid)
