"""Any configuration is taken, or refused with the key that is wrong; never a traceback."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from wattkeeper.agent.config import AgentSettings
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.cli.config import _leaves
from wattkeeper.flags import ConfigError
from wattkeeper.settings import Settings, load_with_origins

MODELS: dict[str, type[Settings]] = {"agent": AgentSettings, "aggregator": AggregatorSettings}
EXAMPLES = 40


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every key of a model; in tables of tables those of the one called `x`."""
    for name, field in model.model_fields.items():
        annotation, path = field.annotation, (*above, name)
        yield path
        if get_origin(annotation) is dict:
            annotation, path = get_args(annotation)[1], (*path, "x")
            yield path
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from keys(annotation, path)


NEAR = st.sampled_from(
    (
        "", " ", "none", "1h", "-1s", "0s", "1e9h", "99999999999999999d", "5m", "10s", "1.5s",
        ":1", "a:99999", "[::1]:9746", "127.0.0.1:0", "::1", "unix:/x", "unix:x", "http://h:1",
        "http://[", "http://h:x", "https://u:p@h/p?q#f", "sqlite:///x", "postgresql://u@h:x/d",
        "postgresql://[::1", "1W", "5kW", "-5kW", "nan W", "1e400kW", "1MWh", "0.2", "1e-999",
        "1e999999999", "NaN", "Infinity", "EUR/kWh", "g/kWh", "%", "Europe/Berlin", "Etc/",
        "../../etc/passwd", "n[1-3]", "n[1-", "n[1-99999999999]", "n[9-1]", "$.a[0].b", "$..",
        "a.b[*]", "10.0.0.0/8", "10.0.0.0/99", "mon-fri", "08:00-25:00", "2027-02-30",
        "feature:x", "month", "day", "15m", "fleet", "ECDHE-RSA-AES128-GCM-SHA256",
        "X\r\nY: 1", "\0", "\x7f", "\x85", "é" * 300,
    )
)  # fmt: skip
SCALARS = st.one_of(
    NEAR,
    st.text(max_size=12),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((-1, 0, 1, 60, 2**31, 2**64)),
    st.floats(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def toml(value: object) -> str:
    """Return a value as TOML has it; what it has no word for is a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{quoted(key)} = {toml(one)}' for key, one in value.items())}}}"
    return quoted(str(value))


def quoted(text: str) -> str:
    """Return a text in quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def document(given_values: list[tuple[tuple[str, ...], Any]]) -> str:
    """Return a file in which each key has its value, the last one where they collide."""
    whole: dict[str, Any] = {}
    for path, value in given_values:
        table = whole
        for name in path[:-1]:
            if not isinstance(table.get(name), dict):
                table[name] = {}
            table = table[name]
        table[path[-1]] = value
    return "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in whole.items())


def use(program: str, path: Path | None, environ: Mapping[str, str], known: set[str]) -> None:
    """Load, and show what was taken; what was refused names one of the keys, or the file."""
    model = MODELS[program]
    try:
        loaded = load_with_origins(model, program=program, config_path=path, environ=environ)
    except ConfigError as error:
        for line in str(error).splitlines():
            assert any(name in line for name in known), line
        return
    for key, value in _leaves(loaded.settings):
        json.dumps({key: value, "origin": loaded.origin(key)})
    for name, section in getattr(loaded.settings, "budgets", {}).items():
        section.budget(name)


@pytest.mark.parametrize("program", MODELS)
def test_a_file(program: str, tmp_path: Path) -> None:
    """Known keys with anything in them, and a key that nobody knows."""
    path = tmp_path / "c.toml"
    paths = st.sampled_from([*keys(MODELS[program]), ("nobody",), ("slurm", "nobody")])

    @settings(max_examples=EXAMPLES)
    @given(st.lists(st.tuples(paths, VALUES), min_size=1, max_size=4))
    def check(drawn: list[tuple[tuple[str, ...], Any]]) -> None:
        path.write_text(document(drawn), "utf-8", errors="replace")
        use(program, path, {}, {name for one, _ in drawn for name in one} | {str(path)})

    check()


@pytest.mark.parametrize("program", MODELS)
def test_the_environment(program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names that are known or nearly so, with text or JSON."""
    monkeypatch.setattr("wattkeeper.settings.FOLDER", tmp_path)
    prefix = f"WATTKEEPER_{program.upper()}_"
    names = st.one_of(
        st.sampled_from(["__".join(path).upper() for path in keys(MODELS[program])]),
        st.text("ABC_Ñx", max_size=8),
    ).map(prefix.__add__)
    texts = st.one_of(NEAR, st.text(max_size=12), VALUES.map(json.dumps))
    values = texts.map(lambda text: text.replace("\0", "") or "x")

    @settings(max_examples=EXAMPLES)
    @given(st.dictionaries(names, values, min_size=1, max_size=4))
    def check(environ: dict[str, str]) -> None:
        parts = {part for name in environ for part in name.removeprefix(prefix).lower().split("__")}
        use(program, None, environ, parts | {prefix})

    check()


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 4))
@example(b"\xff", 0, 0)
@example(b"[" * 40, 0, 0)
def test_a_file_that_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, cut: int
) -> None:
    """Bytes that are put into it, or are lost, name the file."""
    good = b'listen = ":1"\n[slurm]\nnodename = "n1"\n[journal]\nmax_bytes = 268435456\n'
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    path.write_bytes(good[:at] + junk + good[at + cut :])
    use("agent", path, {}, {str(path)})
