"""The limits that alerts have, for the colours of panels."""

import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]

_FILE = Path(__file__).parents[1] / "deploy/prometheus/rules/thresholds.yml"


def _read() -> dict[str, float]:
    (group,) = yaml.safe_load(_FILE.read_text(encoding="utf-8"))["groups"]
    found = {}
    for rule in group["rules"]:
        number = re.fullmatch(r"vector\((.+)\)", rule["expr"])
        if number is None:
            raise ValueError(f"{_FILE}: {rule['record']} is no vector(NUMBER)")
        found[rule["record"].removeprefix("wattkeeper:threshold:")] = float(number[1])
    return found


LIMITS = _read()
