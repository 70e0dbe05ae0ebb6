"""What an audit watches of the configuration: factors, who may ask, how long things are kept."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wattkeeper.aggregator.access.known_tokens import KnownTokens
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.values import host_of

_WATCHED = {"factors", "access", "retention"}
_TABLES = ("price", "carbon", "pue")
_LONGEST = 200
_DIGITS = 12


def configured(settings: AggregatorSettings, tokens: KnownTokens) -> dict[str, str]:
    """Return by key what is set now, tables and tokens by a part of their hashes. Blocks."""
    dumped = settings.model_dump(mode="json", include=_WATCHED, exclude_defaults=True)
    found = dict(_flat(dumped))
    for name in _TABLES:
        path: Path | None = getattr(settings.factors, name).file
        if path is not None and (content := _content(path)):
            found[f"factors.{name}.file (content)"] = content
    for token in tokens.all():
        found[f"access.tokens_file: token {token.name[:80]}"] = token.sha256[:_DIGITS]
    return found


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif name == "url" and value:
            # What follows the host may be a secret.
            yield f"{above}{name}", f"{host_of(value)} ({_hash(value.encode())})"
        elif value not in (None, [], ""):
            yield f"{above}{name}", _text(value)[:_LONGEST]


def _text(value: object) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _content(path: Path) -> str:
    """Return a part of the hash of a file, "" if it cannot be read now."""
    try:
        return _hash(path.read_bytes())
    except OSError:
        return ""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
