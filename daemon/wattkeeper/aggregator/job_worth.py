"""What a job cost and emitted, by the factors of when it used its energy."""

from dataclasses import dataclass

from wattkeeper.aggregator.pricing import FactorUsed, Pricing
from wattkeeper.factors.worth import Worth, worth
from wattkeeper.ledger.queries.job import Job
from wattkeeper.ledger.queries.job_detail import Hardware, job_energy, job_hardware, job_span
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import ceil, floor

NOTHING = Worth(None, None, None, None)


@dataclass(frozen=True, slots=True)
class JobWorth:
    """`factors` are those of the job's life. `currency` is None without a price."""

    worth: Worth = NOTHING
    currency: str | None = None
    factors: tuple[FactorUsed, ...] = ()
    hardware: tuple[Hardware, ...] = ()


def value_job(ledger: Ledger, pricing: Pricing, found: Job) -> JobWorth:
    """Return what a job is worth. Blocks."""
    span = job_span(ledger, found.id)
    if span is None:
        return JobWorth()
    priced = pricing.at(*span)
    energy = job_energy(ledger, found.id, span, priced.lines)
    _, whole = worth([priced.valuation.amount(energy)], priced.valuation)
    begin = span[0] if found.start_ms is None else max(span[0], found.start_ms)
    life = floor(begin, ledger.slot_ms), ceil(max(span[1], begin + 1), ledger.slot_ms)
    return JobWorth(
        whole, priced.currency, pricing.at(*life).factors, tuple(job_hardware(ledger, found.id))
    )
