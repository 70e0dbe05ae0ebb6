"""Whose jobs a question is about."""

from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import schema


@dataclass(frozen=True, slots=True)
class Scope:
    """The jobs of a user and those of some accounts. Where a question has None, it is everybody's.

    Jobs of which the user or the account is not known are nobody's.
    """

    user: str = ""
    accounts: frozenset[str] = frozenset()

    def where(self) -> "sa.ColumnElement[bool]":
        """Return the condition; the statement has `workload` and `identity` joined."""
        user, account = schema.identity.c.user, schema.workload.c.account
        own = sa.and_(user == self.user, user != "")
        return sa.or_(own, sa.and_(account.in_(sorted(self.accounts)), account != ""))


def conditions(scope: Scope | None) -> "list[sa.ColumnElement[bool]]":
    """Return what a statement has to be restricted by; nothing where it is everybody's."""
    return [] if scope is None else [scope.where()]
