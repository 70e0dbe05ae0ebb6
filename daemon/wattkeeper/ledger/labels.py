"""Labels of workloads: QOS, wckey, comment, chosen pod labels. Bounded: users write them."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.runs import Run
from wattkeeper.model.holder import MAX_LABEL

MAX_LABELS = 16
"""Labels kept of one workload, the first by key."""
MAX_KEY = 64
"""Characters of a label's key; labels with longer ones are not kept."""
_CHUNK = 500


def clean(text: str) -> str:
    """Return a text cut to MAX_LABEL, with control characters and broken ones replaced."""
    if len(text) <= MAX_LABEL and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_LABEL])


def bounded(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of a workload's labels; empty ones are not known."""
    keys = sorted(key for key in labels if key and len(key) <= MAX_KEY and key.isprintable())
    kept = {key: clean(labels[key]) for key in keys if labels[key]}
    return dict(list(kept.items())[:MAX_LABELS])


def read(connection: sa.Connection, runs: Sequence[Run]) -> None:
    """Give runs the labels that the ledger has of them."""
    by_id = {run.id: run for run in runs if run.id}
    ids = sorted(by_id)
    label = schema.label.c
    for begin in range(0, len(ids), _CHUNK):
        mine = label.workload.in_(ids[begin : begin + _CHUNK])
        for row in connection.execute(sa.select(schema.label).where(mine)):
            by_id[row.workload].labels[row.key] = row.value


def write(connection: sa.Connection, runs: Sequence[Run]) -> None:
    """Replace the labels of runs, which have their ids."""
    workload = schema.label.c.workload
    statement = sa.delete(schema.label).where(workload == sa.bindparam("of_id"))
    bulk.execute(connection, statement, ["of_id"], [(run.id,) for run in runs])
    rows = [(run.id, key, value) for run in runs for key, value in sorted(run.labels.items())]
    bulk.insert(connection, schema.label, "workload key value", rows)
