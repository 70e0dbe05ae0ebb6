"""Certificates of both programs and the agent's token are renewed while they run."""

import hashlib
import json
import socket
import ssl
from pathlib import Path

import pytest

from tests.certificates import LOCAL, Authority, Pair
from tests.e2e.hardware import Crank
from tests.e2e.programs import Site, until
from tests.fake_nvml.library import FakeNvml

pytestmark = pytest.mark.compiler


def test_renewal_needs_no_restart_and_loses_no_joule(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str], tmp_path: Path
) -> None:
    """Mutual TLS and a token: one after the other is replaced, and the old one counts no more."""
    ca = Authority.make(tmp_path / "ca")
    server, own = (Pair(tmp_path / f"{n}.crt", tmp_path / f"{n}.key") for n in ("server", "n1"))
    ca.issue("aggregator", *LOCAL).put(server)
    ca.issue("n1", "DNS:n1.example").put(own)
    tokens, token = tmp_path / "tokens.toml", tmp_path / "token"
    _let(tokens, "the-first-token")
    token.write_text("the-first-token\n")
    site.aggregator(
        "--tls-server-config.cert-file", str(server.certificate),
        "--tls-server-config.key-file", str(server.key),
        "--tls-server-config.client-auth-type", "RequireAndVerifyClientCert",
        "--tls-server-config.client-ca-file", str(ca.certificate),
        "--access.tokens-file", str(tokens), "--access.anonymous", "operator",
    )  # fmt: skip
    site.aggregator_url = site.aggregator_url.replace("http:", "https:")
    site.agent(
        "--aggregator.ca", str(ca.certificate), "--aggregator.token-file", str(token),
        "--aggregator.certificate", str(own.certificate), "--aggregator.key", str(own.key),
    )  # fmt: skip
    site.await_first_window(uuids)
    site.await_records(1)
    crank.begin()

    first = _shown(site, ca, own)
    ca.issue("aggregator", *LOCAL).put(server)
    until("the new certificate is shown", lambda: _shown(site, ca, own) != first)
    ca.issue("n1", "DNS:n1.example").put(own)
    site.await_records(1)
    _let(tokens, "the-second-token")
    until("the old token is refused", lambda: site.state("delivery") == "failing")
    token.write_text("the-second-token\n")
    until("the new one is taken", lambda: site.state("delivery") == "ok")
    site.await_records(1)

    crank.finish()
    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    shown = {
        "WATTKEEPER_CA": str(ca.certificate),
        "WATTKEEPER_CERTIFICATE": str(own.certificate),
        "WATTKEEPER_KEY": str(own.key),
    }

    def measured() -> dict[str, int]:
        done = site.cli("balance", "--url", site.aggregator_url, "--format", "json", **shown)
        found = json.loads(done.stdout or '{"meters": []}')["meters"]
        return {meter["meter"]: int(meter["measured_uj"]) for meter in found}

    until("the ledger has it all, once", lambda: measured() == truth)
    written = (tmp_path / "agent.log").read_text() + (tmp_path / "aggregator.log").read_text()
    assert "renewed, valid until" in written
    assert "the-first-token" not in written
    assert "the-second-token" not in written


def _let(tokens: Path, token: str) -> None:
    """Let one token of the node count, and no other."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    draft = tokens.with_suffix(".draft")
    draft.write_text(
        f'[[token]]\nkind = "agent"\nname = "n1"\nsha256 = "{digest}"\n'
        'cluster = "default"\nnodes = "n1"\n'
    )
    draft.replace(tokens)


def _shown(site: Site, ca: Authority, own: Pair) -> str:
    """Return the serial number of the certificate that the aggregator shows."""
    context = ssl.create_default_context(cafile=ca.certificate)
    context.load_cert_chain(own.certificate, own.key)
    address = ("127.0.0.1", site.aggregator_port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        return str((connection.getpeercert() or {})["serialNumber"])
