"""Who may write: whoever shows the token, where one is set."""

import hmac

from aiohttp import web
from pydantic import SecretStr

from wattkeeper.aggregator.problem import ProblemError


class Access:
    """The one gate of everything that writes. `token` may change while it is in use."""

    def __init__(self, token: SecretStr | None) -> None:
        self.token = token

    def check(self, request: web.Request, advice: str) -> None:
        """Check that a request shows the token.

        Raises:
            ProblemError: it does not; `advice` says where the token belongs.

        """
        if self.token is None:
            return
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        wanted = self.token.get_secret_value().encode()
        given = shown.strip().encode(errors="replace")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, wanted):
            detail = f"this aggregator wants a token: {advice}"
            raise ProblemError(401, "unauthorized", detail, "Authorization")
