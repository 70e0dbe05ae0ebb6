"""Which run of a workload a holder belongs to, told by lives that touch.

Holders of one manager and raw id on several nodes are one run if their lives overlap or lie within
a minute of each other; a later birth is another run (a requeued job, a reused number).
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.pending import Row
from wattkeeper.model.holder import MAX_LABEL, HolderInfo

LABELS = ("account", "partition", "namespace", "owner_kind", "owner_name", "array")
"""Labels of a holder that are columns of its workload."""
TOUCH_MS = 60_000
"""Lives within this of each other are one run: nodes start a job one after the other."""


def map_holders(
    connection: sa.Connection,
    new: Mapping[int, tuple[int, HolderInfo]],
    seen: Mapping[int, int],
) -> None:
    """Write new holders with their workloads, and until when each holder was seen."""
    clusters = _clusters(connection, {node for node, _ in new.values()})
    rows: list[Row] = []
    for number, (node, info) in sorted(new.items(), key=lambda item: item[1][1].birth_ms):
        end_ms = max(seen.get(number, 0), info.birth_ms)
        workload = _workload(connection, clusters[node], info, end_ms)
        rows.append((number, node, info.manager, info.raw_id, info.birth_ms, end_ms, workload))
    columns = "id node manager raw_id birth_ms seen_ms workload"
    bulk.insert(connection, schema.holder, columns, rows)
    _see(connection, [(at_ms, number) for number, at_ms in seen.items() if number not in new])


def find_run(
    connection: sa.Connection, cluster: str, manager: str, raw_id: str, start_ms: int, end_ms: int
) -> int | None:
    """Return the workload of that id whose life touches [start, end], the newest if several."""
    workload, holder = schema.workload.c, schema.holder.c
    lives = (
        sa.select(
            workload.id,
            workload.start_ms,
            workload.end_ms,
            sa.func.min(holder.birth_ms).label("born"),
            sa.func.max(holder.seen_ms).label("seen"),
        )
        .outerjoin(schema.holder, holder.workload == workload.id)
        .where(workload.cluster == cluster, workload.manager == manager, workload.raw_id == raw_id)
        .group_by(workload.id)
        .order_by(workload.id.desc())
    )
    for life in connection.execute(lives):
        begins = [at for at in (life.start_ms, life.born) if at is not None]
        ends = [at for at in (life.end_ms, life.seen, *begins) if at is not None]
        if not begins:
            continue
        if min(begins) - TOUCH_MS <= end_ms and start_ms <= max(ends) + TOUCH_MS:
            return int(life.id)
    return None


def new_run(connection: sa.Connection, values: Mapping[str, object], user: str, name: str) -> int:
    """Make a workload, with its names apart; return its id."""
    inserted = connection.execute(sa.insert(schema.workload).values(**values))
    key = inserted.inserted_primary_key
    if key is None:
        raise TypeError("a workload's id comes with its insertion")
    number = int(key[0])
    connection.execute(sa.insert(schema.identity).values(workload=number, user=user, name=name))
    return number


def _workload(connection: sa.Connection, cluster: str, info: HolderInfo, end_ms: int) -> int:
    raw_id, manager = info.raw_id[:MAX_LABEL], info.manager[:MAX_LABEL]
    labels = {key: text[:MAX_LABEL] for key, text in info.labels.items()}
    found = find_run(connection, cluster, manager, raw_id, info.birth_ms, end_ms)
    if found is not None:
        _add_labels(connection, found, labels)
        return found
    values = {
        "cluster": cluster,
        "manager": manager,
        "raw_id": raw_id,
        "job_id": labels.get("job_id", raw_id),
        **{name: labels[name] for name in LABELS if name in labels},
    }
    return new_run(connection, values, labels.get("user", ""), labels.get("name", ""))


def _add_labels(connection: sa.Connection, workload: int, labels: Mapping[str, str]) -> None:
    """Fill in what is not known yet: a holder may be seen before its names are."""
    of_workload = schema.workload.c.id == workload
    for table, where, names in (
        (schema.workload, of_workload, LABELS),
        (schema.identity, schema.identity.c.workload == workload, ("user", "name")),
    ):
        for name in names:
            if labels.get(name):
                empty = table.c[name] == ""
                change = sa.update(table).where(where, empty).values({name: labels[name]})
                connection.execute(change)
    if labels.get("job_id"):
        nameless = schema.workload.c.job_id == schema.workload.c.raw_id
        change = sa.update(schema.workload).where(of_workload, nameless)
        connection.execute(change.values(job_id=labels["job_id"]))


def _clusters(connection: sa.Connection, nodes: set[int]) -> dict[int, str]:
    if not nodes:
        return {}
    query = sa.select(schema.node.c.id, schema.node.c.cluster)
    return {row.id: row.cluster for row in connection.execute(query) if row.id in nodes}


def _see(connection: sa.Connection, rows: Sequence[Row]) -> None:
    holder = schema.holder
    new: sa.BindParameter[int] = sa.bindparam("at_ms")
    statement = (
        sa.update(holder)
        .where(holder.c.id == sa.bindparam("of_id"), holder.c.seen_ms < sa.bindparam("than_ms"))
        .values(seen_ms=new)
    )
    ordered = [(at_ms, number, at_ms) for at_ms, number in rows]
    bulk.execute(connection, statement, ["at_ms", "of_id", "than_ms"], ordered)
