"""Deliveries over TLS, as agents make them: whom each side believes, and what it says if not."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from tests.aggregator.conftest import settings
from tests.aggregator.feeding import START_MS, Feeder
from tests.certificates import LOCAL, Authority, Pair, shown, site, stranger
from wattkeeper.agent.transport import HttpTransport, RefusedError, UnreachableError
from wattkeeper.aggregator.opening import StartError
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.tls.client import ClientCertificates
from wattkeeper.tls.validity import validity

__all__ = ["shown", "site", "stranger"]


def mutual(site: Authority) -> dict[str, Any]:
    """Return what lets an aggregator want certificates of a site."""
    return {
        "tls_client_auth_type": "RequireAndVerifyClientCert",
        "tls_client_ca_file": site.certificate,
    }


@contextlib.asynccontextmanager
async def running(folder: Path, pair: Pair, **more: Any) -> AsyncIterator[Aggregator]:
    """Run an aggregator that shows a pair; `tls_…` are keys of its table."""
    tls = {key.removeprefix("tls_"): more.pop(key) for key in list(more) if key.startswith("tls_")}
    tls |= {"cert_file": pair.certificate, "key_file": pair.key}
    chosen = await asyncio.to_thread(settings, folder / "data", tls_server_config=tls, **more)
    aggregator = Aggregator(chosen, now_ms=lambda: START_MS + 60_000)
    await aggregator.start()
    try:
        yield aggregator
    finally:
        await aggregator.stop()


@contextlib.asynccontextmanager
async def agent(
    url: str, ca: Path | None, pair: Pair | None = None, **more: Any
) -> AsyncIterator[HttpTransport]:
    """Return an agent's way to an aggregator."""
    certificate, key = (None, None) if pair is None else (pair.certificate, pair.key)
    certificates = ClientCertificates(ca, certificate, key, "aggregator.")
    way = HttpTransport(url, None, 10, certificates=certificates, **more)
    try:
        yield way
    finally:
        await way.close()


async def test_wrong_certificates_of_the_aggregator_say_what_to_do(
    site: Authority, stranger: Authority, shown: Pair, tmp_path: Path
) -> None:
    """Another authority, another name, an end in the past, no TLS at all."""
    async with running(tmp_path, shown) as aggregator:
        assert aggregator.url.startswith("https://127.0.0.1:")
        async with agent(aggregator.url, site.certificate) as way:
            await way.send(Feeder().batch([]))
            await way.knock()
        text, _ = await asyncio.to_thread(aggregator.exporter.render)
        ends = (await asyncio.to_thread(validity, shown.certificate)).end.timestamp()
        told = re.search(rb"^wattkeeper_certificate_expiry\w+ (\S+)$", text, re.MULTILINE)
        assert told is not None
        assert float(told[1]) == ends
        for url, ca, fix in (
            (aggregator.url, stranger.certificate, "set aggregator.ca to the certificate"),
            (aggregator.url, None, "set aggregator.ca to the certificate"),
            (aggregator.url.replace("https", "http"), None, "Then write https://"),
        ):
            async with agent(url, ca) as way:
                with pytest.raises(UnreachableError, match=fix) as error:
                    await way.knock()
                assert fix in error.value.fix
    for name, days, fix in (("other.example", 2, "use a name that is in it"), ("", -1, "renew it")):
        pair = site.issue("wrong", *([f"DNS:{name}"] if name else LOCAL), days=days)
        async with (
            running(tmp_path, pair) as aggregator,
            agent(aggregator.url, site.certificate) as way,
        ):
            with pytest.raises(UnreachableError, match=fix):
                await way.knock()
            if days < 0:
                found = await asyncio.to_thread(aggregator.findings)
                (finding,) = (one for one in found if one.subject == "tls")
                assert "has expired" in finding.detail


async def test_agents_have_to_show_a_certificate(
    site: Authority, stranger: Authority, shown: Pair, tmp_path: Path
) -> None:
    """None, an expired one and a stranger's are turned away; another client is served meanwhile."""
    expired = site.issue("n1", "DNS:node001", days=-1)
    async with running(tmp_path, shown, **mutual(site)) as aggregator:
        url, ca = aggregator.url, site.certificate
        for pair, message in (
            (None, "set aggregator.certificate and aggregator.key"),
            (stranger.issue("n1", "DNS:node001"), "not accept aggregator.certificate"),
            (expired, "aggregator.certificate: .* has expired"),
            (site.issue("web", "DNS:node001", usage="serverAuth"), "not accept"),
        ):
            async with agent(url, ca, pair) as way:
                with pytest.raises(UnreachableError, match=message):
                    await way.send(Feeder().batch([]))
        async with agent(url, ca, site.issue("n1", "DNS:node001")) as way:
            await way.send(Feeder().batch([]))
        assert aggregator._counts.cut["handshake"] >= 2


async def test_an_agent_delivers_for_the_node_on_its_certificate_only(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """By its full name, its first label, or its common name; in any case."""
    async with running(tmp_path, shown, **mutual(site)) as aggregator:
        for names in (("x", "DNS:NODE001.example"), ("x", "DNS:node001"), ("node001",)):
            async with agent(aggregator.url, site.certificate, site.issue(*names)) as way:
                await way.send(Feeder().batch([]))
        pair = site.issue("node002", "DNS:node002.example", "DNS:node0011.example")
        async with agent(aggregator.url, site.certificate, pair) as way:
            with pytest.raises(RefusedError, match="node001") as error:
                await way.send(Feeder().batch([]))
            assert error.value.kind == "wrong-node"
            await way.send(Feeder(node="node002", journal="j2", uuid="GPU-2").batch([]))
        assert aggregator._counts.refused["wrong-node"] == 1


async def test_a_certificate_delivers_and_reads_nothing(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """Where tokens are wanted it stands for one of an agent, and for nobody's who asks."""
    own = site.issue("node001", "DNS:node001.example")
    optional = {**mutual(site), "tls_client_auth_type": "VerifyClientCertIfGiven"}
    token = {"token": SecretStr("s3cret"), "access": {"anonymous": "public"}}
    async with running(tmp_path, shown, **optional, **token) as aggregator:
        url, ca = aggregator.url, site.certificate
        async with agent(url, ca, own) as way:
            await way.send(Feeder().batch([]))
        async with agent(url, ca) as way:
            with pytest.raises(RefusedError, match="unauthorized"):
                await way.send(Feeder().batch([]))
            way.show("s3cret")
            await way.send(Feeder().batch([]))
        async with agent(url, ca, own) as way:
            way.show("wr0ng")
            with pytest.raises(RefusedError, match="unauthorized"):
                await way.send(Feeder().batch([]))
        context = await asyncio.to_thread(ClientCertificates(ca, own.certificate, own.key).context)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            for path, status in (("/v1/nodes", 401), ("/metrics", 401), ("/v1/fleet", 200)):
                async with session.get(url + path) as answer:
                    assert (path, answer.status) == (path, status)


async def test_renewal_needs_no_restart_and_loses_no_delivery(
    site: Authority, shown: Pair, tmp_path: Path
) -> None:
    """Certificate of the aggregator, certificate and token of the agent, one after the other."""
    server, client = (Pair(tmp_path / f"{n}.crt", tmp_path / f"{n}.key") for n in ("s", "c"))
    shown.put(server)
    site.issue("n1", "DNS:node001").put(client)
    token = tmp_path / "token"
    token.write_text("first\n")
    feeder = Feeder()
    async with (
        running(tmp_path, server, **mutual(site), token=SecretStr("first")) as aggregator,
        agent(aggregator.url, site.certificate, client, token_file=token) as way,
    ):
        await way.send(feeder.batch(feeder.run(1)))
        connection = way._session
        await way.send(feeder.batch(feeder.run(1)))
        assert way._session is connection  # which stays while nothing changes
        await asyncio.to_thread(site.issue("aggregator", *LOCAL).put, server)
        assert aggregator._certificates is not None
        await asyncio.to_thread(aggregator._certificates.look)
        await asyncio.to_thread(site.issue("n1", "DNS:node001").put, client)
        await way.send(feeder.batch(feeder.run(1)))
        assert way._session is not connection
        aggregator.callers.shared = SecretStr("second")
        waiting = feeder.batch(feeder.run(1))
        with pytest.raises(RefusedError, match="unauthorized"):
            await way.send(waiting)
        await asyncio.to_thread(token.write_text, "second\n")
        ack = await way.send(waiting)
        assert ack.accepted == feeder.first - 1
        await asyncio.to_thread(token.unlink)
        with pytest.raises(UnreachableError, match=r"aggregator\.token_file: .* cannot be read"):
            await way.send(waiting)


async def test_a_wrong_pair_at_the_start_is_told(shown: Pair, tmp_path: Path) -> None:
    """Before a ledger is made."""
    with pytest.raises(StartError, match=r"tls_server_config\.key_file: .* cannot be read"):
        async with running(tmp_path, Pair(shown.certificate, tmp_path / "nowhere")):
            pass
    assert not list((tmp_path / "data").glob("*"))
