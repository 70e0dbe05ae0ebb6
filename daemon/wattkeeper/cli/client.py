"""Asking the aggregator: where it is, and what to say when it does not answer."""

import asyncio
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import aiohttp

from wattkeeper.cli.command import CommandError
from wattkeeper.flags import ConfigError, nearest
from wattkeeper.tls.client import ClientCertificates
from wattkeeper.tls.token import read_token

DEFAULT_URL = "http://127.0.0.1:9746"
SOCKET = Path("/run/wattkeeper/aggregator.sock")
"""Asked where it is there and no address is set: it knows who asks."""
FILES = (Path("~/.config/wattkeeper/client.toml"), Path("/etc/wattkeeper/client.toml"))
KEYS = ("url", "token_file", "ca", "certificate", "key")
UNIX = "unix:"
_TYPES = {"json": "application/json", "html": "text/html"}
NO_ANSWER = 3
"""Exit code where nobody answers: an outage is neither a "no" nor a typo."""


def find(url: str | None) -> str:
    """Return the aggregator's address: `--url`, WATTKEEPER_URL, `client.toml`, this machine's.

    Raises:
        ConfigError: a `client.toml` that cannot be read, or an address that is none.

    """
    here = f"{UNIX}{SOCKET}" if SOCKET.is_socket() else DEFAULT_URL
    found = url or _setting("url") or here
    if not found.startswith(("http://", "https://", f"{UNIX}/")):
        raise ConfigError(
            f"url: {found!r} is no address; write http://HOST:9746, or {UNIX}{SOCKET}"
        )
    return found.rstrip("/")


def _token() -> str | None:
    """Return the token that is shown: WATTKEEPER_TOKEN, else what `token_file` holds.

    Raises:
        ConfigError: the file cannot be read.

    """
    if (token := os.environ.get("WATTKEEPER_TOKEN")) or (file := _setting("token_file")) is None:
        return token
    return read_token(Path(file).expanduser(), "token_file")


def own_certificates() -> ClientCertificates:
    """Return what WATTKEEPER_CA, WATTKEEPER_CERTIFICATE, WATTKEEPER_KEY and `client.toml` name.

    Raises:
        ConfigError: a `client.toml` that cannot be read.

    """
    ca, certificate, key = (
        None if (given := _setting(name)) is None else Path(given).expanduser()
        for name in ("ca", "certificate", "key")
    )
    return ClientCertificates(ca, certificate, key)


def _setting(key: str) -> str | None:
    """Return a setting of clients: its variable, else the first `client.toml` that has it."""
    return os.environ.get(f"WATTKEEPER_{key.upper()}") or _from_files(key)


def _from_files(wanted: str) -> str | None:
    for file in FILES:
        path = file.expanduser()
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
        for key in values:
            if key not in KEYS:
                raise ConfigError(f"{path}: {key}: unknown key; {nearest(key, KEYS)}")
        if wanted in values:
            return str(values[wanted])
    return None


def ask(
    url: str | None,
    path: str,
    query: Mapping[str, str | None] | None = None,
    *,
    patience_s: float = 120.0,
    certificates: ClientCertificates | None = None,
) -> Any:
    """Return the aggregator's answer to `GET path`; parameters that are None are left out.

    `certificates`: other ones than those of `client.toml`.

    Raises:
        CommandError: nobody answers, or the answer is a problem; says what to do.

    """
    found = asked(find(url), path, query, patience_s=patience_s, certificates=certificates)
    return asyncio.run(found)


async def asked(
    base: str,
    path: str,
    query: Mapping[str, str | None] | None = None,
    *,
    patience_s: float = 120.0,
    certificates: ClientCertificates | None = None,
) -> Any:
    """Return the same, inside an event loop; `base` is what `find` returns."""
    found = await _fetch(base, path, query, patience_s, "json", certificates=certificates)
    return json.loads(found)


def tell(
    url: str | None,
    path: str,
    body: Mapping[str, Any],
    *,
    token: str | None,
    patience_s: float = 120.0,
) -> Any:
    """Return the aggregator's answer to `POST path` with a body in JSON.

    `token`: another one than that of `client.toml`.

    Raises:
        CommandError: as `ask`.

    """
    return json.loads(
        asyncio.run(_fetch(find(url), path, None, patience_s, "json", body, token=token))
    )


def save(url: str | None, path: str, query: Mapping[str, str | None], file: Path) -> None:
    """Write the aggregator's page at `path` into a file.

    Raises:
        CommandError: nobody answers, the answer is a problem, or the file cannot be written.

    """
    page = asyncio.run(_fetch(find(url), path, query, 120.0, "html"))
    try:
        file.write_bytes(page)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error


async def _fetch(
    base: str,
    path: str,
    query: Mapping[str, str | None] | None,
    patience_s: float,
    kind: Literal["json", "html"],
    body: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    certificates: ClientCertificates | None = None,
) -> bytes:
    shown = token or await asyncio.to_thread(_token)
    own = certificates if certificates is not None else await asyncio.to_thread(own_certificates)
    given = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        return await _get(base, path, given, patience_s, kind, body, shown, own)
    except (aiohttp.ClientError, TimeoutError) as error:
        explained = own.explain(error) if base.startswith("https:") else None
        if explained is not None:
            told = f"{base}: {'; '.join(filter(None, explained))}"
        elif isinstance(error, aiohttp.ClientConnectorError):
            told = (
                f"no aggregator answers at {base} ({error.strerror or error}). Start one with "
                "`wattkeeper aggregator`, or say where it is with --url, WATTKEEPER_URL or "
                "client.toml"
            )
        else:
            told = f"{base}{path}: {str(error) or 'no answer in time'}"
        raise CommandError(told, NO_ANSWER) from error


async def _get(
    base: str,
    path: str,
    query: Mapping[str, str],
    patience_s: float,
    kind: Literal["json", "html"],
    sent: Mapping[str, Any] | None,
    token: str | None,
    certificates: ClientCertificates,
) -> bytes:
    method = "GET" if sent is None else "POST"
    timeout = aiohttp.ClientTimeout(total=patience_s, sock_connect=10)
    headers = {"Accept": f"{_TYPES[kind]}, application/problem+json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    origin = base
    connector: aiohttp.BaseConnector | None = None
    if base.startswith(UNIX):
        origin, connector = "http://localhost", aiohttp.UnixConnector(base.removeprefix(UNIX))
    elif base.startswith("https:"):
        connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(certificates.context))
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector) as session,
        session.request(method, f"{origin}{path}", params=dict(query), json=sent) as answer,
    ):
        if answer.status == 500:
            raise CommandError(f"{base}{path} failed inside the aggregator; see its log", NO_ANSWER)
        problem = answer.status >= 400
        if ("json" if problem else kind) not in answer.content_type:
            raise CommandError(f"{base} is not a Wattkeeper aggregator (it sent {answer.status})")
        body = await answer.read()
        if problem:
            told = json.loads(body)
            code = {404: 1, 429: NO_ANSWER, 503: NO_ANSWER}.get(answer.status, 2)
            raise CommandError(str(told.get("detail") or told.get("title")), code)
        return body
