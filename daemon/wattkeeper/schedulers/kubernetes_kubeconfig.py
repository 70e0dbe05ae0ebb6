"""Kubeconfig files: a context's server, certificates and token. No programs are run."""

import base64
import binascii
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from wattkeeper.schedulers.kubernetes_access import Access, Tls
from wattkeeper.schedulers.kubernetes_errors import ApiError


class _Kebab(msgspec.Struct, rename="kebab", frozen=True):
    pass


class _Cluster(_Kebab, frozen=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(_Kebab, frozen=True):
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: dict[str, object] | None = None
    auth_provider: dict[str, object] | None = None


class _Context(_Kebab, frozen=True):
    cluster: str
    user: str = ""


class _NamedCluster(_Kebab, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(_Kebab, frozen=True):
    name: str
    user: _User = _User()


class _NamedContext(_Kebab, frozen=True):
    name: str
    context: _Context


class _Kubeconfig(_Kebab, frozen=True):
    current_context: str = ""
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


_Named = TypeVar("_Named", _NamedCluster, _NamedUser, _NamedContext)


def from_kubeconfig(path: Path, context: str | None = None) -> Access:
    """Return the access of a context, the current one if none is named.

    Raises:
        ApiError: the file cannot be read, or asks for what is not done here.

    """
    config = _read(path)
    where = f"kubernetes.kubeconfig: {path}"
    chosen = _find(config.contexts, context or config.current_context, f"{where}: context").context
    cluster = _find(config.clusters, chosen.cluster, f"{where}: cluster").cluster
    user = _User()
    if chosen.user:
        user = _find(config.users, chosen.user, f"{where}: user").user
    if not cluster.server.startswith(("http://", "https://")):
        raise ApiError(f"{where}: cluster {chosen.cluster!r} has no server with http(s)://")
    if cluster.proxy_url:
        raise ApiError(f"{where}: proxy-url is not supported; the server must be reached directly")
    if user.exec is not None or user.auth_provider is not None:
        raise ApiError(
            f"{where}: user {chosen.user!r} gets its token from a program (exec, auth-provider), "
            "which a service does not run; make a service account and set kubernetes.token_file"
        )
    folder = path.parent
    return Access(
        cluster.server.rstrip("/"),
        token=user.token or None,
        token_file=folder / user.token_file if user.token_file else None,
        tls=_tls(cluster, user, folder) if cluster.server.startswith("https:") else None,
        server_name=cluster.tls_server_name or None,
    )


def _read(path: Path) -> _Kubeconfig:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ApiError(f"kubernetes.kubeconfig: {path} cannot be read: {error.strerror}") from error
    try:
        if content.lstrip().startswith(b"{"):
            return msgspec.json.decode(content, type=_Kubeconfig)
        return msgspec.yaml.decode(content, type=_Kubeconfig)
    except ImportError as error:
        raise ApiError(
            f"kubernetes.kubeconfig: {path} is YAML; install wattkeeper[aggregator], or write it "
            "as JSON: kubectl config view --raw --flatten -o json"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError(f"kubernetes.kubeconfig: {path} is no kubeconfig: {error}") from error


def _find(entries: Sequence[_Named] | None, name: str, what: str) -> _Named:
    for entry in entries or ():
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries or ()) or "none"
    raise ApiError(f"{what} {name!r} is not in it; there are: {known}")


def _tls(cluster: _Cluster, user: _User, folder: Path) -> Tls:
    def make() -> ssl.SSLContext:
        authority = cluster.certificate_authority
        data = cluster.certificate_authority_data
        context = ssl.create_default_context(
            cafile=folder / authority if authority and not data else None,
            cadata=_decoded(data).decode("ascii") if data else None,
        )
        if cluster.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _present(context, user, folder)
        return context

    return make


def _present(context: ssl.SSLContext, user: _User, folder: Path) -> None:
    """Load the client's certificate; OpenSSL takes it from files only."""
    if not (user.client_certificate or user.client_certificate_data):
        return
    # The folder is ours alone, and gone once they are loaded.
    with tempfile.TemporaryDirectory() as temporary:
        certificate = folder / user.client_certificate
        key = folder / user.client_key
        if user.client_certificate_data:
            certificate = _written(Path(temporary) / "crt", user.client_certificate_data)
        if user.client_key_data:
            key = _written(Path(temporary) / "key", user.client_key_data)
        context.load_cert_chain(certificate, key)


def _written(path: Path, data: str) -> Path:
    path.write_bytes(_decoded(data))
    return path


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=False)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
