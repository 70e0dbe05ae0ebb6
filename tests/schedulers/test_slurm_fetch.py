"""The process that asks Slurm's commands: answers, failures, hangs, and answers without end."""

import asyncio
import gc
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from benchmarks.squeue import Watch

from tests.schedulers.slurm_captures import FIXTURES, NOW_MS
from wattkeeper.schedulers.slurm_child import Answer, fetch
from wattkeeper.schedulers.slurm_wire import Done, Request


@dataclass
class Installed:
    """Programs that stand for Slurm's commands, in a folder of their own."""

    folder: Path

    def command(self, name: str, script: str) -> None:
        """Install a command."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def says(self, name: str, text: str) -> None:
        """Install a command that says the same each time."""
        (self.folder / f"{name}.json").write_text(text)
        self.command(name, f"cat '{self.folder / name}.json'")

    def asked(self, name: str) -> str:
        """Return with what it was called."""
        return (self.folder / f"{name}.called").read_text()

    def request(self, **more: Any) -> Request:
        """Return a question to these commands."""
        usual: dict[str, Any] = {
            "what": "live", "cluster": "demo", "since_ms": 0, "now_ms": NOW_MS, "timeout_s": 20.0,
            "max_bytes": 1 << 30, "bin": str(self.folder),
        }  # fmt: skip
        return Request(**(usual | more))


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Install a Slurm that has nothing to say."""
    found = Installed(tmp_path)
    found.says("squeue", '{"jobs": [], "errors": []}')
    found.command("scontrol", "echo 'scontrol: unrecognized option --json' >&2; exit 1")
    found.says("sinfo", '{"nodes": [], "errors": []}')
    found.says("sacct", '{"jobs": [], "errors": []}')
    return found


async def ask(installed: Installed, **more: Any) -> tuple[Answer, Done]:
    """Ask."""
    return await fetch(installed.request(**more))


async def refused(installed: Installed, **more: Any) -> str:
    """Return why there is no answer."""
    with pytest.raises(OSError) as caught:
        await ask(installed, **more)
    return str(caught.value)


@pytest.mark.parametrize(("version", "live"), [("22.05", 34), ("25.11", 15), ("26.05", 25)])
async def test_a_whole_answer(installed: Installed, version: str, live: int) -> None:
    """Jobs and nodes of one version, as its commands say them."""
    folder = FIXTURES / version
    installed.command("squeue", f"cat '{folder}/squeue.json'")
    installed.command("sinfo", f"cat '{folder}/sinfo.json'")
    answer, done = await ask(installed)
    assert live == len(answer.runs)
    assert 8 == len(answer.nodes)
    assert (done.flawed, done.doubt, done.no_nodes) == (0, "", "")
    assert done.slurm_cluster == "demo"


async def test_accounts(installed: Installed) -> None:
    """All users' runs since an instant, without steps, also those that were requeued."""
    installed.command(
        "sacct",
        f"echo \"$@\" > '{installed.folder}/sacct.called'; cat '{FIXTURES}/26.05/sacct.json'",
    )
    answer, _ = await ask(installed, what="ended", since_ms=1_795_426_000_999)
    assert 17 == len(answer.runs)
    words = installed.asked("sacct").split()
    assert {"--local", "--allusers", "--duplicates", "--allocations", "--json"} <= set(words)
    assert words[words.index("--starttime") + 1] == "uts1795426000"
    assert "RQ" in words[words.index("--state") + 1].split(",")


async def test_sister_clusters_are_left_out(installed: Installed) -> None:
    """Where a federation is shown by default, its jobs and nodes are not this cluster's."""
    for name in ("squeue", "scontrol"):
        called = installed.folder / f"{name}.called"
        installed.command(name, f'echo "$@" > \'{called}\'; echo \'{{"jobs": [], "nodes": []}}\'')
    await ask(installed)
    for name in ("squeue", "scontrol"):
        assert "--local" in installed.asked(name).split()


async def test_the_users_own_habits(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQUEUE_USERS and the like would hide jobs; SLURM_CONF is ours to say."""
    monkeypatch.setenv("SQUEUE_USERS", "bob")
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    installed.command(
        "squeue", f"env > '{installed.folder}/squeue.called'; echo '{{\"jobs\": []}}'"
    )
    await ask(installed, conf="/etc/other/slurm.conf")
    environ = installed.asked("squeue").splitlines()
    assert "SLURM_CONF=/etc/other/slurm.conf" in environ
    assert not [line for line in environ if line.startswith(("SQUEUE_", "SLURM_CLUSTERS"))]


async def test_nodes_of_newer_versions(installed: Installed) -> None:
    """Scontrol says them; sinfo is for 22.05."""
    installed.command("scontrol", f"cat '{FIXTURES}/26.05/scontrol_show_nodes.json'")
    installed.command("sinfo", "exit 1")
    answer, _ = await ask(installed)
    assert ["n1", "n4"] == [node.name for node in answer.nodes]


async def test_topology(installed: Installed) -> None:
    """Asked for where groups are made of it; a Slurm without one says nothing of nodes' places."""
    installed.command(
        "scontrol",
        f'case "$*" in *topology*) echo "SwitchName=s7 Level=0 Nodes=n1";; '
        f"*) cat '{FIXTURES}/26.05/scontrol_show_nodes.json';; esac",
    )
    answer, _ = await ask(installed, topology=True)
    marks = {node.name: node.marks for node in answer.nodes}
    assert ("topology:=s7" in marks["n1"], "topology:=s7" in marks["n4"]) == (True, False)
    answer, _ = await ask(installed)
    assert "topology:=s7" not in answer.nodes[0].marks
    installed.command(
        "scontrol",
        f'case "$*" in *topology*) echo "no way" >&2; exit 1;; '
        f"*) cat '{FIXTURES}/26.05/scontrol_show_nodes.json';; esac",
    )
    answer, done = await ask(installed, topology=True)
    assert (2, "", "scontrol failed (exit 1): no way") == (
        len(answer.nodes), done.no_nodes, done.no_topology,
    )  # fmt: skip


async def test_nodes_that_cannot_be_told(installed: Installed) -> None:
    """Names of jobs matter more: they are told without."""
    installed.command("sinfo", "echo 'sinfo: error: no way' >&2; exit 1")
    installed.command("squeue", f"cat '{FIXTURES}/22.05/squeue.json'")
    answer, done = await ask(installed)
    assert 34 == len(answer.runs)
    assert done.no_nodes == "nodes: sinfo failed (exit 1): sinfo: error: no way"


DOWN = json.dumps({"jobs": [], "errors": [{"error": "Unspecified error", "description": "Failed"}]})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
            "Unable to contact slurm controller; is slurmctld alive (`scontrol ping`)?",
        ),
        (
            "echo \"squeue: unrecognized option '--json'\" >&2; exit 1",
            "this squeue cannot write JSON: it is older than 21.08",
        ),
        ("echo 'squeue: fatal: Could not establish a configuration source' >&2; exit 1",
         "set slurm.conf to the cluster's slurm.conf"),
        ("echo 'auth/munge: Unable to contact munged' >&2; exit 1", "squeue failed (exit 1)"),
        ("exit 3", "squeue failed (exit 3) and said nothing"),
        ("kill -9 $$", "squeue failed (signal 9)"),
        ("echo 'JOBID PARTITION NAME'", "not Slurm's JSON, or cut off: 'JOBID PARTITION NAME"),
        ("echo '{\"jobs\": [{\"job_id\": 1}'", "not Slurm's JSON, or cut off"),
        ("true", "not Slurm's JSON, or cut off: ''"),
        ("echo '{}'", "no list of jobs or nodes"),
        ("echo '" + DOWN + "'", "Slurm says 'Unspecified error: Failed'; is slurmctld alive"),
        ("yes 'squeue: error: again' | head -c 3000000 >&2; exit 1",
         "squeue failed (exit 1): squeue: error: again"),
    ],
)  # fmt: skip
async def test_failures(installed: Installed, script: str, expected: str) -> None:
    """Each with what Slurm said, and what to do."""
    installed.command("squeue", script)
    message = await refused(installed)
    assert expected in message
    assert len(message) < 600


async def test_nothing_is_no_failure(installed: Installed) -> None:
    """Accounts without a run are an error to 22.05."""
    error = {"description": "Nothing found with query", "error": "Nothing found"}
    installed.says("sacct", json.dumps({"meta": {}, "errors": [error], "jobs": []}))
    answer, done = await ask(installed, what="ended")
    assert (answer.runs, done.flawed) == ([], 0)


async def test_not_installed(tmp_path: Path) -> None:
    """Names the settings that help."""
    message = await refused(Installed(tmp_path))
    assert message.startswith(f"squeue is not installed in {tmp_path}")
    assert "slurm.bin" in message
    assert "slurm.rest" in message


async def test_a_hang(installed: Installed) -> None:
    """At the deadline all of it ends, and the message says who was waited for."""
    installed.command("squeue", f"echo $$ > '{installed.folder}/pid'; exec sleep 1000")
    began_s = time.monotonic()
    message = await refused(installed, timeout_s=1.5)
    assert time.monotonic() - began_s < 10
    assert message.startswith("squeue did not answer within 1.5 s: is slurmctld alive")
    pid = int((installed.folder / "pid").read_text())
    await _gone(pid)


async def test_a_question_that_is_cancelled(installed: Installed) -> None:
    """Nothing of it is left."""
    installed.command("squeue", f"echo $$ > '{installed.folder}/pid'; exec sleep 1000")
    asking = asyncio.create_task(ask(installed))
    pid_file = installed.folder / "pid"
    async with asyncio.timeout(10):
        while not pid_file.exists() or not pid_file.read_text().strip():
            await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await _gone(int(pid_file.read_text()))


async def _gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    """Tell whether a process does anything yet; one that nobody reaped has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_an_answer_without_end(installed: Installed) -> None:
    """It is not read to its end."""
    installed.command("squeue", 'echo \'{"jobs": [{"job_id": 1, "x": "\'; exec cat /dev/zero')
    assert "no record ends in it" in await refused(installed)
    installed.command("squeue", "cat /dev/zero")
    assert "no list of records begins" in await refused(installed)
    installed.command("squeue", 'printf \'{"jobs": [{"job_id": 1}\'; exec yes \', {"job_id": 1}\'')
    message = await refused(installed, max_bytes=5 << 20)
    assert message == ("squeue said more than 5 MiB: raise slurm.max_answer if that is no mistake")


async def test_a_bad_record(installed: Installed) -> None:
    """It is counted, and the others are there."""
    jobs = json.loads((FIXTURES / "26.05/squeue.json").read_text())["jobs"]
    jobs[3] |= {"nodes": "n[5-1]", "job_state": ["RUNNING"]}
    jobs[4] = "what is this"
    jobs[5] |= {"job_id": None}
    installed.says("squeue", json.dumps({"jobs": jobs}))
    answer, done = await ask(installed)
    assert 25 - 3 == len(answer.runs)
    assert done.flawed == 3
    assert "backward" in done.flaw


def big(jobs: int) -> Iterator[str]:
    """Yield an answer with this many running jobs, each with all its cores: 7 kB a job."""
    job = json.loads((FIXTURES / "26.05/squeue_v0.0.44.json").read_text())["jobs"][1]
    yield '{"jobs": ['
    for number in range(jobs):
        job["job_id"] = number + 1
        yield json.dumps(job) + (", " if number + 1 < jobs else "")
    yield '], "errors": []}'


async def test_a_large_answer(installed: Installed) -> None:
    """200 MB: the loop goes on meanwhile, and neither process holds the answer."""
    chunk = "".join(big(1000))
    jobs = chunk[len('{"jobs": [') : -len('], "errors": []}')]
    (installed.folder / "jobs").write_text(jobs + ",")
    times = 200_000_000 // len(jobs)
    installed.command(
        "squeue",
        f"printf '{{\"jobs\": ['; i=0; while [ $i -lt {times} ]; do i=$((i+1)); "
        f"cat '{installed.folder}/jobs'; done; printf '{{\"job_id\": 1}}], \"errors\": []}}'",
    )
    gc.collect()
    gc.freeze()  # what other tests left behind is not this one's to look through
    watch = Watch()
    watching = asyncio.create_task(watch.run())
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer, done = await ask(installed, timeout_s=120.0)
    watching.cancel()
    gc.unfreeze()
    after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert times * 1000 == len(answer.runs)
    assert done.flawed == 0
    # By the loop's own CPU time: how long it waits for a processor is the machine's affair.
    assert watch.busy_s < 0.3
    assert after_kb - before_kb < 120_000
    assert 0 < watch.child_mb < 150


def test_no_shell(installed: Installed) -> None:
    """A cluster name that is a command line is only a name."""
    hostile = "; touch hacked; $(touch hacked)"
    answer, _ = asyncio.run(ask(installed, cluster=hostile, slurm_cluster=hostile))
    assert answer.runs == []
    assert not Path("hacked").exists()
