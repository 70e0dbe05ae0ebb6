"""The units in a systemd that has booted: they start, say so, survive, reload and end."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import until
from tests.sources.tree import put
from tests.systemd.machine import Machine, missing

# One worker boots the machine.
pytestmark = [pytest.mark.systemd, pytest.mark.xdist_group("systemd")]

AGENT, AGGREGATOR, RELAY = "wattkeeper-agent", "wattkeeper-aggregator", "wattkeeper-relay"
UNITS = (AGGREGATOR, AGENT)
NOBODY = 65534
_AGENT_TOML = """\
node = "n1"
sample_interval = "100ms"
window = "1s"
[path]
sysfs = "/srv/sys"
[aggregator]
url = "http://127.0.0.1:9746"
token = "{token}"
"""
_AGGREGATOR_TOML = """\
token = "{token}"
commit_interval = "500ms"
[access]
anonymous = "operator"
tokens_file = "/etc/wattkeeper/tokens.toml"
"""
_RELAY_TOML = """\
url = "http://127.0.0.1:9746"
token_file = "/etc/wattkeeper/relay.token"
"""
_WATTKEEPER = "/opt/wattkeeper/bin/wattkeeper"


class Site:
    """One machine that is node and centre."""

    def __init__(self, machine: Machine, counter: Path) -> None:
        self.machine = machine
        self._counter = counter

    def configure(self, unit: str, token: str) -> None:
        """Write the configuration of a unit, readable by its user alone."""
        program = unit.removeprefix("wattkeeper-")
        text = _AGENT_TOML if unit == AGENT else _AGGREGATOR_TOML
        self.machine.write(f"/etc/wattkeeper/{program}.toml", text.format(token=token))
        if unit == AGGREGATOR:
            self.machine.run("chown", "wattkeeper", f"/etc/wattkeeper/{program}.toml")

    def count(self, energy_uj: int) -> None:
        """Let the CPU's counter show so much."""
        put(self._counter.parent, {"energy_uj": f"{energy_uj}\n"})
        private(self._counter)

    def main(self, unit: str) -> int:
        """Return the process that a unit is."""
        return int(self.machine.show(unit, "MainPID")["MainPID"])

    def booked_uj(self) -> int | None:
        """Return what the ledger says that the CPU has used."""
        text = self.machine.fetch("http://127.0.0.1:9746/v1/balance")
        meters = json.loads(text)["meters"] if text else []
        return int(meters[0]["measured_uj"]) if meters else None

    def said(self, unit: str) -> list[dict[str, str]]:
        """Return the fields of everything that a unit's program has logged."""
        lines = self.machine.run("journalctl", "--output=json", f"--unit={unit}").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in records if record.get("SYSLOG_IDENTIFIER") == "wattkeeper"]


def private(file: Path) -> None:
    """Make a file that only its owner may read, and let that be another than root."""
    file.chmod(0o400)
    os.chown(file, NOBODY, NOBODY)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Boot a machine with a CPU that counts, and configure both programs."""
    if reason := missing():
        pytest.skip(reason)
    sysfs = tmp_path_factory.mktemp("sys")
    zone = sysfs / "class/powercap/intel-rapl:0"
    put(
        zone, {"name": "package-0\n", "energy_uj": "1000\n", "max_energy_range_uj": "99999999999\n"}
    )
    (zone.parent / "intel-rapl").mkdir()
    private(zone / "energy_uj")
    machine = Machine(sysfs)
    try:
        machine.run("systemd-sysusers")
        machine.run("install", "-d", "/etc/wattkeeper")
        machine.run(
            _WATTKEEPER,
            "token",
            "proxy",
            "--out",
            "/etc/wattkeeper/relay.token",
            "--tokens-file",
            "/etc/wattkeeper/tokens.toml",
        )
        site = Site(machine, zone / "energy_uj")
        for unit in UNITS:
            site.configure(unit, "first")
        yield site
    finally:
        machine.close()


@pytest.fixture
def running(site: Site) -> Site:
    """Have both units up: `systemctl start` returns when they have said that they are ready."""
    site.machine.run("systemctl", "start", *UNITS)
    return site


def test_no_word_of_them_is_wrong(site: Site) -> None:
    """Also the programs that they name are there."""
    paths = [f"/etc/systemd/system/{unit}.service" for unit in (*UNITS, RELAY)]
    assert "" == site.machine.run("systemd-analyze", "verify", "--recursive-errors=yes", *paths)


@pytest.mark.parametrize("unit", UNITS)
def test_started_means_ready(running: Site, unit: str) -> None:
    """The ports answer as soon as the unit is active, without a second look."""
    port = 9745 if unit == AGENT else 9746
    assert running.machine.fetch(f"http://127.0.0.1:{port}/metrics")
    shown = running.machine.show(unit, "Type", "ActiveState", "WatchdogUSec")
    assert ("notify", "active") == (shown["Type"], shown["ActiveState"])


@pytest.mark.parametrize(("unit", "capabilities"), [(AGENT, (2, 19)), (AGGREGATOR, ())])
def test_they_have_no_power_but_what_is_told(
    running: Site, unit: str, capabilities: tuple[int, ...]
) -> None:
    """CAP_DAC_READ_SEARCH (2) and CAP_SYS_PTRACE (19) on the agent; nothing on the aggregator."""
    status = running.machine.run("cat", f"/proc/{running.main(unit)}/status")
    fields = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
    mask = f"{sum(1 << number for number in capabilities):016x}"
    assert [mask] * 3 == [fields[name] for name in ("CapEff", "CapPrm", "CapBnd")]
    assert ("1", "2") == (fields["NoNewPrivs"], fields["Seccomp"])
    assert (fields["Uid"] == "0") == (unit == AGENT)


@pytest.mark.parametrize("unit", UNITS)
def test_they_write_nowhere_but_in_their_folder(running: Site, unit: str) -> None:
    """A probe in the unit's own mounts and with its user: all but the data folder is read-only."""
    data = f"/var/lib/wattkeeper/{unit.removeprefix('wattkeeper-')}"
    into = ("nsenter", f"--target={running.main(unit)}", "--mount", "--")
    where = ("/etc", "/usr", "/var/lib", "/opt/wattkeeper", "/sys/fs/cgroup", "/srv/sys", data)
    probe = 'for d; do touch "$d/probe" 2>/dev/null && echo "$d" && rm "$d/probe"; done; :'
    assert data == running.machine.run(*into, "sh", "-c", probe, "sh", *where)


def test_killed_they_come_back_and_no_joule_is_lost(running: Site) -> None:
    """The counter goes on while nobody looks."""
    running.count(5_000_000)
    until("the agent's readings are in the books", running.booked_uj)
    for unit in UNITS:
        before = running.main(unit)
        running.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
        running.count(6_000_000)
        until(f"{unit} is back", lambda unit=unit, old=before: running.main(unit) not in {0, old})  # type: ignore[misc]
    running.machine.run("systemctl", "start", *UNITS)
    running.count(7_000_000)
    until("every joule is booked", lambda: running.booked_uj() == 6_999_000)


def test_a_program_that_hangs_is_ended(running: Site) -> None:
    """Without a sign of life for WatchdogSec, here 2 s, systemd starts it anew."""
    machine = running.machine
    dropin = f"/run/systemd/system/{AGENT}.service.d/test.conf"
    machine.write(
        dropin, "[Service]\nRestartSec=1s\nWatchdogSec=2s\nTimeoutStopSec=1s\nTimeoutAbortSec=1s\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", AGENT)
    before = running.main(AGENT)
    restarts = machine.show(AGENT, "NRestarts")
    machine.run("kill", "-STOP", str(before))
    until("it is started anew", lambda: running.main(AGENT) not in {0, before})
    assert restarts != machine.show(AGENT, "NRestarts")
    machine.run("rm", dropin)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", AGENT)


def test_tokens_change_without_a_restart(running: Site) -> None:
    """Both take the new one over; the log says so, in fields, and says what waits for a restart."""
    before = {unit: running.main(unit) for unit in UNITS}
    for unit in UNITS:
        running.configure(unit, "second")
        running.machine.run("systemctl", "reload", unit)
    url = "http://127.0.0.1:9745/metrics"

    def told(unit: str) -> list[dict[str, str]]:
        module = "wattkeeper.supervised.reload"
        return [record for record in running.said(unit) if record.get("LOGGER") == module]

    for unit in UNITS:
        (record, *_) = until(f"{unit} has reloaded", lambda unit=unit: told(unit) or None)  # type: ignore[misc]
        assert "6" == record["PRIORITY"]
        assert "token" in record["MESSAGE"]
        assert record["CODE_FUNC"] == "__call__"
    sent = 'wattkeeper_delivered_records_total{node="n1"} '

    def delivered() -> float:
        text = running.machine.fetch(url) or ""
        return float(text.partition(sent)[2].partition("\n")[0] or 0)

    was = delivered()
    until("records are taken with the new token", lambda: delivered() > was)
    assert before == {unit: running.main(unit) for unit in UNITS}


def test_stopped_they_have_ended_by_themselves(running: Site) -> None:
    """What was open is committed: no signal but SIGTERM, and exit code 0."""
    running.machine.run("systemctl", "stop", *reversed(UNITS))
    for unit in UNITS:
        command = ("journalctl", "--output=cat", "--lines=2", f"--unit={unit}")
        ended, stopped = running.machine.run(*command).splitlines()
        assert f"{unit}.service: Deactivated successfully." == ended
        assert stopped.startswith(f"Stopped {unit}.service")


def test_users_ask_through_the_relay(running: Site) -> None:
    """They are known behind its sandbox, and find its socket, which ends with the unit."""
    machine = running.machine
    machine.write("/etc/wattkeeper/relay.toml", _RELAY_TOML)
    machine.run("chown", "wattkeeper", "/etc/wattkeeper/relay.toml", "/etc/wattkeeper/relay.token")
    machine.run("systemctl", "start", RELAY)
    user = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    asked = (*user, "env", "HOME=/nonexistent", _WATTKEEPER)
    assert "no such job" in machine.run(*asked, "job", "7", check=False)
    assert "is for operator; you are user" in machine.run(*asked, "balance", check=False)
    status = machine.run("cat", f"/proc/{running.main(RELAY)}/status")
    assert "CapEff:\t0000000000000000" in status
    machine.run("systemctl", "stop", RELAY)
    assert "No such file" in machine.run("ls", "/run/wattkeeper", check=False)


def test_an_agent_needs_neither_systemd_nor_root(site: Site) -> None:
    """It writes in its data folder, into which its socket goes too, and nowhere else."""
    machine, folder = site.machine, "/srv/own"
    machine.run("install", "--directory", "--owner=nobody", folder)
    command = (
        "setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/nonexistent "
        "/opt/wattkeeper/bin/wattkeeper agent --config /dev/null --listen 127.0.0.1:9755 "
        f"--data-dir {folder}"
    )
    pid = machine.run("sh", "-c", f"{command} >/dev/null 2>&1 & echo $!")
    until("it serves", lambda: machine.fetch("http://127.0.0.1:9755/metrics"))
    machine.run("kill", pid)
    until("it has ended", lambda: not machine.run("ps", "-o", "stat=", "-p", pid, check=False))
    find = ("find", "/", "-xdev", "-user", "nobody", "-not", "-path")
    assert "" == machine.run(*find, f"{folder}*", "-not", "-path", "/srv/sys/*")
    assert "/srv/own/journal" in machine.run("find", folder)
