"""People in what budgets keep: who drew most when a level was reached."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.erasing import without

_PEOPLE = ("user", "job")
"""Kinds of those who drew most that are people, or called by them."""

_breach, _state = schema.breach, schema.budget_state


def forget_in_breaches(connection: sa.Connection, user: str, called: str) -> int:
    """Call a person something else in what budgets keep; return in how many breaches."""
    rename = partial(_renamed, user=user, called=called)
    _change(connection, _state.c.budget, _state.c.body, rename, sa.true())
    return _change(connection, _breach.c.id, _breach.c.detail, rename, sa.true())


def thin_breaches(connection: sa.Connection, before_ms: int) -> int:
    """Drop people and jobs from breaches that ended before an instant; return from how many."""
    ended = _breach.c.to_ms < before_ms
    return _change(connection, _breach.c.id, _breach.c.detail, _without_people, ended)


def _change(
    connection: sa.Connection,
    key: "sa.ColumnElement[Any]",
    text: "sa.ColumnElement[str]",
    change: Callable[[Any], Any],
    where: "sa.ColumnElement[bool]",
) -> int:
    """Change the JSON of rows; return how many are not as they were."""
    count = 0
    table = sa.inspect(text).table
    for row in connection.execute(sa.select(key, text).where(where)).all():
        told = json.loads(row[1] or "{}")
        changed = change(told)
        if changed != told:
            body = json.dumps(changed, separators=(",", ":"), ensure_ascii=False)
            connection.execute(sa.update(table).where(key == row[0]).values({text.name: body}))
            count += 1
    return count


def _renamed(told: Any, *, user: str, called: str) -> Any:
    """Return the same with a user called something else in every text."""
    if isinstance(told, dict):
        # A kind is a word of ours, also where somebody is called so.
        return {
            key: one if key == "kind" else _renamed(one, user=user, called=called)
            for key, one in told.items()
        }
    if isinstance(told, list):
        return [_renamed(one, user=user, called=called) for one in told]
    return without(told, user, called) if isinstance(told, str) else told


def _without_people(told: Any) -> Any:
    top = [one for one in told.get("top", ()) if one.get("kind") not in _PEOPLE]
    return told | {"top": top} if "top" in told else told
