"""Asks slurmrestd, through a unix socket or TCP."""

import http.client
import itertools
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from wattkeeper.schedulers.slurm_wire import NOTHING, Request

VERSIONS = tuple(f"v0.0.{number}" for number in range(45, 36, -1))
"""Of Slurm 26.05 down to 22.05; a server offers three or four of them."""
_NEW_QUERIES = 39
_OFFERED = re.compile(rb'"\\?/slurm\\?/(v\d+\.\d+\.\d+)\\?/')
_CHUNK = 1 << 20
_MESSAGE = 4096
_LISTING = 64 << 20


class Rest:
    """One slurmrestd. Each call asks it once (and once for its version); OSError if it fails."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.version = request.version

    def jobs(self) -> Iterator[bytes]:
        """Return every job that slurmctld knows."""
        return self._get("slurm", "jobs", [{}])

    def nodes(self) -> Iterator[bytes]:
        """Return every node."""
        return self._get("slurm", "nodes", [{}])

    def ended(self) -> Iterator[bytes]:
        """Return the runs of the accounts since the request's `since_ms`."""
        since = self._request.since_ms // 1000
        # Up to 22.05 runs that were requeued are there unasked, and asking for them is an error.
        old = {"start_time": f"uts{since}", "skip_steps": "true"}
        # Where one of these is given, some versions of 23.11 to 24.11 forget the others' defaults.
        flags = (
            "skip_steps",
            "show_duplicates",
            "disable_truncate_usage_time",
            "scheduler_unset",
        )
        new = {"start_time": str(since), **dict.fromkeys(flags, "true")}
        is_old = _number(self._find_version()) < _NEW_QUERIES
        return self._get("slurmdb", "jobs", [old] if is_old else [new, old])

    def _get(self, family: str, what: str, queries: Sequence[dict[str, str]]) -> Iterator[bytes]:
        """Return the first answer that is not a refusal of the query."""
        status, body = 0, None
        for query in queries:
            status, body = self._ask(family, what, query)
            if status in (200, 401, 403):
                break
        assert body is not None
        if status in (401, 403):
            raise PermissionError(
                f"slurmrestd refuses us (HTTP {status}): renew the token in slurm.token_file "
                "(`scontrol token`); on a unix socket without token, this must be a user whom "
                "slurmrestd serves, and in its PID namespace"
            )
        if status != 200:
            # What is wrong stands in the `errors` of the answer, where it comes from Slurm.
            said = b"".join(itertools.islice(body, 1))[:_MESSAGE]
            if NOTHING.encode() in said:
                yield b'{"jobs": []}'
                return
            raise OSError(f"slurmrestd answered HTTP {status} to {what}: {_words(said)}")
        left = self._request.max_bytes
        for chunk in body:
            left -= len(chunk)
            if left < 0:
                raise OSError(
                    f"slurmrestd said more than {self._request.max_bytes >> 20} MiB: raise "
                    "slurm.max_answer if that is no mistake"
                )
            yield chunk

    def _ask(self, family: str, what: str, query: dict[str, str]) -> "tuple[int, _Body]":
        path = f"/{family}/{self._find_version()}/{what}/"
        status, body = self._open(path, query)
        if status == 404 and self._request.version == self.version:
            body.close()
            self.version = ""  # another version of Slurm answers now
            status, body = self._open(f"/{family}/{self._find_version()}/{what}/", query)
        return status, body

    def _find_version(self) -> str:
        """Return the newest version that the server offers and that we know."""
        if self.version:
            return self.version
        for version in VERSIONS:
            status, body = self._open(f"/slurm/{version}/ping/", {})
            body.close()
            if status != 404:
                self.version = version
                return version
        status, body = self._open("/openapi/v3", {})
        listing = b""
        for chunk in body:
            listing += chunk
            if len(listing) > _LISTING:
                break
        offered = sorted({found.decode() for found in _OFFERED.findall(listing)}, key=_number)
        if not offered:
            raise OSError(
                f"{self._request.rest} offers none of the interfaces {VERSIONS[-1]} to "
                f"{VERSIONS[0]} of slurmrestd (HTTP {status}); is slurm.rest its address?"
            )
        self.version = offered[0]
        return self.version

    def _open(self, path: str, query: dict[str, str]) -> tuple[int, "_Body"]:
        headers = self._headers()
        connection = _connect(self._request.rest, self._request.timeout_s)
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
        except http.client.HTTPException as error:
            connection.close()
            raise OSError(
                f"{self._request.rest} does not speak HTTP ({type(error).__name__}); "
                "is slurm.rest the address of slurmrestd?"
            ) from error
        except OSError as error:
            connection.close()
            raise OSError(
                f"slurmrestd cannot be reached at {self._request.rest} "
                f"({error.strerror or error}); is it running, and slurm.rest its address?"
            ) from error
        return answer.status, _Body(connection, answer)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        token = _token(self._request.token_file)
        if token:
            headers["X-SLURM-USER-TOKEN"] = token
            if self._request.user:
                headers["X-SLURM-USER-NAME"] = self._request.user
        return headers


class _Body(Iterator[bytes]):
    """The body of an answer as chunks; closes the connection at its end."""

    def __init__(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._answer = answer

    def __next__(self) -> bytes:
        try:
            chunk = self._answer.read(_CHUNK)
        except http.client.HTTPException as error:
            self.close()
            raise OSError(f"slurmrestd broke off its answer ({type(error).__name__})") from error
        except OSError:
            self.close()
            raise
        if not chunk:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP through a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)


def _connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, timeout_s)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_s, context=context
        )
    return http.client.HTTPConnection(parts.hostname or "", parts.port or 6820, timeout=timeout_s)


def _token(path: str) -> str:
    """Return the token: of the file, which is read each time, else of the environment.

    `scontrol token` prints `SLURM_JWT=…`, and so may the file hold it.
    """
    try:
        text = Path(path).read_text(encoding="ascii") if path else os.environ.get("SLURM_JWT", "")
    except (OSError, UnicodeDecodeError) as error:
        raise OSError(f"slurm.token_file: {path} cannot be read ({error})") from error
    return text.strip().removeprefix("SLURM_JWT=")


def _number(version: str) -> int:
    last = version.rpartition(".")[2]
    return int(last) if last.isdigit() else 0


def _words(body: bytes) -> str:
    """Return the descriptions of errors in an answer, else its first words."""
    text = body.decode("utf-8", "replace")
    found = re.findall(r'"(?:description|error)"\s*:\s*"([^"]{1,200})', text)
    return "; ".join(dict.fromkeys(found)) or " ".join(text.split())[:200] or "nothing"
