"""Fixture trees of sysfs and procfs, written as the kernel shows them: each file whole."""

from collections.abc import Mapping
from pathlib import Path

from wattkeeper.model.state import Finding, State


def put(root: Path, files: Mapping[str, str]) -> None:
    """Write files under a root, each by rename, so that a reader never sees half of one."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_name(f".{file.name}.half")
        half.write_text(text)
        half.rename(file)


class FakeClock:
    """A boot clock that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def boot_ns(self) -> int:
        """Nanoseconds since boot."""
        return self.now_ns

    def wall_ns(self) -> int:
        """UTC, an hour ahead of boot."""
        return self.now_ns + 3_600_000_000_000

    async def sleep_until(self, boot_ns: int) -> None:
        """Jump there."""
        self.now_ns = max(self.now_ns, boot_ns)


def states(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, State]:
    """Return the state of each subject."""
    return {finding.subject: finding.state for finding in findings}
