"""Prometheus' text format 0.0.4, as an agent writes it once a second for the same few series.

prometheus_client checks every label of every sample anew, which took a third of the CPU time of
an agent with eight GPUs that is scraped once a second; here a series is put into words once.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_SERIES: Final = 8192
"""Series kept in words; jobs come and go, so there is an end to it."""


def heading(name: str, help_text: str) -> str:
    """Return the two comment lines of a family; a `_total` is a counter, the rest are gauges."""
    kind = "counter" if name.endswith("_total") else "gauge"
    text = help_text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return the line of a sample."""
    number = float(value)
    shown = repr(number) if math.isfinite(number) else _NOT_FINITE[repr(number)]
    return f"{_series(name, tuple(labels.items()))} {shown}\n"


_NOT_FINITE: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


@lru_cache(_SERIES)
def _series(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return name
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels))
    return f"{name}{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
