"""Hints on Slurm's configuration, on what real Slurm says of itself."""

import os
from pathlib import Path

import pytest

from wattkeeper.agent import slurm_doctor
from wattkeeper.agent.slurm_advice import advise, parse, read_scripts
from wattkeeper.model.state import State

FIXTURES = Path(__file__).parents[1] / "fixtures/slurm"
MARKING = "#!/bin/sh\nwattkeeper mark start\n"


def config(version: str, **instead: str) -> dict[str, list[str]]:
    """Return a captured configuration with other values; an empty one unsets the key."""
    text = (FIXTURES / version / "scontrol_show_config.txt").read_text()
    found = parse(text)
    return found | {key: [value] if value else [] for key, value in instead.items()}


def hints(found: dict[str, list[str]], script: str | None = MARKING) -> list[str]:
    """Return the subjects of all hints."""
    return [
        finding.subject.removeprefix("slurm/")
        for finding in advise(found, lambda _: script)
        if finding.state is not State.OK
    ]


@pytest.mark.parametrize("version", ["22.05", "26.05"])
def test_a_good_configuration(version: str) -> None:
    """Both forms, numbered keys and plain ones."""
    found = config(version)
    assert ["/cluster/scripts/prolog"] == found["Prolog"]
    assert [] == hints(found)
    assert [State.OK] == [finding.state for finding in advise(found, lambda _: MARKING)]


@pytest.mark.parametrize(
    ("instead", "expected"),
    [
        ({"Prolog": ""}, ["prolog"]),
        ({"Prolog": "", "Epilog": "", "PrologFlags": ""}, ["prolog", "epilog"]),
        ({"PrologFlags": ""}, ["prolog_flags"]),
        ({"PrologFlags": "Contain,X11"}, []),
        ({"PrologFlags": "RunInJob"}, []),
        ({"ProctrackType": "proctrack/linuxproc"}, ["proctrack"]),
        ({"CgroupPlugin": "disabled"}, ["cgroup_plugin"]),
        ({"ConstrainDevices": "no"}, ["constrain_devices"]),
        ({"TaskPlugin": "task/affinity"}, ["constrain_devices"]),
        ({"TaskPlugin": "task/affinity,task/cgroup"}, []),
        ({"ConstrainDevices": "no", "GresTypes": ""}, []),
        ({"JobAcctGatherType": "jobacct_gather/linux"}, ["jobacct_gather"]),
    ],
)
def test_what_makes_figures_worse(instead: dict[str, str], expected: list[str]) -> None:
    """Each hint says what to do, and only where it matters."""
    found = config("22.05", **instead)
    assert expected == hints(found)
    assert all(finding.fix for finding in advise(found, lambda _: MARKING) if expected)


def test_scripts_without_a_mark() -> None:
    """Both are told; scripts that are not on this machine are not judged."""
    assert ["prolog", "epilog"] == hints(config("22.05"), "#!/bin/sh\n")
    assert [] == hints(config("22.05"), None)


def test_reading_scripts(tmp_path: Path) -> None:
    """A pattern names several; what cannot be read is left out."""
    assert read_scripts(str(tmp_path / "*.sh")) is None
    (tmp_path / "10.sh").write_text("one")
    (tmp_path / "20.sh").write_text("wattkeeper mark start")
    (tmp_path / "30.sh").mkdir()
    assert "one\nwattkeeper mark start" == read_scripts(str(tmp_path / "*.sh"))


async def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is asked where its commands are not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = await slurm_doctor.findings("n1")
    assert ("scheduler", State.ABSENT) == (finding.subject, finding.state)


async def test_asking_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it does not know fails; its configuration is judged all the same."""
    script = tmp_path / "scontrol"
    capture = FIXTURES / "22.05/scontrol_show_config.txt"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in "show config") cat {capture};; "show node n1") echo fine;; '
        '"show node n9") echo "Node n9 not found"; exit 1;; '
        '*) echo "error: no host"; exit 1;; esac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    known = {finding.subject: finding.state for finding in await slurm_doctor.findings("n1")}
    assert {"scheduler": State.OK, "slurm": State.OK} == known
    found = await slurm_doctor.findings("n9")
    assert (State.FAILING, True) == (found[0].state, "Node n9 not found" in found[0].detail)
    found = await slurm_doctor.findings("n8")
    assert (State.STALE, True) == (found[0].state, "error: no host" in found[0].detail)
