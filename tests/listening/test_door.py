"""Whoever dawdles is cut off, whoever crowds keeps himself out, and everybody else is served."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web

from tests.certificates import Authority, Pair, shown, site
from wattkeeper.listening import door
from wattkeeper.listening.connection import Limits, SlowBodyError
from wattkeeper.listening.keeper import Keeper, address_of
from wattkeeper.tls.config import TlsServerSection
from wattkeeper.tls.server import ServerCertificates

__all__ = ["shown", "site"]

HASTE = Limits(connections=20, per_address=10, header_s=0.3, body_s=0.3, answer_s=0.3, idle_s=30.0)
_QUICK = 10.0
"""Seconds in which all has to be over on a busy machine."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Place:
    """A listener and its book."""

    keeper: Keeper
    url: str
    port: int

    async def connect(self) -> Streams:
        """Return a new connection, on which nothing was said yet."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def served(self) -> bool:
        """Tell whether a question on a new connection is answered."""
        reader, writer = await self.connect()
        try:
            return (await ask(reader, writer)).startswith(b"HTTP/1.1 200")
        except (ConnectionError, asyncio.IncompleteReadError):
            return False
        finally:
            writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection; return the answer's header."""
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _QUICK)
    await reader.readexactly(2)
    return answer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the other end closes."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), _QUICK)
    return b""


@contextlib.asynccontextmanager
async def place(
    limits: Limits = HASTE, certificates: ServerCertificates | None = None
) -> AsyncIterator[Place]:
    """Listen with a small application."""
    keeper = Keeper(limits, Counter())

    async def ok(request: web.Request) -> web.Response:
        try:
            await request.read()
        except SlowBodyError as error:
            return web.Response(status=408, text=str(error))
        return web.Response(text="ok")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 << 20))

    app = web.Application(middlewares=[keeper.hurry])
    app.add_routes([web.get("/", ok), web.post("/", ok), web.get("/large", large)])
    runner = door.runner(app, keeper, shutdown_s=1)
    await runner.setup()
    listener = door.Door(runner, "127.0.0.1", 0, keeper, certificates)
    await listener.start()
    try:
        yield Place(keeper, listener.name, listener.port)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nX: "],
    ids=["nothing", "line", "field"],
)
async def test_a_header_that_does_not_come_to_its_end(said: bytes) -> None:
    """Nothing, and a byte now and then: ended by the time of the first byte, not of the last."""
    async with place() as here:
        reader, writer = await here.connect()
        dripping = asyncio.create_task(drip(writer, said, b"x"))
        assert await ended(reader) == b""
        dripping.cancel()
        writer.close()
        assert {"header": 1} == here.keeper.refused
        assert await here.served()


async def drip(writer: asyncio.StreamWriter, first: bytes, more: bytes) -> None:
    """Say something, then ever a little more."""
    writer.write(first)
    while first and not writer.is_closing():
        await asyncio.sleep(0.05)
        writer.write(more)


async def test_a_second_header_has_its_time_too() -> None:
    """A connection that was served once may rest, and may not dawdle."""
    async with place() as here:
        reader, writer = await here.connect()
        await ask(reader, writer)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), HASTE.header_s * 2)
        await ask(reader, writer)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await ended(reader) == b""
        writer.close()
        assert {"header": 1} == here.keeper.refused


async def test_a_body_that_drips_is_408() -> None:
    """Who sends it is told; the connection ends."""
    async with place() as here:
        reader, writer = await here.connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        dripping = asyncio.create_task(drip(writer, head, b"x"))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _QUICK)
        await ended(reader)
        dripping.cancel()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408")
        assert here.keeper.refused["body"] == 1
        assert await here.served()


async def test_an_answer_that_is_not_read_ends() -> None:
    """Its memory is free again."""
    async with place() as here:
        reader, writer = await here.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(_QUICK):
            while not here.keeper.refused["answer"]:
                await asyncio.sleep(0.05)
            while len(here.keeper):
                await asyncio.sleep(0.05)
        writer.close()
        assert len(await ended(reader)) < 64 << 20


async def test_silent_ones_make_room_and_served_ones_stay() -> None:
    """A flood of one address keeps itself out; who was served once keeps his connection."""
    async with place(replace(HASTE, header_s=30.0)) as here:
        served = [await here.connect() for _ in range(3)]
        for streams in served:
            await ask(*streams)
        flood = [await here.connect() for _ in range(60)]
        assert await here.served()
        for streams in served:
            await ask(*streams)
        assert len(here.keeper) <= HASTE.per_address
        assert here.keeper.refused["address"] >= 50
        for _, writer in (*flood, *served):
            writer.close()


async def test_where_all_were_served_there_is_no_room_for_more() -> None:
    """Until one of them goes."""
    async with place() as here:
        served = [await here.connect() for _ in range(HASTE.per_address)]
        for streams in served:
            await ask(*streams)
        assert not await here.served()
        assert {"address": 1} == here.keeper.refused
        served[0][1].close()
        async with asyncio.timeout(_QUICK):
            while not await here.served():
                await asyncio.sleep(0.02)
        for _, writer in served:
            writer.close()


async def test_a_handshake_that_does_not_begin_ends(site: Authority, shown: Pair) -> None:
    """And who comes meanwhile is served, over TLS; who speaks plain HTTP is counted."""
    section = TlsServerSection(cert_file=shown.certificate, key_file=shown.key)
    certificates = await asyncio.to_thread(ServerCertificates, section)
    context = ssl.create_default_context(cafile=site.certificate)
    async with place(certificates=certificates) as here:
        silent = [await here.connect() for _ in range(HASTE.per_address + 5)]
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(here.url) as answer,
        ):
            assert (answer.status, here.url[:5]) == (200, "https")
            (served,) = (one for one in here.keeper._all if one not in here.keeper._silent)
            buffer = served._transport._ssl_protocol._ssl_buffer  # type: ignore[union-attr]
            assert len(buffer) == 16 << 10, "asyncio has changed: what does a connection take now?"
        for reader, writer in silent:
            assert await ended(reader) == b""
            writer.close()
        assert here.keeper.refused["handshake"] >= 5
        assert here.keeper.refused["address"] >= 5
        assert not await here.served()


async def test_what_says_to_be_compressed_is_not_inflated() -> None:
    """A bomb would be inflated before anybody asked whether it may be sent."""
    async with place() as here, aiohttp.ClientSession() as session:
        data = b"no gzip at all"
        headers = {"Content-Encoding": "gzip"}
        async with session.post(here.url, data=data, headers=headers) as answer:
            assert answer.status == 200


def test_whose_an_address_is() -> None:
    """A host of IPv6 has a whole network of addresses, and one of IPv4 may look like one of 6."""
    for peer, expected in (
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        ("", ""),
    ):
        assert address_of(peer) == expected
