"""Rows that an engine refused, in Parquet files that any tool reads."""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.duck_rows import fitting, rows_table
from wattkeeper.telemetry.duck_schema import LABELS
from wattkeeper.telemetry.remote_write import RefusedRow

_NAMED_OTHERWISE = ("place", "start_ms", "end_ms")
_log = logging.getLogger(__name__)
_NAME = re.compile(r"\d{8}T\d{6}Z-(\d+)rows-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies in the folder."""

    files: int
    rows: int
    size: int


class RefusedRows:
    """A folder with a file for each write of which something was refused.

    Beyond `most_bytes` the oldest files are deleted; `dropped` counts their rows, and those whose
    energy is no number of 64 bits.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        self.dropped = 0

    def keep(self, refused: Sequence[RefusedRow]) -> None:
        """Put rows on disk. The same rows again replace their file.

        Raises:
            TelemetryError: they are not on disk.

        """
        fit = [RefusedRow(row, why) for one, why in refused for row in fitting([one])[0]]
        self.dropped += len(refused) - len(fit)
        if fit:
            self._write(fit)

    def kept(self) -> Kept:
        """Return what there is; files that others put there do not count."""
        files = self._files()
        return Kept(len(files), sum(one.rows for one in files), sum(one.size for one in files))

    def _write(self, refused: Sequence[RefusedRow]) -> None:
        named = repr([(row.place, row.start_ms, row.end_ms, row.uj) for row, _ in refused])
        digest = hashlib.blake2b(named.encode("utf-8", "replace"), digest_size=8).hexdigest()
        oldest = datetime.fromtimestamp(min(row.end_ms for row, _ in refused) / 1e3, UTC)
        name = f"{oldest:%Y%m%dT%H%M%SZ}-{len(refused)}rows-{digest}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / ".new"
            with temporary.open("wb") as file:
                pq.write_table(_table(refused), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
            _sync(self.folder)
            self._make_room()
        except OSError as error:
            raise TelemetryError(
                f"telemetry: what the engine refuses cannot be kept in {self.folder}: {error}"
            ) from error

    def _make_room(self) -> None:
        files = sorted(self._files(), key=attrgetter("written_ns"))
        size = sum(one.size for one in files)
        while size > self._most_bytes and len(files) > 1:
            oldest = files.pop(0)
            oldest.path.unlink(missing_ok=True)
            size -= oldest.size
            self.dropped += oldest.rows
            _log.warning("telemetry: %s deleted to make room for newer refused rows", oldest.path)

    def _files(self) -> "list[_File]":
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return []  # there is none yet; if it cannot be used, `keep` says so
        found = []
        for path in paths:
            named = _NAME.fullmatch(path.name)
            with contextlib.suppress(FileNotFoundError):  # just taken away
                if named:
                    about = path.stat()
                    found.append(_File(path, int(named[1]), about.st_size, about.st_mtime_ns))
        return found


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    rows: int
    size: int
    written_ns: int


def _table(refused: Sequence[RefusedRow]) -> pa.Table:
    """Return rows as they stand in files of the embedded store, each with the reason."""
    rows = [one.row for one in refused]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(r.place for r in rows))}
    columns = rows_table(rows, numbers)
    texts = zip(*(row.place for row in rows), strict=True)
    time = pa.timestamp("ms", "UTC")
    return pa.table(
        {
            "reason": pa.array([one.reason for one in refused], pa.string()),
            **{name: pa.array(of, pa.string()) for name, of in zip(LABELS, texts, strict=True)},
            "start_time": columns["start_ms"].cast(time),
            "end_time": columns["end_ms"].cast(time),
            **{n: columns[n] for n in columns.column_names if n not in _NAMED_OTHERWISE},
        }
    )


def _sync(folder: Path) -> None:
    """Put a folder's list of names on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
