"""Who asks."""

from dataclasses import dataclass

from wattkeeper.aggregator.access.roles import Role
from wattkeeper.ledger.queries.scope import Scope


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of one cluster; `names` is None for all of them."""

    cluster: str
    names: frozenset[str] | None

    def has(self, cluster: str, node: str) -> bool:
        """Tell whether a node is one of them."""
        return cluster == self.cluster and (self.names is None or node in self.names)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a user by name, or the name of a token. `accounts`: those that are managed.

    `proven`: there was a token, a peer or a proxy that says so. `delivers`: the nodes that an agent
    speaks for; None is any.
    """

    role: Role
    name: str = ""
    accounts: frozenset[str] = frozenset()
    proven: bool = False
    delivers: Nodes | None = None

    @property
    def scope(self) -> Scope | None:
        """Whose jobs are told; None is everybody's."""
        if self.role is Role.OPERATOR:
            return None
        user = self.name if self.role in (Role.USER, Role.MANAGER) else ""
        return Scope(user, self.accounts)
