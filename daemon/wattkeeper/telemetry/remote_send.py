"""Sends bodies until they are acknowledged or refused, or patience ends."""

import email.utils
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.remote_http import Endpoint, NoReplyError, Reply
from wattkeeper.telemetry.remote_wire import HEADERS

_MOST_BYTES = 1 << 16
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 10.0
_LONGEST_PAUSE_S = 600.0
"""An engine that asks to be left alone for longer is asked again all the same."""

_REFUSED = re.compile(
    r"out[- ]of[- ](?:order|bounds)|too[- ]old|too[- ]far[- ]in[- ](?:the[- ])?future"
    r"|duplicate[- ](?:sample|timestamp)|same timestamp",
    re.IGNORECASE,
)
"""How Prometheus, Mimir, Cortex and Thanos say that a sample's time does not suit them."""
_BEFORE_ALL = re.compile("out of bounds", re.IGNORECASE)
_FIXES = {
    401: "check the token in telemetry.token_file, or the client's certificate",
    403: "whoever the token or certificate stands for may not write there",
    404: "telemetry.url is no remote write endpoint; Prometheus needs "
    "--web.enable-remote-write-receiver",
    405: "telemetry.url is no remote write endpoint",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The engine will never take a body as it is.

    `too_large`: by its size; else some sample's time does not suit it. `before_all`: what it
    refused lies before all that it takes of any series.
    """

    words: str
    too_large: bool = False
    before_all: bool = False


class Sender:
    """Sends to one engine, one body after the other. `wait` returns whether to give up."""

    def __init__(
        self, endpoint: Endpoint, patience_s: float, wait: Callable[[float], bool] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._not_before, self._busy = 0.0, ""
        self.requests = 0
        self.retries = 0

    def send(self, body: bytes) -> Refusal | None:
        """Return None once the engine has taken a body, or why it never will.

        Raises:
            TelemetryError: it does not take it now; says what to do.

        """
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_WAIT_S
        self._rest(self._not_before - time.monotonic(), deadline, self._busy)
        while True:
            self.requests += 1
            try:
                reply = self._endpoint.post(body, HEADERS, _MOST_BYTES)
            except NoReplyError as error:
                why, asked_s = str(error), 0.0
            else:
                if 200 <= reply.status < 300 and not reply.body:
                    return None
                refusal = _refusal(reply)
                if refusal is not None:
                    return refusal
                why, asked_s = self._later(reply)
            self._rest(max(asked_s, pause_s * random.uniform(0.5, 1)), deadline, why)  # noqa: S311 -- spreads tries, no secret
            pause_s = min(2 * pause_s, _LONGEST_WAIT_S)
            self.retries += 1

    def close(self) -> None:
        """Give up what is waiting."""
        self._closing.set()

    def _later(self, reply: Reply) -> tuple[str, float]:
        """Return why the engine does not take a body now, and how long it asks to wait.

        Raises:
            TelemetryError: it will not take it later either.

        """
        why = f"{self._endpoint.url} answers HTTP {reply.status}: {reply.words or 'nothing'}"
        if reply.status not in (408, 425, 429) and reply.status < 500:
            # An acknowledgement has no body: whoever sends a page with 200 has stored nothing.
            fix = _FIXES.get(reply.status, "is telemetry.url a remote write endpoint?")
            if 300 <= reply.status < 400:
                fix = f"set telemetry.url to {reply.headers.get('location', 'where it sends us')}"
            raise TelemetryError(f"{why}; {fix}")
        asked_s = _retry_after_s(reply.headers.get("retry-after", ""))
        self._not_before, self._busy = time.monotonic() + asked_s, why
        return why, asked_s

    def _rest(self, seconds: float, deadline: float, why: str) -> None:
        """Wait, unless that is longer than patience lasts."""
        if seconds <= 0:
            return
        if time.monotonic() + seconds > deadline:
            raise TelemetryError(f"{why}; what was not taken is kept and sent again")
        if self._wait(seconds):
            raise TelemetryError(f"{why}; given up, because Wattkeeper stops")


def _refusal(reply: Reply) -> Refusal | None:
    if reply.status == 413:
        return Refusal(reply.words, too_large=True)
    # Prometheus 2.39 to 2.44 answer 500 to samples that are older than the window of out-of-order
    # ones; Thanos answers 409.
    if reply.status not in (400, 409, 422, 500) or _REFUSED.search(reply.words) is None:
        return None
    return Refusal(reply.words, before_all=_BEFORE_ALL.search(reply.words) is not None)


def _retry_after_s(text: str) -> float:
    """Return the seconds of a Retry-After header: a number or a date."""
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_PAUSE_S)
