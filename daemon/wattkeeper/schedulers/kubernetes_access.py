"""How an API server is reached: address, certificates, and a token that is read again each time."""

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.schedulers.kubernetes_errors import ApiError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its token and the cluster's authority."""


Tls = Callable[[], ssl.SSLContext]
"""Makes a TLS context. Reads files, so it is called in a thread; raises OSError or ValueError."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and how to show who we are.

    A token file wins over a token: bound service account tokens are replaced every hour or so,
    so the file is read for every request. `tls` is None for plain HTTP. `server_name` is the
    name on the server's certificate, where it is not that of `url`.
    """

    url: str
    token: str | None = None
    token_file: Path | None = None
    tls: Tls | None = None
    server_name: str | None = None

    async def headers(self) -> dict[str, str]:
        """Return the headers that say who asks.

        Raises:
            ApiError: the token file cannot be read.

        """
        token = self.token
        if self.token_file is not None:
            try:
                token = await asyncio.to_thread(_token, self.token_file)
            except (OSError, UnicodeDecodeError) as error:
                raise ApiError(
                    f"kubernetes.token_file: {self.token_file} cannot be read: {error}"
                ) from error
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def context(self) -> ssl.SSLContext | None:
        """Return the TLS context, None for plain HTTP.

        Raises:
            ApiError: a certificate cannot be read or used.

        """
        if self.tls is None:
            return None
        try:
            return await asyncio.to_thread(self.tls)
        except (OSError, ValueError) as error:
            raise ApiError(f"kubernetes: certificates for {self.url}: {error}") from error


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> bool:
    """Tell whether this is a pod with a service account."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").exists()


def from_pod(environ: Mapping[str, str] | None = None, folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access that every pod is given.

    Raises:
        ApiError: this is no pod, or one without a service account.

    """
    variables = os.environ if environ is None else environ
    host = variables.get("KUBERNETES_SERVICE_HOST", "")
    if not in_cluster(variables, folder):
        raise ApiError(
            "kubernetes: this is no pod with a service account; set kubernetes.kubeconfig, or "
            "kubernetes.url with kubernetes.token_file and kubernetes.ca_file"
        )
    port = variables.get("KUBERNETES_SERVICE_PORT", "443")
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Access(url, token_file=folder / "token", tls=trusting(folder / "ca.crt"))


def explicit(url: str, token_file: Path | None, ca_file: Path | None) -> Access:
    """Return the access that the configuration spells out."""
    tls = trusting(ca_file) if url.startswith("https:") else None
    return Access(url.rstrip("/"), token_file=token_file, tls=tls)


def trusting(ca_file: Path | None) -> Tls:
    """Return a maker of contexts that trust this authority, or the system's without one."""

    def make() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=ca_file)

    return make


def _token(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
