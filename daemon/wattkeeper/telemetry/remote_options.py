"""Where a Prometheus-compatible engine is, and how to show who we are."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_QUERY_BASES = {"/api/v1/write": "", "/api/v1/push": "/prometheus"}
"""Where an engine answers questions, seen from where it takes writes (the latter is Mimir)."""
_TENANT = re.compile(r"[A-Za-z0-9!\-_.*'()|]{1,150}")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """An engine. `ValueError` if something cannot be meant so; the texts begin with the option.

    `url`: the endpoint of remote write, such as `http://vm:8428/api/v1/write`. `query_url`: the
    base of its query API, to which `/api/v1/query_range` is added; None derives it.
    `tenant`: sent as `X-Scope-OrgID`. `token_file`: a bearer token, read for each request.
    `certificate`, `key`: of this client; `ca`: who signed the engine's, the system's if None.
    `timeout_s`: for one request; `patience_s`: for all tries of one request to write.
    `batch_rows`: how many rows are sent at once; `refused_bytes`: what refused rows may take up.
    """

    url: str
    query_url: str | None = None
    tenant: str | None = None
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    timeout_s: float = 30.0
    patience_s: float = 60.0
    batch_rows: int = 1000
    refused_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        _check_url("url", self.url)
        _check_url("query_url", self.query_base)
        if self.tenant is not None and _TENANT.fullmatch(self.tenant) is None:
            raise ValueError("tenant: may have letters, digits and !-_.*'()| only, at most 150")
        if self.key is not None and self.certificate is None:
            raise ValueError("key: is of no use without certificate")
        if self.timeout_s <= 0 or self.patience_s <= 0 or self.batch_rows < 1:
            raise ValueError("timeout, patience and batch_rows: have to be greater than 0")

    @property
    def query_base(self) -> str:
        """The base of the query API.

        Raises:
            ValueError: it is not said, and does not follow from `url`.

        """
        if self.query_url is not None:
            return self.query_url.rstrip("/")
        for end, base in _QUERY_BASES.items():
            if self.url.endswith(end):
                return self.url.removesuffix(end) + base
        raise ValueError(
            f"query_url: does not follow from {self.url}; write where the engine answers "
            "/api/v1/query_range, without that path"
        )


def _check_url(option: str, url: str) -> None:
    parts = urlsplit(url)
    try:
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or any(c.isspace() for c in url):
        raise ValueError(f"{option}: {url!r} is no address; write http(s)://host:port/path")
    if "@" in parts.netloc:
        raise ValueError(f"{option}: may hold no password; put a bearer token into token_file")
