"""Errors as `application/problem+json` (RFC 9457)."""

import json
import logging

from aiohttp import web

_log = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"
PRIVATE = "private, no-cache"
"""`Cache-Control` of what is answered to one caller: a proxy's cache would tell it to the next."""


class ProblemError(Exception):
    """A request that cannot be answered.

    `kind` is stable and for programs; `detail` says what is wrong and what to do; `field` names
    the parameter or part of the body that is wrong, empty where none is. `retry_after_s`: when it
    may be asked again.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        field: str = "",
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s


def respond(problem: ProblemError) -> web.Response:
    """Return the answer that tells a problem."""
    body = {
        "type": f"urn:wattkeeper:problem:{problem.kind}",
        "title": problem.kind.replace("-", " "),
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.field:
        body["field"] = problem.field
    headers = {"Cache-Control": PRIVATE}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    return web.Response(
        text=json.dumps(body, ensure_ascii=False),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=headers,
    )


async def expected(request: web.Request) -> web.Response | None:
    """Do what a request expects before it sends its body; answer what nobody can do.

    aiohttp's own answer fails where the header is no text.
    """
    if request.headers["Expect"].lower() != "100-continue":
        detail = "Expect: only 100-continue is known"
        return respond(ProblemError(417, "expectation-failed", detail, "Expect"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
    return None


def ledger_unavailable(path: str, error: Exception) -> ProblemError:
    """Return what an answer is that the ledger did not give; the log tells why."""
    _log.warning("%s: the ledger did not answer: %s", path, error)
    detail = "the ledger did not answer; see the aggregator's log and try again"
    return ProblemError(503, "ledger-unavailable", detail)


def too_slow(limit_s: float) -> ProblemError:
    """Return what an answer is that took too long."""
    detail = (
        f"no answer within {limit_s:.0f} s; ask for a shorter time, longer steps, fewer nodes or "
        "jobs, or again when less is asked of this aggregator"
    )
    return ProblemError(503, "too-slow", detail)
