"""What the ledger found, as the API tells it."""

from wattkeeper.aggregator import answers
from wattkeeper.aggregator.job_worth import JobWorth
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.worth_views import factors, valued
from wattkeeper.ledger.queries.accuracy import grade_of
from wattkeeper.ledger.queries.balance import Balance, MeterBalance
from wattkeeper.ledger.queries.expected import MissingNode
from wattkeeper.ledger.queries.job import Job
from wattkeeper.model.microjoules import kwh


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def job(found: Job, own: JobWorth | None = None) -> answers.Job:
    """Return a job; what is not known is null. `own`: what it is worth, None in lists."""
    own = own or JobWorth()
    return answers.Job(
        cluster=found.cluster,
        job_id=found.job_id,
        run=found.run,
        runs=found.runs,
        manager=found.manager,
        user=found.user or None,
        account=found.account or None,
        partition=found.partition or None,
        namespace=found.namespace or None,
        owner_kind=found.owner_kind or None,
        owner_name=found.owner_name or None,
        array=found.array or None,
        name=found.name or None,
        state=found.state or None,
        start=_instant(found.start_ms),
        end=_instant(found.end_ms),
        nodes=found.nodes,
        energy_uj=found.energy_uj,
        energy_kwh=kwh(found.energy_uj),
        energy_by_component_uj=found.energy_by_component_uj,
        energy_by_source_uj=found.energy_by_source_uj,
        energy_by_split_uj=found.energy_by_split_uj,
        allocated_idle_uj=found.allocated_idle_uj,
        allocated_idle_kwh=kwh(found.allocated_idle_uj),
        mean_watts=found.mean_watts,
        peak_watts=found.peak_watts,
        gpu_seconds=found.gpu_seconds,
        allocated_idle_gpu_seconds=found.allocated_idle_gpu_seconds,
        coverage=found.coverage,
        as_of=_instant(found.as_of_ms),
        final=found.final,
        energy_by_accuracy_uj=found.energy_by_grade_uj,
        accuracy=grade_of(found.energy_by_grade_uj),
        hardware=[
            answers.Hardware(component=one.component, model=one.model or None, count=one.count)
            for one in own.hardware
        ],
        currency=own.currency,
        factors=factors(own.factors),
        **valued(own.worth),
    )


def balance(found: Balance, now_ms: int) -> answers.Balance:
    """Return a balance with its meters."""
    return answers.Balance(
        since=rfc3339(found.since_ms),
        until=rfc3339(found.until_ms),
        as_of=rfc3339(now_ms),
        balanced=found.balanced,
        coverage=found.coverage,
        expected_seconds=found.expected_seconds,
        residual_uj=found.residual_uj,
        energy_uj=found.total_uj,
        meters=[_meter(meter) for meter in found.meters],
        missing_nodes=[_missing(node) for node in found.missing_nodes],
        problems=found.problems,
    )


def _missing(node: MissingNode) -> answers.MissingNode:
    return answers.MissingNode(
        cluster=node.cluster,
        node=node.node,
        scheduler_state=node.state,
        gpus=node.gpus,
        metered_gpus=node.metered_gpus,
        expected_seconds=node.expected_seconds,
        covered_seconds=node.covered_seconds,
    )


def _meter(meter: MeterBalance) -> answers.MeterBalance:
    return answers.MeterBalance(
        node=meter.node,
        meter=meter.meter,
        measured_uj=meter.measured_uj,
        open_uj=meter.open_uj,
        workload_uj=meter.workload_uj,
        idle_uj=meter.idle_uj,
        system_uj=meter.system_uj,
        overhead_uj=meter.overhead_uj,
        gap_uj=meter.gap_uj,
        components_uj=meter.components_uj,
        residual_uj=meter.residual_uj,
        covered_seconds=meter.covered_seconds,
        unmeasured_seconds=meter.unmeasured_seconds,
        problems=meter.problems,
    )
