"""`wattkeeper doctor`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wattkeeper.agent.config import AgentSettings
from wattkeeper.cli.client import ask
from wattkeeper.cli.command import CommandError
from wattkeeper.cli.output import Format, clean, console, emit_csv, emit_json, table, watts
from wattkeeper.flags import ConfigError
from wattkeeper.model.state import Finding, State
from wattkeeper.settings import load

if TYPE_CHECKING:
    from wattkeeper.agent.diagnosis import Diagnosis

_PATIENCE_S = 5.0
_BAD = frozenset({State.DENIED, State.FAILING})
_COLORS = {
    State.OK: "green", State.ABSENT: "bright_black", State.STALE: "yellow",
    State.DENIED: "red", State.FAILING: "red",
}  # fmt: skip


class DoctorSettings(AgentSettings):
    """Show what is seen on this machine, what is not, why, and what to do about it.

    Takes the agent's configuration, reads every sensor twice, and leaves the journal alone. If
    an aggregator answers (aggregator.url, else this machine's), how it is stands below.
    Exit code 1 if something is denied or failing; what is merely absent is fine.

    Examples:
      wattkeeper doctor
      wattkeeper doctor --format json
      wattkeeper doctor --path.sysfs /host/sys --path.procfs /host/proc
    """

    format: Format = "table"


@dataclass(frozen=True, slots=True)
class Doctor:
    """What is seen here, what is not, and what to do."""

    settings: DoctorSettings

    @classmethod
    def parse(cls, args: Sequence[str], program: str) -> "Doctor":
        """Read the agent's configuration, and flags of our own."""
        return cls(load(DoctorSettings, program="agent", cli_args=args, command=program))

    def run(self) -> int:
        """Look, print, and say whether all is well."""
        from wattkeeper.agent.diagnosis import diagnose

        found = asyncio.run(diagnose(self.settings))
        found = replace(found, findings=(*found.findings, *_centre(self.settings)))
        if self.settings.format == "json":
            emit_json({"findings": _findings(found), "meters": _meters(found)})
        elif self.settings.format == "csv":
            emit_csv(_findings(found), ("subject", "state", "detail", "fix"))
        else:
            _print(found)
        return 1 if any(finding.state in _BAD for finding in found.findings) else 0


def _centre(settings: AgentSettings) -> list[Finding]:
    """Return how the aggregator is; none if it does not answer, which `delivery` says already."""
    from wattkeeper.agent.build import certificates

    url = settings.aggregator.url
    try:
        answer = ask(
            None if url is None else str(url),
            "/v1/findings",
            patience_s=_PATIENCE_S,
            certificates=None if url is None else certificates(settings),
        )
    except (CommandError, ConfigError):
        return []
    return [
        Finding(f"aggregator/{one['subject']}", State(one["state"]), one["detail"], one["fix"])
        for one in answer["findings"]
    ]


def _findings(found: "Diagnosis") -> list[dict[str, Any]]:
    return [
        {"subject": f.subject, "state": f.state.value, "detail": f.detail, "fix": f.fix}
        for f in found.findings
    ]


def _meters(found: "Diagnosis") -> list[dict[str, Any]]:
    return [
        {
            "meter": seen.spec.info.name,
            "source": seen.spec.info.source,
            "method": seen.spec.method.name.lower(),
            "watts": seen.watts,
            "labels": seen.spec.info.labels,
        }
        for seen in found.meters
    ]


def _print(found: "Diagnosis") -> None:
    out = console()
    for finding in found.findings:
        color = _COLORS.get(finding.state, "yellow")
        out.print(
            f"[{color}]{finding.state:<11}[/] [bold]{clean(finding.subject)}[/]", highlight=False
        )
        out.print(f"            {clean(finding.detail)}", markup=False, soft_wrap=True)
        if finding.fix:
            out.print(f"            → {clean(finding.fix)}", markup=False, soft_wrap=True)
    if not found.meters:
        out.print("\nNo power meter is seen on this machine.")
        return
    rows = [
        [m["meter"], m["source"], m["method"], watts(m["watts"]), m["labels"].get("model", "")]
        for m in _meters(found)
    ]
    out.print(table(["meter", "<source", "<energy by", "power", "<model"], rows))
