"""Making marks: what prolog and epilog say, durably, and the poke that never waits long."""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path

import msgspec
import pytest

from wattkeeper.holders import marks
from wattkeeper.holders.marks import Mark
from wattkeeper.model.holder import MAX_LABEL

CAPTURES = Path(__file__).parents[1] / "fixtures" / "slurm"


def environ(text: str) -> dict[str, str]:
    """Return an environment from captured lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def captured() -> list[tuple[str, dict[str, str]]]:
    """Return every captured prolog and epilog environment."""
    found = [(str(file), environ(file.read_text())) for file in CAPTURES.glob("*/*log.env")]
    for file in CAPTURES.glob("*/*log_more.txt"):
        blocks = re.split(r"^### ", file.read_text(), flags=re.MULTILINE)[1:]
        found += [(block.splitlines()[0], environ(block)) for block in blocks]
    return found


def test_every_captured_environment() -> None:
    """Each real prolog and epilog gives a mark with the node's own GPU indices."""
    environments = captured()
    assert len(environments) > 20
    for name, given in environments:
        mark = marks.from_environment("start", given, "boot-1")
        indices = [str(index) for index in mark.gpus]
        assert ",".join(indices) == given.get("SLURM_JOB_GPUS", ""), name
        assert mark.raw_id == given.get("SLURM_JOB_SLUID", given["SLURM_JOB_ID"]), name
        assert mark.labels["job_id"] == given["SLURM_JOB_ID"], name
        assert mark.labels["user"] == given["SLURM_JOB_USER"], name
        assert mark.labels["restart_count"] == given["SLURM_JOB_RESTART_COUNT"], name
        assert mark.manager == "slurm"


def test_constrained_indices_are_never_used() -> None:
    """CUDA_VISIBLE_DEVICES counts from 0 inside a job: without SLURM_JOB_GPUS there is no GPU."""
    given = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert marks.from_environment("start", given, "b").gpus == ()


def test_uuids_replace_indices() -> None:
    """GPUs named outright are taken instead of Slurm's indices."""
    given = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}
    mark = marks.from_environment("end", given, "b", uuids=["GPU-1"], shared=True)
    assert (mark.kind, mark.gpus, mark.uuids, mark.shared) == ("end", (), ("GPU-1",), True)


def test_mps_is_shared() -> None:
    """Several jobs of gres/mps hold one GPU at a time."""
    given = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25"}
    assert marks.from_environment("start", given, "b").shared


def test_times_are_those_of_now() -> None:
    """Both clocks are read when the mark is made."""
    before = time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    mark = marks.from_environment("start", {"SLURM_JOB_ID": "7"}, "b")
    assert before[0] <= mark.wall_ms <= time.time_ns() // 1_000_000
    assert before[1] <= mark.boot_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "SLURM_JOB_ID is not set"),
        ({"SLURM_JOB_ID": ""}, "SLURM_JOB_ID is not set"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "gpu0"}, "SLURM_JOB_GPUS: 'gpu0'"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0-3"}, "such as 0,1,2"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "99999"}, "SLURM_JOB_GPUS"),
    ],
)
def test_bad_environment_names_the_variable(given: dict[str, str], message: str) -> None:
    """The variable and what was expected."""
    with pytest.raises(ValueError, match=message):
        marks.from_environment("start", given, "b")


def test_labels_are_cut_and_cleaned(tmp_path: Path) -> None:
    """A name of 10 kB, with newlines and broken bytes, becomes a harmless label."""
    name = 'a"b\n\x1b[31m\udcff' + "x" * 10_000
    given = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": name}
    mark = marks.from_environment("start", given, "b")
    assert len(mark.labels["name"]) == MAX_LABEL
    assert mark.labels["name"].startswith('a"b\ufffd\ufffd[31m\ufffdx')
    assert marks.read(marks.write(tmp_path, mark)) == mark


def test_files_are_private_sorted_and_whole(tmp_path: Path) -> None:
    """One file per mark in the order of time, for root only, with nothing half-written beside."""
    spool = tmp_path / "data" / "marks"
    written = []
    for second in (2, 1, 3):
        mark = Mark("start", "slurm", "7", second * 1000, second, "b")
        written.append(marks.write(spool, mark))
    order = sorted(spool.iterdir())
    assert order == [written[1], written[0], written[2]]
    assert {file.stat().st_mode & 0o777 for file in order} == {0o600}
    assert spool.stat().st_mode & 0o777 == 0o700


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is the caller's error, and no half file stays."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        marks.write(tmp_path, Mark("start", "slurm", "7", 1, 1, "b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b'{"kind":"begin","manager":"slurm","raw_id":"7","wall_ms":1,"boot_ns":1,"boot_id":""}',
        b'{"kind":"start","manager":"slurm","raw_id":"","wall_ms":1,"boot_ns":1,"boot_id":""}',
        b'{"kind":"start","manager":"slurm","raw_id":"7","wall_ms":-1,"boot_ns":1,"boot_id":""}',
        (
            b'{"kind":"start","manager":"slurm","raw_id":"7","wall_ms":1,"boot_ns":1,"boot_id":"",'
            b'"gpus":[-1]}'
        ),
        b'"' + b"x" * 70_000 + b'"',
    ],
)
def test_what_is_no_mark_is_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage, half a file, a wrong kind or number, or too much of it."""
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ValueError):
        marks.read(tmp_path / "m.json")


def test_links_and_folders_are_refused(tmp_path: Path) -> None:
    """Only a plain file is read."""
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(ValueError, match="plain file"):
            marks.read(tmp_path / name)


def test_a_newer_writer_may_say_more(tmp_path: Path) -> None:
    """Unknown fields are passed over, so that an old agent takes a new command's marks."""
    mark = Mark("end", "slurm", "7", 1, 1, "b")
    content = msgspec.json.decode(msgspec.json.encode(mark)) | {"color": "red"}
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert marks.read(tmp_path / "m.json") == mark


class Agent:
    """A control socket that answers, or accepts and says nothing."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.heard = b""
        self.answer = answer
        self.done = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        """Hear one client."""
        client, _ = self.listener.accept()
        with client, self.listener:
            self.heard = client.recv(4096)
            if self.answer is not None:
                client.sendall(self.answer)
            else:
                self.done.wait(10)

    def close(self) -> None:
        """Let a silent agent go."""
        self.done.set()
        self.thread.join(5)


def test_poke_tells_the_agent(tmp_path: Path) -> None:
    """One line of JSON, and the answer is waited for."""
    agent = Agent(tmp_path / "control.sock", b'{"ok":true}\n')
    assert marks.poke(tmp_path / "control.sock")
    agent.close()
    assert json.loads(agent.heard) == {"op": "mark"}
    assert agent.heard.endswith(b"\n")


def test_poke_gives_up_on_a_hung_agent(tmp_path: Path) -> None:
    """A prolog never waits longer than the deadline."""
    agent = Agent(tmp_path / "control.sock", None)
    began = time.monotonic()
    assert not marks.poke(tmp_path / "control.sock", 0.1)
    assert time.monotonic() - began < 2
    agent.close()


def test_poke_without_an_agent(tmp_path: Path) -> None:
    """No socket, or one that nobody serves: the spool file is enough."""
    assert not marks.poke(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert not marks.poke(tmp_path / "dead.sock")
