"""A server's certificates: what is wrong with them, and how they are renewed."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import LOCAL, Authority, Pair, shown, site, stranger
from wattkeeper.flags import ConfigError
from wattkeeper.model.state import State
from wattkeeper.tls.config import TlsServerSection
from wattkeeper.tls.server import ServerCertificates

__all__ = ["shown", "site", "stranger"]


def section(pair: Pair, **more: Any) -> TlsServerSection:
    """Return the settings of a server that shows a pair."""
    return TlsServerSection(cert_file=pair.certificate, key_file=pair.key, **more)


def copy(pair: Pair, folder: Path) -> Pair:
    """Return a copy of a pair that may be renewed."""
    own = Pair(folder / "tls.crt", folder / "tls.key")
    pair.put(own)
    return own


def seen(server: ServerCertificates, authority: Authority, name: str | None = None) -> str:
    """Return the serial number of what a client is shown in a handshake. `name`: by SNI."""
    client = ssl.create_default_context(cafile=authority.certificate)
    client.check_hostname = name is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (theirs, ours):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    certificate = theirs.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


@pytest.mark.parametrize("name", ["localhost", None], ids=["named", "by-address"])
def test_a_renewed_pair_is_shown_without_a_restart(
    site: Authority, shown: Pair, tmp_path: Path, name: str | None
) -> None:
    """Also to clients that name no server, as those that come by address."""
    own = copy(shown, tmp_path)
    server = ServerCertificates(section(own))
    first = seen(server, site, name)
    server.look()
    assert first == seen(server, site, name)
    site.issue("aggregator", *LOCAL).put(own)
    server.look()
    assert first != seen(server, site, name)
    assert server.finding().state is State.STALE  # for it is valid for two days
    assert "valid until" in server.finding().detail


def test_a_wrong_pair_replaces_none(
    site: Authority, shown: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another's key, an expired one, none at all: told once each, until it is right again."""
    own = copy(shown, tmp_path)
    server = ServerCertificates(section(own))
    first = seen(server, site)
    other, expired = site.issue("aggregator", *LOCAL), site.issue("old", *LOCAL, days=-1)
    for wrong, message in (
        (Pair(other.certificate, shown.key), "is not the key of the certificate"),
        (expired, "has expired"),
        (Pair(other.key, other.key), "holds no certificate in PEM"),
    ):
        caplog.clear()
        wrong.put(own)
        for _ in range(3):
            server.look()
        assert first == seen(server, site)
        assert server.finding().state is State.FAILING
        assert message in server.finding().detail
        assert [message in record.message for record in caplog.records] == [True]
    other.put(own)
    server.look()
    assert first != seen(server, site)
    assert server.finding().state is not State.FAILING


def test_an_expired_one_at_the_start_is_shown_and_told(site: Authority, tmp_path: Path) -> None:
    """An agent that does not start for it would not meter."""
    own = copy(site.issue("old", *LOCAL, days=-1), tmp_path)
    server = ServerCertificates(section(own))
    assert "has expired" in server.finding().detail
    site.issue("new", *LOCAL).put(own)
    server.look()
    seen(server, site)


def test_what_cannot_be_used_names_key_and_file(
    site: Authority, shown: Pair, stranger: Authority, tmp_path: Path
) -> None:
    """At the start it is an error."""
    nowhere, text = tmp_path / "nowhere", tmp_path / "text"
    text.write_text("hello")
    locked = tmp_path / "locked.key"
    command = f"openssl ec -in {shown.key} -aes256 -passout pass:secret -out {locked}"
    import subprocess

    subprocess.run(command.split(), check=True, capture_output=True)
    mutual = {"client_auth_type": "RequireAndVerifyClientCert"}
    for settings, message in (
        (section(Pair(nowhere, shown.key)), r"cert_file: .*nowhere cannot be read \(No such file"),
        (section(Pair(shown.certificate, nowhere)), r"key_file: .*nowhere cannot be read"),
        (section(Pair(text, shown.key)), r"cert_file: .*text holds no certificate in PEM"),
        (section(Pair(shown.certificate, text)), r"key_file: .*text holds no key in PEM"),
        (section(Pair(shown.certificate, locked)), r"key_file: .*holds no key .* password"),
        (section(shown, client_ca_file=text, **mutual), r"client_ca_file: .*text holds no cert"),
    ):
        with pytest.raises(ConfigError, match=r"^tls_server_config\." + message):
            ServerCertificates(settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cert_file": "a"}, "cert_file and key_file belong together"),
        ({"client_ca_file": "a"}, "set cert_file, key_file"),
        ({"cert_file": "a", "key_file": "b", "client_ca_file": "c"}, "with NoClientCert"),
        (
            {"cert_file": "a", "key_file": "b", "client_auth_type": "VerifyClientCertIfGiven"},
            "client_ca_file is missing",
        ),
        ({"min_version": "TLS13", "max_version": "TLS12"}, "is above"),
        ({"cipher_suites": ["TLS_RSA_WITH_RC4_128_SHA"]}, "is not offered"),
        ({"client_auth_type": "RequireAnyClientCert"}, "RequireAndVerifyClientCert"),
        ({"min_version": "TLS10"}, "TLS12"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_each_other(given: dict[str, Any], message: str) -> None:
    """Each says what to do."""
    with pytest.raises(ValueError, match=message):
        TlsServerSection(**given)


def test_versions_and_ciphers_are_as_told(site: Authority, shown: Pair) -> None:
    """A client of TLS 1.2 is turned away by a server that wants 1.3."""
    server = ServerCertificates(section(shown, min_version="TLS13"))
    assert server.context.minimum_version is ssl.TLSVersion.TLSv1_3
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    only = ServerCertificates(section(shown, max_version="TLS12", cipher_suites=[suite]))
    names = [c["name"] for c in only.context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert names == ["ECDHE-ECDSA-AES256-GCM-SHA384"]
    seen(only, site)


def test_allowed_names(site: Authority, shown: Pair) -> None:
    """As exporter-toolkit: one of the alternative names, whatever its kind."""
    mutual = {
        "client_ca_file": site.certificate,
        "client_allowed_sans": ["prometheus.example", "10.0.0.1"],
    }
    always = ServerCertificates(
        section(shown, client_auth_type="RequireAndVerifyClientCert", **mutual)
    )
    given = ServerCertificates(section(shown, client_auth_type="VerifyClientCertIfGiven", **mutual))
    for names, admitted in (
        ((("DNS", "prometheus.example"),), True),
        ((("DNS", "other"), ("IP Address", "10.0.0.1")), True),
        ((("DNS", "other"),), False),
    ):
        assert admitted is always.admits({"subjectAltName": names})
        assert admitted is given.admits({"subjectAltName": names})
    assert not always.admits({"subject": ((("commonName", "prometheus.example"),),)})
    assert not always.admits(None)
    assert given.admits(None)
