"""The thermometers of Intel and AMD processors among the hwmon chips."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import State
from wattkeeper.sources.files import UnreadableError, names, read_text

_LABEL = re.compile(r"temp(\d+)_label")
_SENSORS = {
    "coretemp": re.compile(r"Package id \d+"),
    "k10temp": re.compile(r"Tctl|Tccd\d+"),
}
_MILLIDEGREES = re.compile(r"-?[0-9]{1,6}")
_LEAST_MC, _MOST_MC = -50_000, 200_000


@dataclass(frozen=True, slots=True)
class Thermometer:
    """One temperature of one processor package. `sensor` is the driver's own label."""

    sensor: str
    file: Path

    @property
    def subject(self) -> str:
        """Name in findings."""
        return f"hwmon/{self.sensor}"

    def read(self) -> Gauge:
        """Return the temperature in degrees Celsius.

        Raises:
            UnreadableError: the file cannot be read or says nothing that a processor can have.

        """
        text = read_text(self.file)
        if not _MILLIDEGREES.fullmatch(text) or not _LEAST_MC <= int(text) <= _MOST_MC:
            reason = f"{self.file}: holds {text[:40]!r}, not a temperature in m°C"
            raise UnreadableError(State.FAILING, reason)
        return Gauge("cpu_temperature_celsius", (("sensor", self.sensor),), int(text) / 1000)


def thermometers(chips: Sequence[Path]) -> list[Thermometer]:
    """Return the package temperatures of coretemp and k10temp among hwmon folders, in order.

    k10temp labels carry no socket: on a machine with several, `Tctl` becomes `Tctl/0`, `Tctl/1`
    in the order of the chips.
    """
    found: list[tuple[str, int, Path]] = []
    seen: dict[str, int] = {}
    for chip in chips:
        for label, file in _labelled(chip):
            found.append((label, seen.get(label, 0), file))
            seen[label] = seen.get(label, 0) + 1
    return [
        Thermometer(label if seen[label] == 1 else f"{label}/{place}", file)
        for label, place, file in found
    ]


def _labelled(chip: Path) -> list[tuple[str, Path]]:
    try:
        wanted = _SENSORS.get(read_text(chip / "name"))
        entries = names(chip) if wanted else []
    except UnreadableError:
        return []  # a chip that does not say its name is none of ours
    found = []
    for match in filter(None, map(_LABEL.fullmatch, entries)):
        try:
            label = read_text(chip / match[0])
        except UnreadableError:
            continue
        if wanted and wanted.fullmatch(label):
            found.append((label, chip / f"temp{match[1]}_input"))
    return found
