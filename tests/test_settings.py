"""Configuration from file, environment and flags, and every way to get it wrong."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.settings import (
    Address,
    ConfigError,
    Duration,
    Section,
    Settings,
    load,
    load_with_origins,
)


class Books(Section):
    """The books."""

    slot: Duration = Field(timedelta(minutes=15), description="length")
    url: str = "here"


class Example(Settings):
    """An example."""

    listen: Address = "127.0.0.1:1"
    data_dir: Path = Path("/var")
    token: SecretStr | None = None
    verbose: bool = False
    names: tuple[str, ...] = ()
    books: Books = Books()
    groups: dict[str, dict[str, str]] = Field({}, description="groups")


def toml(folder: Path, text: str) -> Path:
    """Write a configuration file."""
    path = folder / "some.toml"
    path.write_text(text)
    return path


def test_later_sources_win_and_origins_are_known(tmp_path: Path) -> None:
    """Flags over environment over file over default, key by key."""
    path = toml(tmp_path, 'listen = ":7"\ndata_dir = "/f"\n[books]\nslot = "5m"\nurl = "f"\n')
    loaded = load_with_origins(
        Example,
        program="agent",
        config_path=path,
        environ={"WATTKEEPER_AGENT_BOOKS__SLOT": "30m", "WATTKEEPER_AGENT_DATA_DIR": "/e"},
        cli_args=["--data-dir", "/c", "--verbose"],
        overrides={"books": {"url": "o"}},
    )
    found = loaded.settings
    assert (":7", Path("/c"), True) == (found.listen, found.data_dir, found.verbose)
    assert (timedelta(minutes=30), "o") == (found.books.slot, found.books.url)
    keys = ("listen", "data_dir", "books.slot", "books.url", "verbose", "token")
    assert (
        str(path),
        "--data-dir",
        "WATTKEEPER_AGENT_BOOKS__SLOT",
        "program",
        "--verbose",
        "default",
    ) == tuple(map(loaded.origin, keys))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('listn = ":1"', ["some.toml: listn: unknown key; did you mean listen?"]),
        ('[books]\nslto = "5m"', ["some.toml: books.slto: unknown key; did you mean slot?"]),
        ("zzzzzz = 1", ["zzzzzz: unknown key; known here: books, data_dir"]),
        ('[books]\nslot = "5"', ["some.toml: books.slot: '5'", "number and its unit"]),
        ("[books]\nslot = 5", ["books.slot: 5 is not a duration"]),
        ('listen = "here"', ["some.toml: listen: 'here' is not an address"]),
        ('books = "x"', ["some.toml: books:"]),
        ("listen = ", ["some.toml: cannot be read as TOML"]),
        ('listn = ":1"\nverbose = "perhaps"', ["listn: unknown", "verbose: 'perhaps'"]),
    ],
)
def test_errors_in_the_file(tmp_path: Path, text: str, says: list[str]) -> None:
    """Each names the file, the key, the value and the fix; all at once."""
    with pytest.raises(ConfigError) as caught:
        load(Example, program="agent", config_path=toml(tmp_path, text), environ={})
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "LISTN",
            ":1",
            "AGENT_LISTN: unknown key; did you mean WATTKEEPER_AGENT_LISTEN?",
        ),
        ("BOOKS__SLTO", "5m", "did you mean WATTKEEPER_AGENT_BOOKS__SLOT?"),
        ("BOOK__SLOT", "5m", "did you mean WATTKEEPER_AGENT_BOOKS?"),
        ("BOOKS__SLOT", "5", "WATTKEEPER_AGENT_BOOKS__SLOT: books.slot: '5' is not a duration"),
        ("LISTEN_PORT", "9745", "WATTKEEPER_AGENT_LISTEN_PORT: unknown key"),
        ("NAMES", "a,b", "JSON"),
        ("VERBOSE", "perhaps", "WATTKEEPER_AGENT_VERBOSE: verbose: 'perhaps'"),
    ],
)
def test_errors_in_the_environment(name: str, value: str, says: str) -> None:
    """pydantic-settings would ignore a misspelt name; here it is an error."""
    with pytest.raises(ConfigError) as caught:
        load(Example, program="agent", environ={f"WATTKEEPER_AGENT_{name}": value})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--listn", ":1"], "--listn: unknown argument; did you mean --listen?"),
        (["--books.slto=5m"], "--books.slto: unknown argument; did you mean --books.slot?"),
        (["--books.slot", "5"], "--books.slot: '5' is not a duration"),
        (["--listen"], "--listen: expected one argument"),
        (["stray"], "stray: unknown argument"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: there is no such file"),
    ],
)
def test_errors_in_flags(args: list[str], says: str) -> None:
    """No usage text is dumped; the flag is named."""
    with pytest.raises(ConfigError) as caught:
        load(Example, program="agent", cli_args=args, environ={})
    assert says in str(caught.value)


def test_what_kubernetes_injects_is_no_error() -> None:
    """A service called wattkeeper-agent gives every pod these names."""
    prefix = "WATTKEEPER_AGENT_"
    injected = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "9745",
        "SERVICE_PORT_HTTP": "9745",
        "PORT": "tcp://10.0.0.1:9745",
        "PORT_9745_TCP": "tcp://10.0.0.1:9745",
        "PORT_9745_TCP_PROTO": "tcp",
        "PORT_9745_TCP_PORT": "9745",
        "PORT_9745_TCP_ADDR": "10.0.0.1",
        "HEADLESS_SERVICE_HOST": "10.0.0.1",
        "HEADLESS_PORT": "tcp://10.0.0.1:9745",
    }
    environ = {prefix + name: value for name, value in injected.items()}
    assert Example() == load(Example, program="agent", environ=environ)


def test_structured_and_empty_variables() -> None:
    """Lists and tables are JSON; an empty variable is as good as none."""
    found = load(
        Example,
        program="agent",
        environ={
            "WATTKEEPER_AGENT_NAMES": '["a", "b"]',
            "WATTKEEPER_AGENT_GROUPS__RACK": '{"r1": "n1"}',
            "WATTKEEPER_AGENT_LISTEN": "",
            "WATTKEEPER_AGGREGATOR_LISTN": "another program's",
        },
    )
    assert (found.names, found.groups) == (("a", "b"), {"rack": {"r1": "n1"}})
    assert found.listen == "127.0.0.1:1"


def test_secrets_are_never_shown() -> None:
    """Neither in the settings' text nor in an error about them."""
    found = load(Example, program="agent", environ={"WATTKEEPER_AGENT_TOKEN": "s3cret"})
    assert "s3cret" not in repr(found) + found.model_dump_json()
    with pytest.raises(ConfigError) as caught:
        load(Example, program="agent", overrides={"token": {"s3cret": 1}}, environ={})
    assert "s3cret" not in str(caught.value)


def test_settings_built_in_code_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load` looks at the environment."""
    monkeypatch.setenv("LISTEN", ":9")
    monkeypatch.setenv("WATTKEEPER_AGENT_LISTEN", ":9")
    assert Example().listen == "127.0.0.1:1"


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A folder in its place is an error that names it."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Example, program="agent", config_path=tmp_path, environ={})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ledger": {"slot": "7m"}}, "choose one of 5m, 15m, 30m, 1h"),
        ({"ledger": {"url": "mysql://x"}}, "sqlite:///"),
        ({"metrics": {"identity": "everyone"}}, "'account', 'user' or 'none'"),
        ({"commit_interval": "0s"}, "between 100ms and 1h"),
        ({"listen": "1.2.3.4:99999"}, "host:port"),
        ({"groups": {"rack": {"r1": ["n[3-1]"]}}}, "backward"),
        ({"groups": {"a b": {}}}, "no label name"),
    ],
)
def test_the_aggregators_own_rules(values: dict[str, object], says: str) -> None:
    """Values that make no sense are refused with what would."""
    with pytest.raises(ConfigError) as caught:
        load(AggregatorSettings, program="aggregator", overrides=values, environ={})
    assert says in str(caught.value)
