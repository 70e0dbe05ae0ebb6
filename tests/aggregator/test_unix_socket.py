"""The unix socket: who connects is known by the kernel's word."""

import asyncio
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import Feeder
from tests.aggregator.roles import guarded
from wattkeeper.listening.peers import Account, look_up
from wattkeeper.listening.unix_door import SocketError, open_socket

_ASK = """
import os, socket, sys
path, uid, gid, request = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.chdir(os.path.dirname(path))  # through folders that are the test's alone
if uid != os.geteuid():
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
with socket.socket(socket.AF_UNIX) as end:
    end.settimeout(20)
    end.connect(os.path.basename(path))
    end.sendall(request.encode())
    got = b""
    while piece := end.recv(65536):
        got += piece
sys.stdout.buffer.write(got)
"""


def ask_as(path: Path, uid: int, asked: str, headers: str = "") -> tuple[int, bytes]:
    """Ask in a process of a user; return status and body."""
    gid = pwd.getpwuid(uid).pw_gid
    request = f"GET {asked} HTTP/1.0\r\nHost: x\r\n{headers}\r\n"
    command = [sys.executable, "-I", "-c", _ASK, str(path), str(uid), str(gid), request]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def listed(body: bytes) -> set[str]:
    """Return the ids of the jobs in an answer."""
    return {job["job_id"] for job in json.loads(body)["jobs"]}


async def jobs_of_nobody(centre: Centre) -> None:
    """Deliver a job of the user `nobody`, and one of bob."""
    labels = {"job_id": "7", "user": "nobody", "account": "physics", "name": "mine"}
    await centre.fed(Feeder(raw_id="7", labels=labels))
    bobs = {"job_id": "8", "user": "bob", "account": "physics", "name": "his"}
    await centre.fed(Feeder(node="n2", journal="j2", uuid="GPU-2", raw_id="8", labels=bobs))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
async def test_who_connects_is_known(tmp_path: Path) -> None:
    """A user sees their own job, root everything, and a header makes nobody somebody else."""
    path = tmp_path / "run" / "a.sock"
    await asyncio.to_thread(path.parent.mkdir, 0o755)
    nobody = pwd.getpwnam("nobody").pw_uid
    async with guarded(tmp_path, socket=path) as centre:
        await jobs_of_nobody(centre)
        assert 0o666 == stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode)
        for uid, headers, expected in (
            (nobody, "", {"7"}),
            (nobody, "X-Forwarded-User: bob\r\n", {"7"}),
            (0, "", {"7", "8"}),
        ):
            status, body = await asyncio.to_thread(ask_as, path, uid, "/v1/jobs", headers)
            assert (200, expected) == (status, listed(body))
        status, body = await asyncio.to_thread(ask_as, path, nobody, "/v1/jobs/west/8")
        assert 404 == status
        assert 403 == (await asyncio.to_thread(ask_as, path, nobody, "/metrics"))[0]
    assert not await asyncio.to_thread(path.exists)


def test_an_account_of_this_machine() -> None:
    """Name and groups are the directory's; one that it does not know has neither."""
    root = look_up(0)
    assert "root" == root.name
    assert "root" in root.groups
    assert Account() == look_up(2_000_000_123)


def test_a_socket_that_is_left_is_replaced(tmp_path: Path) -> None:
    """After kill -9 it is still there, and nobody answers."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with open_socket(path), pytest.raises(SocketError, match="somebody else's"):
        open_socket(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The message says what there should be."""
    with pytest.raises(SocketError, match="RuntimeDirectory"):
        open_socket(tmp_path / "no" / "a.sock")
