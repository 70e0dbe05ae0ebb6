"""Who a request is from: a token, a proxy that is trusted, a unix socket's peer, or nobody."""

import hmac
import ipaddress
import os
from collections.abc import Callable, Iterable

from aiohttp import web
from pydantic import SecretStr

from wattkeeper.aggregator.access.caller import Caller, Nodes
from wattkeeper.aggregator.access.config import AccessSection, is_loopback
from wattkeeper.aggregator.access.known_tokens import KnownTokens
from wattkeeper.aggregator.access.roles import Role
from wattkeeper.aggregator.access.tokens import AgentToken, ProxyToken, Token
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.listening.peers import Accounts, uid_of

_ANONYMOUS = {
    "operator": Caller(Role.OPERATOR),
    "public": Caller(Role.PUBLIC),
    "none": Caller(Role.NOBODY),
}
_RANKS = (Role.USER, Role.MANAGER, Role.OPERATOR)
_SHARED = Caller(Role.SHARED, "token", proven=True)


class Callers:
    """Tells who a request is from. `shared`, which agents share, may change while it is in use.

    What comes first counts: a header of a trusted proxy, a token, the peer of a unix socket. A
    token that is not known is an error, and never somebody else's question. The shared one is for
    writing, and says nothing of who reads.
    """

    def __init__(
        self,
        settings: AccessSection,
        listen: str,
        shared: SecretStr | None,
        tokens: KnownTokens,
        now_ms: Callable[[], int],
    ) -> None:
        self.shared = shared
        self._settings = settings
        self._tokens = tokens
        self._now_ms = now_ms
        self._accounts = Accounts()
        self._proxies = [ipaddress.ip_network(one, strict=False) for one in settings.proxy_from]
        self._anonymous = _ANONYMOUS[settings.anonymous_at(listen)]
        self._own_uids = {0, os.geteuid()}

    def __str__(self) -> str:
        told = {
            Role.OPERATOR: "everything",
            Role.PUBLIC: "the fleet's totals",
            Role.NOBODY: "nothing",
        }
        return f"who proves nothing is told {told[self._anonymous.role]} (access.anonymous)"

    @property
    def open(self) -> bool:
        """True while there is no way to prove who may write: then anybody may."""
        return self.shared is None and self._settings.tokens_file is None

    def close(self) -> None:
        """Look nobody up any more."""
        self._accounts.close()

    async def caller(self, request: web.Request) -> Caller:
        """Return who asks.

        Raises:
            ProblemError: a token that does not count, a proxy that does not say for whom, or a
                directory service that does not answer.

        """
        from_proxy = self._trusted(request.remote) and self._user(request)
        if from_proxy:
            return self._named(from_proxy, self._groups(request))
        shown = _token(request)
        if shown and self._is_shared(shown):
            if request.method == "POST":
                return _SHARED
        elif shown:
            return self._shows(shown, request)
        uid = uid_of(request.transport)
        if uid is None:
            return self._nobody(request)
        if uid in self._own_uids:
            return Caller(Role.OPERATOR, f"uid {uid}", proven=True)
        try:
            account = await self._accounts.of(uid)
        except TimeoutError as error:
            detail = f"this machine does not tell who uid {uid} is; try again"
            raise ProblemError(503, "accounts-unavailable", detail) from error
        return self._named(account.name, account.groups)

    def _nobody(self, request: web.Request) -> Caller:
        """Return who a caller without any proof is.

        An operator by default only at this machine's own name: a page of elsewhere, whose name was
        made to mean this machine, and a proxy that passes its own name on ask in others' names.
        """
        usual = self._settings.anonymous is None
        if usual and self._anonymous.role is Role.OPERATOR and not is_loopback(request.host):
            return _ANONYMOUS["public"]
        return self._anonymous

    def _is_shared(self, shown: str) -> bool:
        wanted = "" if self.shared is None else self.shared.get_secret_value()
        return bool(wanted) and hmac.compare_digest(shown.encode(errors="replace"), wanted.encode())

    def _shows(self, shown: str, request: web.Request) -> Caller:
        token = self._tokens.find(shown)
        if token is None:
            raise _unauthorized("this token is not known here")
        if token.expired(self._now_ms()):
            raise _unauthorized(f"the token {token.name!r} has expired; ask for another")
        return self._holds(token, request)

    def _holds(self, token: Token, request: web.Request) -> Caller:
        if isinstance(token, AgentToken):
            nodes = Nodes(token.cluster, token.names)
            return Caller(Role.AGENT, token.name, proven=True, delivers=nodes)
        if isinstance(token, ProxyToken):
            user = self._user(request)
            if not user:
                header = self._settings.proxy_user_header
                raise _unauthorized(f"the token of a proxy says in {header} for whom it asks")
            return self._named(user, self._groups(request), Role(token.role))
        name = token.user or token.name
        return Caller(Role(token.role), name, frozenset(token.accounts), proven=True)

    def _named(self, user: str, groups: Iterable[str], highest: Role = Role.OPERATOR) -> Caller:
        """Return what a user is whose name somebody vouches for, `highest` at most."""
        if not user:
            return Caller(Role.PUBLIC, proven=True)
        settings = self._settings
        most = _RANKS.index(highest)
        operator = user in settings.operators or not set(groups).isdisjoint(
            settings.operator_groups
        )
        if operator and most == _RANKS.index(Role.OPERATOR):
            return Caller(Role.OPERATOR, user, proven=True)
        accounts = frozenset(
            account for account, users in settings.managers.items() if account and user in users
        )
        if accounts and most >= _RANKS.index(Role.MANAGER):
            return Caller(Role.MANAGER, user, accounts, proven=True)
        return Caller(Role.USER, user, proven=True)

    def _trusted(self, remote: str | None) -> bool:
        if not remote or not self._proxies:
            return False
        try:
            address = ipaddress.ip_address(remote.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)

    def _user(self, request: web.Request) -> str:
        given = request.headers.getall(self._settings.proxy_user_header, [])
        if len(given) > 1:
            # One of them may be what the proxy's own client made up.
            detail = f"{self._settings.proxy_user_header} is there twice; a proxy has to replace it"
            raise _unauthorized(detail)
        return given[0].strip() if given else ""

    def _groups(self, request: web.Request) -> set[str]:
        given = request.headers.getall(self._settings.proxy_groups_header, [])
        if len(given) > 1:
            detail = f"{self._settings.proxy_groups_header} is there twice"
            raise _unauthorized(f"{detail}; a proxy has to replace it")
        return {one.strip() for text in given for one in text.split(",") if one.strip()}


def _token(request: web.Request) -> str:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, "Authorization")
