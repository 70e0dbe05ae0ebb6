"""A client certificate binds an agent to its node: stolen from one, it is of no use for others."""

from aiohttp import web

from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.tls.peer import Certificate, is_node


def certificate_of(request: web.Request) -> Certificate | None:
    """Return the certificate that a client showed, None if it showed none; it is verified."""
    transport = request.transport
    return None if transport is None else transport.get_extra_info("peercert") or None


def check_certificate(request: web.Request, node: str) -> None:
    """Check that the certificate of whoever delivers, if it showed one, names the node.

    Raises:
        ProblemError: 403, it names others.

    """
    certificate = certificate_of(request)
    if certificate is not None and not is_node(certificate, node):
        detail = (
            f"node {node[:80]} is not named by the certificate that was shown; give this agent one "
            "with its node's name among the subject alternative names"
        )
        raise ProblemError(403, "wrong-node", detail, "node")
