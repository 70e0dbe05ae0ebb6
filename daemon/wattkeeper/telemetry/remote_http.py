"""Requests to an engine: connections that are kept, TLS, tokens, and a deadline for each."""

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.remote_options import RemoteOptions

_CHUNK = 1 << 18
_MOST_IDLE = 4
_DROPPED = (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError)
"""What a request meets on a connection that the other end has closed meanwhile."""


class NoReplyError(Exception):
    """Nothing that is an answer came in time. The message says why; a later try may do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; names of headers are in small letters. `whole`: whether it is all of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def words(self) -> str:
        """The beginning of the body on one line."""
        return " ".join(self.body[:2000].decode("utf-8", "replace").split())[:300]


class Endpoint:
    """One URL that is posted to, by any number of threads. Redirections are not followed."""

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.url = url
        self._parts = urlsplit(url)
        query = f"?{self._parts.query}" if self._parts.query else ""
        self._target = f"{self._parts.path or '/'}{query}"
        self._options = options
        self._idle: list[http.client.HTTPConnection] = []
        self._most_idle = _MOST_IDLE
        self._lock = threading.Lock()

    def post(self, body: bytes, headers: Mapping[str, str], most_bytes: int) -> Reply:
        """Post a body and return the answer, its first `most_bytes` or a little more.

        Raises:
            NoReplyError: no answer came within the time for a request.
            TelemetryError: token or certificates cannot be read.

        """
        every = {**headers, **self._credentials()}
        deadline = time.monotonic() + self._options.timeout_s
        connection = self._pop()
        if connection is not None:
            try:
                return self._exchange(connection, body, every, deadline, most_bytes)
            except _DROPPED:
                # It was closed while it was idle; so are, most likely, the others.
                self._drop_idle()
            except (OSError, http.client.HTTPException) as error:
                raise NoReplyError(self._why(error)) from error
        try:
            return self._exchange(self._connect(deadline), body, every, deadline, most_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise NoReplyError(self._why(error)) from error

    def close(self) -> None:
        """Let go of every connection, of those in use once they are not."""
        self._most_idle = 0
        self._drop_idle()

    def _drop_idle(self) -> None:
        while (connection := self._pop()) is not None:
            connection.close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        body: bytes,
        headers: Mapping[str, str],
        deadline: float,
        most_bytes: int,
    ) -> Reply:
        kept = False
        try:
            if connection.sock is None:
                connection.connect()
            sock = connection.sock
            sock.settimeout(_left(deadline))
            with contextlib.suppress(BrokenPipeError):
                # Who refuses a body by its size may answer and close before all of it is there.
                connection.request("POST", self._target, body=body, headers=dict(headers))
            sock.settimeout(_left(deadline))
            answer = connection.getresponse()
            content = bytearray()
            while len(content) <= most_bytes:
                sock.settimeout(_left(deadline))
                chunk = answer.read1(_CHUNK)
                if not chunk:
                    break
                content += chunk
            whole = len(content) <= most_bytes
            if whole and answer.length:
                raise http.client.IncompleteRead(bytes(content), answer.length)
            kept = whole and not answer.will_close
            answer.close()  # read1 does not see that it is at the end
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, bytes(content), whole)
        finally:
            if kept:
                self._push(connection)
            else:
                connection.close()

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_left(deadline))
        return http.client.HTTPSConnection(host, port, timeout=_left(deadline), context=self._tls())

    def _tls(self) -> ssl.SSLContext:
        """Return a context of the certificates as they are now: they are renewed in place."""
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.ca)
            if options.certificate is not None:
                context.load_cert_chain(options.certificate, options.key)
        except (OSError, ValueError) as error:
            files = [str(f) for f in (options.ca, options.certificate, options.key) if f]
            raise TelemetryError(
                f"telemetry: certificates ({', '.join(files)}) cannot be used: {error}"
            ) from error
        return context

    def _credentials(self) -> dict[str, str]:
        headers = {}
        if self._options.tenant is not None:
            headers["X-Scope-OrgID"] = self._options.tenant
        if self._options.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self._options.token_file)}"
        return headers

    def _pop(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _push(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < self._most_idle:
                self._idle.append(connection)
                return
        connection.close()

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"{self.url} does not answer within {self._options.timeout_s:g} s"
        if isinstance(error, http.client.RemoteDisconnected):
            return f"{self.url} closes the connection without an answer"
        if isinstance(error, http.client.HTTPException):
            return f"{self.url} does not speak HTTP ({type(error).__name__})"
        assert isinstance(error, OSError)
        return f"{self.url} cannot be reached ({error.strerror or error})"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TelemetryError(f"telemetry.token_file: {path} cannot be read: {error}") from error
    if not token or not token.isprintable():
        raise TelemetryError(f"telemetry.token_file: {path} holds no token in one line")
    return token
