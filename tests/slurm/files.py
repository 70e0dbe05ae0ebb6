"""The files of a test cluster: Slurm's configuration, prolog and epilog, and its commands."""

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.inside import HOST

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "wk"
GPUS = 4
FIRST_PORT = 17001
COMMANDS = ("sbatch", "squeue", "sacct", "sinfo", "scontrol", "scancel", "sacctmgr", "srun")

FOLDERS = (
    "agents", "bin", "commands", "dev", "gpus", "log", "munge", "out", "run", "spool", "state",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """One slurmd. `marks`: whether its prolog and epilog call `wattkeeper mark`."""

    name: str
    marks: bool = True


def slurm_conf(folder: Path, nodes: Sequence[Node]) -> str:
    """Return slurm.conf: every node an own slurmd on this machine, with GPUs and made-up CPUs."""
    names = ",".join(node.name for node in nodes if node.marks)
    bare = ",".join(node.name for node in nodes if not node.marks)
    lines = [
        f"NodeName={node.name} NodeHostname={HOST} NodeAddr={HOST} Port={FIRST_PORT + i} "
        f"CPUs=16 RealMemory=16000 Gres=gpu:h100:{GPUS} Feature=h100,rack-r{i % 2} State=UNKNOWN"
        for i, node in enumerate(nodes)
    ]
    lines.append(f"PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE")
    if bare:
        lines.append(f"PartitionName=bare Nodes={bare} MaxTime=INFINITE")
    # cred_expire: slurmctld holds a requeued job back for that long, two minutes by default.
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={HOST}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_CORE_Memory
TopologyPlugin=topology/tree
GresTypes=gpu
DefMemPerCPU=10
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000,bf_interval=1
MpiDefault=none
ReturnToService=2
KillWait=1
MinJobAge=300
Prolog={folder}/prolog
Epilog={folder}/epilog
PrologFlags=Alloc
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={HOST}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
{chr(10).join(lines)}
"""


def slurmdbd_conf(folder: Path) -> str:
    """Return slurmdbd.conf: a database of this cluster's own, reached through a unix socket."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
DbdHost={HOST}
SlurmUser=root
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
"""


def prolog(folder: Path, kind: str, nodes: Sequence[Node]) -> str:
    """Return prolog (`start`) or epilog (`end`).

    Both write down the boot time before and after they mark the job: the truth about its edges.
    Where a test has made the file `shipped`, they run the script that sites get, too, with an agent
    of its own, and write down how it ended and when.
    """
    script = ROOT / "deploy/slurm" / {"start": "prolog.sh", "end": "epilog.sh"}[kind]
    marked = "|".join(node.name for node in nodes if node.marks)
    mark = f"{folder}/bin/wattkeeper mark {kind} --strict"
    return f"""\
#!/bin/sh
now() {{ read -r up rest </proc/uptime; echo "$up"; }}
cd {folder}/log || exit
job="$SLURM_JOB_ID ${{SLURM_JOB_GPUS:--}}"
before=$(now)
case $SLURMD_NODENAME in
  {marked}) {mark} --data-dir "{folder}/agents/$SLURMD_NODENAME" || echo "$job" >>unmarked ;;
esac
echo "{kind} $SLURMD_NODENAME $job $before $(now)" >>edges
if [ -e shipped ]; then
  export WATTKEEPER={folder}/bin/wattkeeper WATTKEEPER_AGENT_DATA_DIR={folder}/agents/shipped
  before=$(now)
  {shlex.quote(str(script))}
  echo "{kind} $SLURM_JOB_ID $? $before $(now)" >>shipped
fi
"""


def launch(folder: Path) -> str:
    """Return what a batch script says first: that it runs, and on which GPUs."""
    line = "launch $SLURMD_NODENAME $SLURM_JOB_ID ${SLURM_JOB_GPUS:--} $up $up"
    return f'read -r up rest </proc/uptime; echo "{line}" >>{folder}/log/edges'


def work(folder: Path) -> str:
    """Return what jobs run: `work WATTS SECONDS` draws so much more on each GPU of the step.

    A GPU works while a process holds its pipe open, so that a killed job stops working.
    """
    return f"""\
#!/bin/sh
for gpu in $(echo "${{SLURM_STEP_GPUS:-$SLURM_JOB_GPUS}}" | tr , ' '); do
  ( exec 3>"{folder}/gpus/$SLURMD_NODENAME.$gpu" && echo "$1" >&3 && exec sleep "$2" ) &
done
wait
"""


def topology_conf(nodes: Sequence[Node]) -> str:
    """Return topology.conf: the first node on a switch of its own, below one for all."""
    others = ",".join(node.name for node in nodes[1:])
    lines = [f"SwitchName=leaf0 Nodes={nodes[0].name}", f"SwitchName=leaf1 Nodes={others}"]
    return "\n".join([*lines, "SwitchName=top Switches=leaf[0-1]", ""])


def write(folder: Path, nodes: Sequence[Node], enter: Sequence[str]) -> None:
    """Write everything. `enter`: the command that leads into the cluster's namespaces."""
    for name in FOLDERS:
        (folder / name).mkdir()
    (folder / "out").chmod(0o1777)
    (folder / "log/edges").touch()
    (folder / "log/edges").chmod(0o666)
    for node in nodes:
        (folder / "spool" / node.name).mkdir()
    (folder / "slurm.conf").write_text(slurm_conf(folder, nodes))
    (folder / "topology.conf").write_text(topology_conf(nodes))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nConstrainDevices=yes\n")
    for i in range(GPUS):
        os.mknod(folder / f"dev/nvidia{i}", 0o666 | stat.S_IFCHR, os.makedev(195, i))
    devices = f"{folder}/dev/nvidia[0-{GPUS - 1}]"
    (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu Type=h100 File={devices}\n")
    _secret(folder / "slurmdbd.conf", slurmdbd_conf(folder).encode())
    _secret(folder / "jwt.key", os.urandom(32))
    _secret(folder / "munge/key", os.urandom(128))
    _script(folder / "prolog", prolog(folder, "start", nodes))
    _script(folder / "epilog", prolog(folder, "end", nodes))
    _script(folder / "bin/work", work(folder))
    python = f"PYTHONPATH={shlex.quote(f'{ROOT}/daemon')} {shlex.quote(sys.executable)}"
    _script(folder / "bin/wattkeeper", f'#!/bin/sh\n{python} -m wattkeeper "$@"\n')
    inside = f"SLURM_CONF={folder}/slurm.conf exec {shlex.join(enter)}"
    for name in COMMANDS:
        _script(folder / f"commands/{name}", f'#!/bin/sh\n{inside} {shutil.which(name)} "$@"\n')


def _secret(file: Path, content: bytes) -> None:
    file.touch(0o600)
    file.write_bytes(content)


def _script(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)
