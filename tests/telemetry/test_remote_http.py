"""How an engine is reached: addresses, TLS both ways, tokens, tenants, connections."""

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.fake_engine import Say, fake_engine
from tests.telemetry.remote_stores import ORIGIN_MS, remote_store, rows

from wattkeeper.telemetry.base import Metric, Question, TelemetryError
from wattkeeper.telemetry.remote_http import Endpoint, NoReplyError
from wattkeeper.telemetry.remote_options import RemoteOptions

_QUESTION = Question(Metric.POWER, ORIGIN_MS, ORIGIN_MS + 60_000, 60_000)
_UNMET = r"cannot be reached|without an answer"
_QUICK: dict[str, Any] = {"timeout_s": 2, "patience_s": 0.1}


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate that is its own authority, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN={name} -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with those of an engine, of a client and of a stranger."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("engine", "client", "stranger"):
        _certificate(folder, name)
    return folder


def _mutual(folder: Path) -> ssl.SSLContext:
    """Return the engine's side: it wants to see the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "engine.crt", folder / "engine.key")
    context.load_verify_locations(folder / "client.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_certificates_on_both_sides(certificates: Path, tmp_path: Path) -> None:
    """A client that shows its own is served; one without, or of another authority, is not."""
    own = {"certificate": certificates / "client.crt", "key": certificates / "client.key"}
    trusted = {"ca": certificates / "engine.crt"}
    with fake_engine(_mutual(certificates)) as engine:
        with remote_store(engine.write_url, tmp_path, **own, **trusted) as store:
            store.write(rows(0), {})
            store.ask(_QUESTION)
        assert len(engine.requests) == 2
        for options in (
            own,
            trusted,
            {**own, "ca": certificates / "stranger.crt"},
            {
                "certificate": certificates / "stranger.crt",
                "key": certificates / "stranger.key",
                **trusted,
            },
        ):
            with remote_store(engine.write_url, tmp_path, **options, **_QUICK) as store:
                with pytest.raises(TelemetryError, match=_UNMET):
                    store.write(rows(1), {})
                with pytest.raises(TelemetryError, match=_UNMET):
                    store.ask(_QUESTION)
        assert len(engine.requests) == 2


def test_the_name_on_a_certificate_counts(certificates: Path, tmp_path: Path) -> None:
    """It is for 127.0.0.1, not for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "engine.crt", certificates / "engine.key")
    with fake_engine(context) as engine:
        url = engine.write_url.replace("127.0.0.1", "localhost")
        with (
            remote_store(url, tmp_path, ca=certificates / "engine.crt", **_QUICK) as store,
            pytest.raises(TelemetryError, match="ertificate"),
        ):
            store.write(rows(0), {})
        assert not engine.requests


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    """Missing, or no certificate: it is said which files."""
    (tmp_path / "ca").write_text("no certificate")
    for ca in (tmp_path / "ca", tmp_path / "missing"):
        options = RemoteOptions("https://127.0.0.1:1/api/v1/write", ca=ca)
        with pytest.raises(TelemetryError, match=f"certificates .{ca}. cannot be used"):
            Endpoint(options.url, options).post(b"", {}, 1)


def test_tenant_and_token(tmp_path: Path) -> None:
    """Both are in every request; the token is read each time, for it is renewed in place."""
    token = tmp_path / "token"
    token.write_text("first\n")
    with (
        fake_engine() as engine,
        remote_store(engine.write_url, tmp_path, tenant="fleet", token_file=token) as store,
    ):
        store.write(rows(0), {})
        token.write_text("second")
        store.ask(_QUESTION)
        sent = [(r["authorization"], r["x-scope-orgid"]) for r in engine.requests]
        assert [("Bearer first", "fleet"), ("Bearer second", "fleet")] == sent
        for bad in ("", "two\nlines", "ü"):
            token.write_text(bad)
            with pytest.raises(TelemetryError, match=r"telemetry\.token_file"):
                store.write(rows(1), {})
        token.unlink()
        with pytest.raises(TelemetryError, match="cannot be read"):
            store.ask(_QUESTION)


def test_what_a_write_request_says_of_itself(tmp_path: Path) -> None:
    """The headers that remote write's definition wants."""
    with fake_engine() as engine, remote_store(engine.write_url, tmp_path) as store:
        store.write(rows(0), {})
        (headers,) = engine.requests
        assert headers["content-encoding"] == "snappy"
        assert headers["content-type"] == "application/x-protobuf"
        assert headers["x-prometheus-remote-write-version"] == "0.1.0"
        assert "authorization" not in headers


def test_connections_are_kept_and_replaced(tmp_path: Path) -> None:
    """One serves many requests; one that the engine has closed meanwhile costs no try."""
    with fake_engine() as engine, remote_store(engine.write_url, tmp_path) as store:
        for cell in range(5):
            store.write(rows(cell), {})
        assert engine.connections == 1
        engine.say.append(Say(204, headers={"Connection": "close"}))
        store.write(rows(5), {})
        store.write(rows(6), {})
        assert engine.connections == 2
        engine.hang_up()
        store.write(rows(7), {})
        assert engine.connections == 3
        assert store.counts()["retries"] == 0


def test_nobody_there(tmp_path: Path) -> None:
    """The address is in the message, and why."""
    options = RemoteOptions("http://[::1]:1/api/v1/write", timeout_s=2)
    with pytest.raises(NoReplyError, match=r"http://\[::1\]:1/api/v1/write cannot be reached"):
        Endpoint(options.url, options).post(b"", {}, 1)


def test_someone_who_speaks_no_http(tmp_path: Path) -> None:
    """Neither is an answer without end one."""
    with fake_engine() as engine:
        options = RemoteOptions(engine.write_url)
        endpoint = Endpoint(options.url, options)
        engine.say.append(Say(200, b"x" * 3_000_000))
        reply = endpoint.post(b"", {}, 1_000_000)
        assert not reply.whole
        assert len(reply.body) < 2_000_000
        engine.say.append(Say(200, b"x" * 1000))
        assert endpoint.post(b"", {}, 1_000_000).whole
        engine.say.append(Say(1000))
        with pytest.raises(NoReplyError, match="does not speak HTTP"):
            endpoint.post(b"", {}, 1_000_000)
        endpoint.close()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://prometheus:9090/api/v1/write", "http://prometheus:9090"),
        ("http://vm:8428/api/v1/write", "http://vm:8428"),
        ("https://mimir/api/v1/push", "https://mimir/prometheus"),
    ],
)
def test_where_questions_go(url: str, base: str) -> None:
    """It follows from where writes go, for the engines that answer at the same place."""
    assert base == RemoteOptions(url).query_base


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "vm:8428"}, "url: 'vm:8428' is no address"),
        ({"url": "http://"}, "is no address"),
        ({"url": "http://vm:port/api/v1/write"}, "is no address"),
        ({"url": "http://v m/api/v1/write"}, "is no address"),
        ({"url": "http://user:secret@vm/api/v1/write"}, "token_file"),
        ({"url": "http://thanos:19291/api/v1/receive"}, "query_url: does not follow"),
        ({"query_url": "thanos"}, "query_url: 'thanos' is no address"),
        ({"tenant": "a\r\nb"}, "tenant:"),
        ({"key": Path("key")}, "key:"),
        ({"timeout_s": 0}, "timeout"),
        ({"batch_rows": 0}, "batch_rows"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    """Each is refused at the start, by its name."""
    with pytest.raises(ValueError, match=words):
        RemoteOptions(**{"url": "http://vm/api/v1/write", **options})


def test_an_engine_with_a_path_and_a_query(tmp_path: Path) -> None:
    """Proxies have them."""
    with fake_engine() as engine:
        url = f"{engine.url}/insert/0/api/v1/write?extra_label=site=a"
        base = f"{engine.url}/select/0/prometheus/"
        with remote_store(url, tmp_path, query_url=base) as store:
            store.write(rows(0), {})
            store.ask(_QUESTION)
        assert [
            "/insert/0/api/v1/write?extra_label=site=a",
            "/select/0/prometheus/api/v1/query_range",
        ] == engine.paths
