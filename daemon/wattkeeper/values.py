"""Values that configuration and commands have in common: durations and addresses."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PASSWORD = re.compile(r"(://[^:/?#@\s]*):\S*@")
_PASSWORD_IN_QUERY = re.compile(r"((?:ssl)?password)=[^&\s]*")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def parse_duration(text: str) -> timedelta:
    """Return `500ms`, `10s`, `1h30m`, `7d` as a timedelta.

    Raises:
        ValueError: not a duration; says how one looks.

    """
    if _DURATION.fullmatch(text) is None:
        raise ValueError("is not a duration; write a number and its unit: 500ms, 10s, 5m, 2h, 7d")
    ms = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return timedelta(milliseconds=ms)


def format_duration(value: timedelta) -> str:
    """Return a timedelta in the largest unit that divides it: `10s`, `90m`, `500ms`."""
    ms = value // timedelta(milliseconds=1)
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


def milliseconds(value: timedelta) -> int:
    """Return a timedelta in whole milliseconds."""
    return value // timedelta(milliseconds=1)


def hide_passwords(text: str) -> str:
    """Return a text without the passwords of URLs in it."""
    return _PASSWORD_IN_QUERY.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text))


def host_of(url: str) -> str:
    """Return scheme, host and port of a URL: what may be told of one with a secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def why_not(error: Exception, url: str) -> str:
    """Return why a request failed, without its URL, which may hold a secret."""
    text = str(getattr(error, "message", "") or error).replace(url, host_of(url))
    return text or "no answer in time"


def _to_timedelta(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return parse_duration(str(value).strip())


def host_port(address: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:9746`, `[::1]:9746` or `:9746` (every interface).

    Raises:
        ValueError: not an address; says how one looks.

    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("is not an address; write host:port, like 127.0.0.1:9746 or [::1]:9746")
    if ":" in host and not address.startswith("["):
        raise ValueError(f"is not an address; write IPv6 in brackets: [{host}]:{port}")
    return host or "0.0.0.0", int(port)  # noqa: S104 -- asked for with an empty host


def _check_address(value: str) -> str:
    host_port(value)
    return value


Duration = Annotated[
    timedelta, BeforeValidator(_to_timedelta), PlainSerializer(format_duration, return_type=str)
]
"""A length of time, written with its unit: `500ms`, `10s`, `5m`, `2h`, `7d`."""

Address = Annotated[str, AfterValidator(_check_address)]
LogLevel = Literal["debug", "info", "warning", "error"]
"""Where to listen, `host:port`; take it apart with `host_port`."""
