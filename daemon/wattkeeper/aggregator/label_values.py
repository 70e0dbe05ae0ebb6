"""Values of labels that come from people: cut, made printable, and no more than are bearable."""

from collections.abc import Sequence

from wattkeeper.ledger.exported import AccountTotal
from wattkeeper.model.holder import MAX_LABEL

OTHER = "other"
"""All accounts beyond the cap together."""


def cut(value: str) -> str:
    """Return a label's value in printable characters, and not longer than MAX_LABEL."""
    if len(value) > MAX_LABEL:
        value = f"{value[: MAX_LABEL - 1]}…"
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else " " for char in value)


class AccountNames:
    """Which accounts have a name in `/metrics`: none by `identity`, else the first `most`.

    The first ones that came, not the greatest: an account that moved from the rest into a series
    of its own would let the rest's total fall.
    """

    def __init__(self, identity: str, most: int) -> None:
        self._nameless = identity == "none"
        self._most = most
        self._own: set[str] = set()
        self._full = False

    def learn(self, accounts: Sequence[AccountTotal]) -> None:
        """Take the accounts that there are."""
        self._own = {one.account for one in accounts if one.number <= self._most}
        self._full = len(accounts) >= self._most

    def of(self, total: AccountTotal) -> str:
        """Return the name that a total is exported under."""
        if self._nameless:
            return ""
        return cut(total.account) if total.number <= self._most else OTHER

    def now(self, account: str) -> str:
        """Return the name that a figure of now is exported under; it has no cluster."""
        if self._nameless:
            return ""
        if self._full and account not in self._own:
            return OTHER
        return cut(account)
