"""A token is told to nobody: not by errors, logs, answers, metrics or `config show`."""

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.agent.fakes import Bench
from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import Feeder
from tests.cli.conftest import Run
from wattkeeper.agent.exposition import Exposition
from wattkeeper.agent.transport import HttpTransport, RefusedError, UnreachableError
from wattkeeper.cli.main import main

CANARY = "wk-3b1c9e77d0f2-canary"
WRONG = "wk-0d5f1a88c3e6-canary"


@pytest.mark.parametrize("centre", [{"token": SecretStr(CANARY)}], indirect=True)
async def test_what_is_served_and_logged_tells_no_token(
    centre: Centre, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A right one and a wrong one, as agents and commands show them, with every word logged."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    url = centre.aggregator.url
    for token, address in ((CANARY, url), (WRONG, url), (CANARY, "http://127.0.0.1:1")):
        way = HttpTransport(address, token, 5)
        (folder := tmp_path / f"{len(told)}").mkdir()
        bench = Bench(folder)
        assert bench.agent.sender is not None
        bench.agent.sender._transport = way
        try:
            await way.send(Feeder().batch([]))
        except (RefusedError, UnreachableError) as error:
            told.append(repr(error) + str(error))
        await bench.agent.deliver_once()
        await way.close()
        told += map(str, bench.agent.findings())
        told.append(Exposition(bench.agent).render().decode())
        await asyncio.to_thread(bench.journal.close)
    for path in ("/v1/findings", "/v1/fleet", "/openapi.json"):
        told.append(str(await centre.get(path)))
    told.append(await centre.text("/metrics"))
    for token in (CANARY, WRONG):
        monkeypatch.setenv("WATTKEEPER_TOKEN", token)
        for args in (["jobs"], ["balance"], ["close", "2026-03"], ["job", "--url", "http://x:1"]):
            done = await run(*args)
            told += [done.out, done.err]
    told += [str(vars(record)) for record in caplog.records]
    _check(told)
    assert len(told) > 20


@pytest.mark.parametrize("program", ["agent", "aggregator"])
def test_configuration_tells_no_token(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Shown in every format, checked, and wrong in every way, from file, environment and flag."""
    monkeypatch.setattr("wattkeeper.cli.config.FOLDER", tmp_path)
    file = tmp_path / "x.toml"
    table = "[aggregator]\n" if program == "agent" else ""
    told: list[str] = []

    def run(*args: str) -> None:
        with contextlib.suppress(SystemExit):  # of --help
            main(args)
        captured = capsys.readouterr()
        told.extend((captured.out, captured.err))

    for value in (f'"{CANARY}"', f'["{CANARY}"]', f'"{CANARY}', f'{{a = "{CANARY}"}}'):
        file.write_text(f"{table}token = {value}\n")
        for action in ("show", "check"):
            run("config", action, program, "--config", str(file))
    for form in ("table", "json", "csv"):
        file.write_text(f'{table}token = "{CANARY}"\n')
        run("config", "show", program, "--config", str(file), "--format", form)
    variable = f"WATTKEEPER_{program.upper()}_{'AGGREGATOR__' if table else ''}TOKEN"
    monkeypatch.setenv(variable, CANARY)
    run("config", "show", program)
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    run("config", "check", program)
    flag = "--aggregator.token" if table else "--token"
    run(program, flag, CANARY, "--no-such-flag")
    run(program, "--help")
    assert "prefer" in told[-2]
    _check(told)


def _check(told: list[str]) -> None:
    for text in told:
        for secret in (CANARY, WRONG):
            assert secret not in text, text[:2000]
