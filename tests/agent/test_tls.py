"""`/metrics` over TLS: Prometheus scrapes it, whoever shows no certificate does not."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from tests.agent.fakes import Bench
from tests.agent.test_service import Running, until
from tests.certificates import Authority, Pair, shown, site
from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.diagnosis import _certificates, _delivery
from wattkeeper.agent.service import listening
from wattkeeper.model.state import State

__all__ = ["shown", "site"]
_PROMETHEUS = """\
global: {{scrape_interval: 100ms}}
scrape_configs:
  - job_name: agents
    file_sd_configs: [{{files: [targets.json]}}]
    tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}
"""


def tls(site: Authority, pair: Pair) -> dict[str, object]:
    """Return the table of an agent that wants to see certificates."""
    return {
        "cert_file": pair.certificate,
        "key_file": pair.key,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": site.certificate,
        "client_allowed_sans": ["prometheus.example"],
    }


class Serving(Running):
    """An agent that serves TLS."""

    def __init__(self, folder: Path, site: Authority, pair: Pair) -> None:
        super().__init__(folder)
        self.bench.journal.close()  # another one takes its place
        listen = f"127.0.0.1:{self.port}"
        settings = {"listen": listen, "tls_server_config": tls(site, pair)}
        self.bench = Bench(folder, settings=settings)
        self.service._agent = self.bench.agent


@pytest.mark.engines
async def test_prometheus_scrapes_over_mutual_tls(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """A real one, told of the scheme by the target's label, beside a port that speaks no TLS."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    own = site.issue("prometheus", "DNS:prometheus.example")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {"ca": site.certificate, "cert": own.certificate, "key": own.key}
    (tmp_path / "prometheus.yml").write_text(_PROMETHEUS.format(**names))
    async with Serving(tmp_path, site, shown) as running:
        plain = f"127.0.0.1:{port}"
        targets = [
            {"targets": [f"127.0.0.1:{running.port}"], "labels": {"__scheme__": "https"}},
            {"targets": [plain]},
        ]
        (tmp_path / "targets.json").write_text(json.dumps(targets))
        command = [
            program, f"--config.file={tmp_path / 'prometheus.yml'}", "--log.level=error",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address={plain}",
        ]  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            await until(lambda: _up(plain) == {running.port: "up", port: "up"})
        finally:
            process.kill()
            process.wait()


def _up(prometheus: str) -> dict[int, str]:
    try:
        with urllib.request.urlopen(f"http://{prometheus}/api/v1/targets", timeout=1) as answer:
            found = json.load(answer)["data"]["activeTargets"]
    except OSError:
        return {}
    return {int(one["scrapeUrl"].split(":")[2].split("/")[0]): one["health"] for one in found}


async def test_whoever_is_not_allowed_is_turned_away(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """No certificate, and one of the site's authority with another name; both are counted."""
    agent = Bench(
        tmp_path, settings={"listen": "127.0.0.1:0", "tls_server_config": tls(site, shown)}
    ).agent
    text = ""
    async with listening(agent) as url:
        for pair, served in (
            (None, False),
            (site.issue("n2", "DNS:n2.example"), False),
            (site.issue("prometheus", "DNS:prometheus.example"), True),
        ):
            context = ssl.create_default_context(cafile=site.certificate)
            if pair is not None:
                context.load_cert_chain(pair.certificate, pair.key)
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(connector=connector) as session:
                try:
                    async with session.get(f"{url}/metrics") as answer:
                        assert served
                        text = await answer.text()
                except aiohttp.ClientError:
                    assert not served
    assert 'refused_connections_total{node="n1",reason="certificate"}' in text
    assert 'refused_connections_total{node="n1",reason="handshake"}' in text
    assert 'source_state{node="n1",source="tls",state="stale"} 1' in text
    await asyncio.to_thread(agent.journal.close)


async def test_doctor_tells_what_is_wrong_and_what_to_do(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """Of the agent's own certificate, and of the aggregator's."""
    agent = Bench(
        tmp_path, settings={"listen": "127.0.0.1:0", "tls_server_config": tls(site, shown)}
    )
    async with listening(agent.agent) as url:
        far = {"url": url, "timeout": "5s"}
        for aggregator, state, fix in (
            (far, State.FAILING, "set aggregator.ca to the certificate"),
            ({**far, "ca": site.certificate}, State.FAILING, "set aggregator.certificate and"),
            ({**far, "token_file": tmp_path / "no"}, State.FAILING, "correct aggregator.url"),
        ):
            settings = AgentSettings(data_dir=tmp_path, aggregator=aggregator)
            finding = await _delivery(settings)
            assert (finding.state, fix in finding.fix) == (state, True), finding
    await asyncio.to_thread(agent.journal.close)
    wrong = AgentSettings(
        data_dir=tmp_path,
        tls_server_config={"cert_file": shown.certificate, "key_file": site.certificate},
    )
    (finding,) = await asyncio.to_thread(_certificates, wrong)
    assert (finding.state, "holds no key" in finding.detail) == (State.FAILING, True)


def test_the_advertised_address_tells_of_tls() -> None:
    """Whether it is set or found; not where nobody else reaches it."""
    tls = {"cert_file": "a", "key_file": "b"}
    make = AgentSettings.model_validate
    own = {"node": "n1", "listen": ":9745", "data_dir": "/nowhere"}
    assert make(own).advertised == "n1:9745"
    assert make({**own, "tls_server_config": tls}).advertised == "https://n1:9745"
    named = {**own, "tls_server_config": tls, "advertise": "n1.example:443"}
    assert make(named).advertised == "https://n1.example:443"
    assert make({**own, "tls_server_config": tls, "listen": "127.0.0.1:9745"}).advertised == ""
