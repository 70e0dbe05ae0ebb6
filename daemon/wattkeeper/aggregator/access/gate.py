"""The one place where it is decided who may ask what."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from wattkeeper.aggregator.access.caller import Caller
from wattkeeper.aggregator.access.callers import Callers
from wattkeeper.aggregator.access.roles import AGENTS, ANYONE, CLOSERS, Audience, Role
from wattkeeper.aggregator.node_certificate import certificate_of
from wattkeeper.aggregator.problem import PRIVATE, ProblemError, expected

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CALLER = web.RequestKey("CALLER", Caller)
"""Where a request keeps who asks."""
_ADVICE = {
    AGENTS: "set aggregator.token of the agent to its `token`, or to one that "
    "`wattkeeper token agent` made",
    CLOSERS: "show it with --token-file, or as Authorization: Bearer",
}
_PROVE = (
    "show a token (WATTKEEPER_TOKEN, or Authorization: Bearer), ask through the site's proxy, or "
    "on a node with the aggregator's socket"
)


def caller_of(request: web.Request) -> Caller:
    """Return who asks; nobody where anyone may."""
    return request[CALLER] if CALLER in request else Caller(Role.NOBODY)


def check(caller: Caller, who: Audience, what: str) -> None:
    """Check that a caller is one of those who may ask for something.

    Raises:
        ProblemError: it is not; says what would help.

    """
    if caller.role in who:
        return
    if not caller.proven:
        advice = _ADVICE.get(who)
        detail = f"this aggregator wants a token: {advice}" if advice else f"{what}: {_PROVE}"
        raise ProblemError(401, "unauthorized", detail, "Authorization")
    roles = ", ".join(sorted(who))
    detail = f"{what} is for {roles}; you are {caller.role}"
    raise ProblemError(403, "forbidden", detail)


class Gate:
    """What is served is added here, with those who may ask for it; nothing else is answered."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._who: dict[tuple[str, str], Audience] = {}

    @property
    def declared(self) -> Mapping[tuple[str, str], Audience]:
        """Who may ask, by method and path."""
        return self._who

    def add(
        self, app: web.Application, method: str, path: str, handler: Handler, who: Audience
    ) -> None:
        """Serve something to those who may ask for it."""
        app.router.add_route(method, path, handler, expect_handler=expected)
        self._who[method, path] = who
        if method == "GET":
            self.add(app, "HEAD", path, handler, who)

    @web.middleware
    async def decide(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let those through who may ask."""
        match = request.match_info
        if match.http_exception is not None:
            return await handler(request)
        resource = match.route.resource
        path = "" if resource is None else resource.canonical
        who = self._who.get((request.method, path), Audience())
        if who is not ANYONE:
            caller = await self._callers.caller(request)
            request[CALLER] = caller  # who is refused is known, too
            if Role.AGENT not in who or caller.proven or certificate_of(request) is None:
                self._check(caller, who, request)
        answer = await handler(request)
        if who is not ANYONE:
            answer.headers.setdefault("Cache-Control", PRIVATE)
        return answer

    def _check(self, caller: Caller, who: Audience, request: web.Request) -> None:
        path = request.path[:80]
        # Who writes has to prove it as soon as there is a way to.
        if request.method == "POST" and not caller.proven:
            if not self._callers.open:
                check(Caller(Role.NOBODY), who, path)
            if Role.AGENT in who:
                return
        check(caller, who, path)
