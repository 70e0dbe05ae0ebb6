"""What `doctor` asks Slurm: whether it knows this node, and how it is configured."""

import asyncio
import shutil

from wattkeeper.agent.slurm_advice import advise, parse
from wattkeeper.model.state import Finding, State

_DEADLINE_S = 5.0


async def findings(node: str) -> list[Finding]:
    """Return what Slurm says of this node; that it is absent, where its commands are not."""
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        return [Finding("scheduler", State.ABSENT, "no Slurm here (scontrol is not installed)")]
    known, config = await asyncio.gather(
        _ask(scontrol, "show", "node", node), _ask(scontrol, "show", "config")
    )
    if known is None:
        return [Finding("scheduler", State.STALE, "slurmctld did not answer within 5 s")]
    found = [_knows(node, *known)]
    if config is not None and config[0] == 0:
        found += advise(parse(config[1]))
    return found


def _knows(node: str, code: int, said: str) -> Finding:
    if code == 0:
        return Finding("scheduler", State.OK, f"Slurm knows this node as {node}")
    first = said.strip().partition("\n")[0][:200]
    if "not found" not in said:
        fix = "see that `scontrol ping` works here; where only Slurm's commands are, never mind"
        return Finding("scheduler", State.STALE, f"slurmctld cannot be asked: {first}", fix)
    return Finding(
        "scheduler",
        State.FAILING,
        f"Slurm does not know a node {node}: {first}",
        "set `node` to the NodeName of slurm.conf",
    )


async def _ask(scontrol: str, *words: str) -> tuple[int, str] | None:
    """Return exit code and output, None if it did not answer in time."""
    process = await asyncio.create_subprocess_exec(
        scontrol, *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return process.returncode or 0, output.decode(errors="replace")
