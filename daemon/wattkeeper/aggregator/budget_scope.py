"""Which budgets somebody sees, and who is named in them."""

from collections.abc import Iterable, Mapping

from wattkeeper.aggregator.budget_answers import Budget as Answer
from wattkeeper.aggregator.budget_answers import BudgetContributor
from wattkeeper.budgets.budget import Budget, ScopeKind
from wattkeeper.budgets.status import Status
from wattkeeper.ledger.queries.scope import Scope


def seen(found: Iterable[Status], budgets: Iterable[Budget], scope: Scope | None) -> list[Status]:
    """Return the budgets of the fleet, and those of the scope's own user and accounts."""
    if scope is None:
        return list(found)
    shown = {one.name for one in budgets if _own(one, scope) or one.scope.kind is ScopeKind.FLEET}
    return [one for one in found if one.name in shown]


def told(answers: list[Answer], budgets: Iterable[Budget], scope: Scope | None) -> list[Answer]:
    """Return them without the names of others, and of budgets that are not seen."""
    if scope is None:
        return answers
    known = {one.name: one for one in budgets}
    shown = {one.name for one in answers}
    return [_told(one, known, shown, scope) for one in answers]


def _told(one: Answer, known: Mapping[str, Budget], shown: set[str], scope: Scope) -> Answer:
    above = known[one.name].parent
    while above and above not in shown:
        above = known[above].parent
    changed: dict[str, object] = {"inside": above or None}
    if not _own(known[one.name], scope):
        changed["contributors"] = _named(one.contributors, scope)
        changed["history"] = [
            breach.model_copy(update={"contributors": _named(breach.contributors, scope)})
            for breach in one.history
        ]
    return one.model_copy(update=changed)


def _own(budget: Budget, scope: Scope) -> bool:
    kind, name = budget.scope.kind, budget.scope.name
    if kind is ScopeKind.USER:
        return bool(name) and name == scope.user
    return kind is ScopeKind.ACCOUNT and bool(name) and name in scope.accounts


def _named(found: Iterable[BudgetContributor], scope: Scope) -> list[BudgetContributor]:
    return [
        one
        for one in found
        if one.kind == "node"
        or (one.kind == "user" and one.name == scope.user)
        or (one.kind == "account" and one.name in scope.accounts)
    ]
