"""The aggregator's end of the process that fetches: started, read, ended, never waited for long."""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from wattkeeper.schedulers import slurm_wire
from wattkeeper.schedulers.base import NodeInfo, WorkloadInfo
from wattkeeper.schedulers.slurm_wire import Done, Failed, Frame, Nodes, Request, Workloads

_CHILD = "wattkeeper.schedulers.slurm_fetch"
_MAX_FRAME = 64 << 20
_STDERR = 4096


@dataclass(slots=True)
class Answer:
    """What was streamed back."""

    runs: list[WorkloadInfo] = field(default_factory=list)
    nodes: list[NodeInfo] = field(default_factory=list)


async def fetch(request: Request) -> tuple[Answer, Done]:
    """Ask in a process of its own, which is killed at the deadline with all that it started.

    Raises:
        OSError: there is no answer, with a message that says what to do.

    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", _CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environ(),
        start_new_session=True,
    )  # fmt: skip
    complaints = asyncio.create_task(_complaints(process))
    try:
        async with asyncio.timeout(request.timeout_s):
            return await _exchange(process, request)
    except TimeoutError:
        raise TimeoutError(_late(request)) from None
    except (EOFError, ConnectionError, msgspec.DecodeError) as error:
        said = await _ended(process, complaints)
        raise OSError(f"the process that asks Slurm ended without an answer{said}") from error
    finally:
        # The whole group: the child may wait for a command of Slurm's that hangs.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        complaints.cancel()
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, request: Request) -> tuple[Answer, Done]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(request))
    process.stdin.close()
    answer = Answer()
    while True:
        match await _frame(process.stdout):
            case Workloads(runs):
                answer.runs += runs
            case Nodes(nodes):
                answer.nodes += nodes
            case Failed(message):
                raise OSError(message)
            case Done() as done:
                return answer, done


async def _frame(stream: asyncio.StreamReader) -> Frame:
    length = slurm_wire.length(await stream.readexactly(slurm_wire.HEAD))
    if length > _MAX_FRAME:
        raise msgspec.DecodeError(f"a frame of {length} bytes")
    return slurm_wire.unpack(await stream.readexactly(length))


async def _complaints(process: asyncio.subprocess.Process) -> bytes:
    """Return the last words on the standard error; reading on keeps the child from blocking."""
    assert process.stderr is not None
    last = b""
    while chunk := await process.stderr.read(_STDERR):
        last = (last + chunk)[-_STDERR:]
    return last


async def _ended(process: asyncio.subprocess.Process, complaints: "asyncio.Task[bytes]") -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    lines = (await complaints).decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _late(request: Request) -> str:
    """Say who was waited for; it is one of two daemons, reached in one of two ways."""
    if request.what == "live":
        who, daemon, check = "squeue", "slurmctld", "`scontrol ping`"
    else:
        who, daemon, check = "sacct", "slurmdbd", "`sacctmgr ping`"
    if request.rest:
        who = f"slurmrestd at {request.rest}"
    return (
        f"{who} did not answer within {request.timeout_s:g} s: is {daemon} alive ({check})? "
        "If it is only slow, raise slurm.timeout"
    )


def _environ() -> dict[str, str]:
    """Let the child import us from where we were imported."""
    folders = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
