"""The demonstration in containers, as far as it can be checked without any."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from wattkeeper.cli.demo import Demo

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/compose/compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROVISIONING = ROOT / "grafana/provisioning"
PROMETHEUS = (ROOT / "deploy/prometheus/prometheus.yml").read_text()


def _mounts() -> dict[str, Path]:
    """Return what is mounted: places in containers with the files of the repository."""
    found = {}
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            found[target] = (FILE.parent / source).resolve()
    return found


def test_what_is_mounted_is_there() -> None:
    """Every file and folder, inside the repository."""
    for path in _mounts().values():
        assert path.exists()
        assert path.is_relative_to(ROOT)


def test_services_refer_to_each_other() -> None:
    """Images have versions; networks and dependencies are services."""
    assert set(COMPOSE) == {"name", "services"}
    for name, service in SERVICES.items():
        if name != "wattkeeper":
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
            assert service["network_mode"] == "service:wattkeeper"
        assert set(service.get("depends_on", ())) <= set(SERVICES) - {name}
    assert set(SERVICES) == {"wattkeeper", "prometheus", "alertmanager", "grafana"}


def test_command_is_one_of_ours() -> None:
    """`wattkeeper demo` knows every flag, and what is scraped is where Prometheus looks."""
    command, *flags = shlex.split(SERVICES["wattkeeper"]["command"])
    assert command == "demo"
    pairs = dict(zip(flags[::2], flags[1::2], strict=True))
    demo = Demo(**{name.removeprefix("--").replace("-", "_"): v for name, v in pairs.items()})
    assert demo.speed == 1
    port = demo.listen.rpartition(":")[2]
    assert f"http://localhost:{port}/v1/prometheus/targets" in PROMETHEUS
    assert f'targets: ["localhost:{port}"]' in PROMETHEUS


def test_image_is_the_one_of_the_repository() -> None:
    """Built from its Dockerfile, which needs a wheelhouse: the file says so."""
    service = SERVICES["wattkeeper"]
    context = (FILE.parent / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / "Dockerfile").is_file()
    assert "start.py wheelhouse build/wheelhouse" in FILE.read_text()
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert service["image"] == f"wattkeeper:{about['version']}"


def test_grafana_finds_source_and_dashboards() -> None:
    """Provisioning points to where Prometheus answers and dashboards are mounted."""
    mounts = _mounts()
    assert mounts["/etc/grafana/provisioning"] == PROVISIONING
    (source,) = yaml.safe_load((PROVISIONING / "datasources/wattkeeper.yml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://localhost:9090")
    scrapes = yaml.safe_load(PROMETHEUS)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrapes
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/wattkeeper.yml").read_text())[
        "providers"
    ]
    folder = mounts[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    shown = json.loads((folder / Path(home).name).read_text())
    assert shown["uid"] == "wattkeeper-fleet"
