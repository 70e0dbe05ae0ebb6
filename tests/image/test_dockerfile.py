"""The image as far as it can be checked without building it, which tests/image/run.sh does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.chart.chart import rendered

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of Dockerfiles, with all its rules."""
    linter = Path(sys.prefix) / "bin/hadolint"
    done = subprocess.run(
        [linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_of_this_version_and_license() -> None:
    """Labels say what the package says."""
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', TEXT))
    assert (labels["version"], labels["licenses"]) == (package["version"], package["license"])
    extras = re.findall(r"^ARG EXTRAS=(.*)$", TEXT, re.MULTILINE)
    assert set(extras[0].split(",")) <= package["optional-dependencies"].keys()


def test_the_chart_knows_its_user_its_ports_and_its_folder() -> None:
    """What the image says the chart says."""
    pod = rendered()["StatefulSet", "wattkeeper-aggregator"]["spec"]["template"]["spec"]
    number = str(pod["securityContext"]["runAsUser"])
    assert f"USER {number}:{number}\n" in TEXT
    (container,) = pod["containers"]
    ports = re.search(r"^EXPOSE (.*)$", TEXT, re.MULTILINE)
    assert ports is not None
    assert str(container["ports"][0]["containerPort"]) in ports[1].split()
    folder = next(each for each in container["volumeMounts"] if each["name"] == "data")
    assert f"VOLUME {folder['mountPath']}\n" in TEXT
    assert container["args"] == ["aggregator"]


def test_only_wheels_go_in() -> None:
    """Nothing else of the checkout reaches the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!build/wheelhouse"]
    copied = re.findall(r"^COPY (?!--from)(\S+)", TEXT, re.MULTILINE)
    assert copied == ["build/wheelhouse"]
