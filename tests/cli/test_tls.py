"""Commands and certificates: `config check` reads them, and questions say what is wrong."""

from pathlib import Path

import pytest

from tests.aggregator.test_tls import mutual, running
from tests.certificates import Authority, Pair, shown, site
from tests.cli.conftest import Run
from wattkeeper.cli.main import main

__all__ = ["shown", "site"]


async def test_questions_over_tls(
    site: Authority, shown: Pair, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authority and own certificate from variables or `client.toml`; what is missing is named."""
    own = site.issue("alice", "email:alice@example")
    async with running(tmp_path, shown, **mutual(site)) as aggregator:
        monkeypatch.setenv("WATTKEEPER_URL", aggregator.url)
        done = await command("jobs", "--format", "json")
        assert (done.code, "set ca to the certificate of the authority" in done.err) == (3, True)
        monkeypatch.setenv("WATTKEEPER_CA", str(site.certificate))
        done = await command("jobs", "--format", "json")
        assert (done.code, "set certificate and key" in done.err) == (3, True)
        file = tmp_path / "client.toml"
        monkeypatch.setattr("wattkeeper.cli.client.FILES", (file,))
        file.write_text(f'certificate = "{own.certificate}"\nkey = "{own.key}"\n')
        done = await command("jobs", "--format", "json")
        assert (done.code, done.err) == (0, "")
        file.write_text(f'certificate = "{tmp_path / "nowhere"}"\n')
        done = await command("jobs")
        assert (done.code, "nowhere cannot be read" in done.err) == (2, True)
        file.write_text('cerfiticate = "x"\n')
        done = await command("jobs")
        assert (done.code, "did you mean certificate?" in done.err) == (2, True)


def test_check_reads_certificates_and_tokens(
    site: Authority, shown: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On both sides of both programs."""
    agent, aggregator = tmp_path / "agent.toml", tmp_path / "aggregator.toml"
    token = tmp_path / "token"
    right = f'cert_file = "{shown.certificate}"\nkey_file = "{shown.key}"\n'
    way = f'url = "https://a:1"\ntoken_file = "{token}"\nca = "{site.certificate}"\n'
    for text, message in (
        (f"[tls_server_config]\n{right}", ""),
        (f"[tls_server_config]\n{right}".replace(".key", ".crt"), "holds no key in PEM"),
        (f'[tls_server_config]\ncert_file = "{shown.key}"\n', "belong together"),
    ):
        for program, file in (("agent", agent), ("aggregator", aggregator)):
            file.write_text(text)
            code = main(["config", "check", program, "--config", str(file)])
            assert (code, message in capsys.readouterr().err) == (2 if message else 0, True)
    for text, message in (
        (way, "aggregator.token_file: .*token cannot be read"),
        (way.replace(".crt", ".crx"), "cannot be read"),
        (way.replace("https", "http"), "ca is for TLS only"),
        (f'{way}token = "x"\n', "token and token_file are both set"),
        (f'{way}key = "x"\n', "key belongs to certificate"),
    ):
        agent.write_text(f"[aggregator]\n{text}")
        assert main(["config", "check", "agent", "--config", str(agent)]) == 2
        import re

        assert re.search(message, capsys.readouterr().err), text
    agent.write_text(f"[aggregator]\n{way}")
    token.write_text("a b\n")
    assert main(["config", "check", "agent", "--config", str(agent)]) == 2
    assert "a b" not in capsys.readouterr().err
    token.write_text("ab\n")
    assert main(["config", "check", "agent", "--config", str(agent)]) == 0
