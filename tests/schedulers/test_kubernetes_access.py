"""How the API server is found: in a pod, by kubeconfig, by address; and what is said if not."""

import base64
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kube.server import ApiServer, serving
from wattkeeper.schedulers.kubernetes import KubernetesScheduler
from wattkeeper.schedulers.kubernetes_access import Access, explicit, from_pod, in_cluster
from wattkeeper.schedulers.kubernetes_errors import ApiError
from wattkeeper.schedulers.kubernetes_kubeconfig import from_kubeconfig
from wattkeeper.schedulers.kubernetes_pods import Naming


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("authority")
    certificate, key = folder / "ca.crt", folder / "ca.key"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=kube -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


def _kubeconfig(
    folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None, *, yaml: bool = False
) -> Path:
    there = {"server": "https://10.0.0.1:6443/", **(cluster or {})}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "k", "user": "me"}}],
        "clusters": [{"name": "k", "cluster": there}],
        "users": [{"name": "me", "user": user}],
    }
    path = folder / "config"
    text = json.dumps(config, indent=1)
    path.write_text(f"# a comment\n{text}\n" if yaml else text)
    return path


def test_in_a_pod(tmp_path: Path) -> None:
    """Address from the environment, token and authority from the service account."""
    (tmp_path / "token").write_text("t")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert in_cluster(environ, tmp_path)
    assert not in_cluster({}, tmp_path)
    assert not in_cluster(environ, tmp_path / "absent")
    found = from_pod(environ, tmp_path)
    assert "https://[fd00::1]:6443" == found.url
    assert tmp_path / "token" == found.token_file


def test_not_in_a_pod(tmp_path: Path) -> None:
    """The error names the settings that help."""
    with pytest.raises(ApiError, match=r"kubernetes.kubeconfig, or kubernetes.url"):
        from_pod({}, tmp_path)


async def test_the_token_is_read_each_time(tmp_path: Path) -> None:
    """A token that is replaced on disk is the next one shown; one that is gone is an error."""
    file = tmp_path / "token"
    file.write_text("one\n")
    found = Access("http://h", token_file=file)
    assert {"Authorization": "Bearer one"} == await found.headers()
    file.write_text("two")
    assert {"Authorization": "Bearer two"} == await found.headers()
    file.unlink()
    with pytest.raises(ApiError, match=r"kubernetes\.token_file: .* cannot be read"):
        await found.headers()


async def test_an_address_without_tls() -> None:
    """Plain HTTP needs no certificates; without a token none is shown."""
    found = explicit("http://127.0.0.1:8001/", None, None)
    assert "http://127.0.0.1:8001" == found.url
    assert await found.context() is None
    assert {} == await found.headers()


async def test_an_authority_that_is_none(tmp_path: Path) -> None:
    """A certificate that cannot be read is an error that names the server."""
    found = explicit("https://h:6443", None, tmp_path / "absent.crt")
    with pytest.raises(ApiError, match="certificates for https://h:6443"):
        await found.context()


@pytest.mark.parametrize("yaml", [False, True])
async def test_a_kubeconfig(tmp_path: Path, authority: tuple[Path, Path], *, yaml: bool) -> None:
    """Server, authority, token and client certificate of the current context, JSON or YAML."""
    certificate, key = (base64.b64encode(path.read_bytes()).decode() for path in authority)
    user = {"token": "t", "client-certificate-data": certificate, "client-key-data": key}
    cluster = {"certificate-authority-data": certificate, "tls-server-name": "kube"}
    found = from_kubeconfig(_kubeconfig(tmp_path, user, cluster, yaml=yaml))
    assert ("https://10.0.0.1:6443", "kube") == (found.url, found.server_name)
    assert {"Authorization": "Bearer t"} == await found.headers()
    context = await found.context()
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert 1 == len(context.get_ca_certs())


async def test_files_of_a_kubeconfig(tmp_path: Path, authority: tuple[Path, Path]) -> None:
    """Paths in it are seen from its folder."""
    for source, name in zip(authority, ("c.crt", "c.key"), strict=True):
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "tok").write_text("f")
    user = {"tokenFile": "tok", "client-certificate": "c.crt", "client-key": "c.key"}
    found = from_kubeconfig(_kubeconfig(tmp_path, user, {"certificate-authority": "c.crt"}))
    assert {"Authorization": "Bearer f"} == await found.headers()
    assert await found.context() is not None


async def test_a_kubeconfig_that_trusts_anybody(tmp_path: Path) -> None:
    """What it says is done."""
    found = from_kubeconfig(_kubeconfig(tmp_path, {}, {"insecure-skip-tls-verify": True}))
    context = await found.context()
    assert context is not None
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"exec": {"command": "aws"}}, {}, "from a program .* kubernetes.token_file"),
        ({"auth-provider": {"name": "gcp"}}, {}, "from a program"),
        ({}, {"server": "10.0.0.1"}, "no server with http"),
        ({}, {"proxy-url": "http://p"}, "proxy-url is not supported"),
        ({"token": 5}, {}, "is no kubeconfig"),
    ],
)
def test_what_a_kubeconfig_may_not_ask_for(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], said: str
) -> None:
    """No programs are run; each error says what to do instead."""
    with pytest.raises(ApiError, match=said):
        from_kubeconfig(_kubeconfig(tmp_path, user, cluster))


async def test_a_key_that_is_no_base64(tmp_path: Path) -> None:
    """Broken data is an error, not a crash."""
    user = {"client-certificate-data": "x", "client-key-data": "x"}
    found = from_kubeconfig(_kubeconfig(tmp_path, user))
    with pytest.raises(ApiError, match="not base64"):
        await found.context()


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    """The error names those that are."""
    path = _kubeconfig(tmp_path, {})
    with pytest.raises(ApiError, match="context 'there' is not in it; there are: here"):
        from_kubeconfig(path, "there")
    with pytest.raises(ApiError, match="cannot be read: No such file"):
        from_kubeconfig(tmp_path / "absent")
    path.write_text("users: [")
    with pytest.raises(ApiError, match="is no kubeconfig"):
        from_kubeconfig(path)


@pytest.mark.parametrize(
    ("named", "trusted", "said"),
    [("127.0.0.1", True, ""), ("other", True, "certificate"), ("127.0.0.1", False, "certificate")],
)
async def test_certificates_are_checked(
    tmp_path: Path,
    authority: tuple[Path, Path],
    named: str,
    said: str,
    *,
    trusted: bool,
) -> None:
    """Over TLS only the server that the kubeconfig means is believed."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority)
    async with serving(ApiServer(token="t"), tls) as server:
        cluster = {"server": server.url, "tls-server-name": named}
        if trusted:
            cluster["certificate-authority"] = str(authority[0])
        path = _kubeconfig(tmp_path, {"token": "t"}, cluster)
        scheduler = KubernetesScheduler(lambda: from_kubeconfig(path), Naming("c"))
        await scheduler.start()
        try:
            if said:
                with pytest.raises(OSError, match=said):
                    await scheduler.ask(0)
            else:
                assert [] == list((await scheduler.ask(0)).workloads)
        finally:
            await scheduler.close()
