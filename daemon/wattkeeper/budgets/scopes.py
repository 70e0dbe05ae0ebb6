"""Which budgets something counts in: a node with all that it draws, a workload with its part."""

from collections.abc import Mapping, Sequence

from wattkeeper.budgets.budget import Budget, Scope, ScopeKind
from wattkeeper.ledger.queries.whose import Whose

_OF_WORKLOADS = (ScopeKind.PARTITION, ScopeKind.ACCOUNT, ScopeKind.USER, ScopeKind.JOB)


class Scopes:
    """The budgets by their numbers. `groups`: by kind the group of each node that is in one."""

    def __init__(
        self, budgets: Sequence[Budget], groups: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._groups = groups or {}
        self._scopes = [budget.scope for budget in budgets]
        self._all: list[int] = []
        self._nodes: dict[str, list[int]] = {}
        self._of_groups: dict[str, dict[str, list[int]]] = {}
        self._named: dict[ScopeKind, dict[str, list[int]]] = {kind: {} for kind in _OF_WORKLOADS}
        for number, scope in enumerate(self._scopes):
            self._enter(number, scope)

    def _enter(self, number: int, scope: Scope) -> None:
        if scope.kind is ScopeKind.FLEET:
            self._all.append(number)
        elif scope.kind is ScopeKind.NODE:
            self._nodes.setdefault(scope.name, []).append(number)
        elif scope.kind is ScopeKind.GROUP:
            self._of_groups.setdefault(scope.group, {}).setdefault(scope.name, []).append(number)
        else:
            self._named[scope.kind].setdefault(scope.name, []).append(number)

    @property
    def any_workload(self) -> bool:
        """Whether a budget is of workloads."""
        return any(self._named.values())

    @property
    def jobs(self) -> list[str]:
        """The jobs that have a budget of their own."""
        return sorted(self._named[ScopeKind.JOB])

    def of_node(self, cluster: str, node: str) -> list[int]:
        """Return the budgets that a node counts in."""
        found = [*self._all, *self._nodes.get(node, ())]
        for kind, by_name in self._of_groups.items():
            found += by_name.get(self._groups.get(kind, {}).get(node, ""), ())
        return self._within(found, cluster)

    def of_workload(self, whose: Whose) -> list[int]:
        """Return the budgets that a workload counts in."""
        named = self._named
        found = [
            *named[ScopeKind.PARTITION].get(whose.partition, ()),
            *named[ScopeKind.ACCOUNT].get(whose.account, ()),
            *named[ScopeKind.USER].get(whose.user, ()),
            *named[ScopeKind.JOB].get(whose.job, ()),
        ]
        return self._within(found, whose.cluster)

    def _within(self, found: list[int], cluster: str) -> list[int]:
        return [one for one in found if self._scopes[one].cluster in ("", cluster)]
