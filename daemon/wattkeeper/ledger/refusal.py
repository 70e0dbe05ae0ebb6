"""Why a delivery is not taken, in a form that the HTTP layer can answer."""

from typing import Literal

RefusalKind = Literal["fork", "two-live-journals", "two-live-meters", "invalid"]


class Refusal(Exception):  # noqa: N818 - a refusal is an answer to the agent, not a fault of ours
    """A delivery that the ledger does not take; nothing of it was booked.

    `kind`: `fork` (the agent must open a new journal), `two-live-journals` (another one of this
    node is live; the agent keeps its records and retries), `two-live-meters` (the same, of another
    node that reads the same counter), `invalid` (the field in `detail`).
    """

    def __init__(self, kind: RefusalKind, detail: str) -> None:
        super().__init__(detail)
        self.kind: RefusalKind = kind
        self.detail = detail
