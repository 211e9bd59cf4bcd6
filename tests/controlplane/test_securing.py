"""TLS of the door: which files are taken, how they are followed, and what plain HTTP is told."""

import asyncio
import datetime as dt
import os
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvloop
from cryptography.hazmat.primitives import serialization

from controlplane import doors, errors, securing, settings
from controlplane.cli import authority
from schemas.kits.clocks import SystemClock
from tests.doubles import tlsserver
from tests.doubles.clock import FakeClock
from tests.doubles.polling import until

CLOCK = SystemClock()


@pytest.fixture
def ours(tmp_path: Path) -> authority.Authority:
    return tlsserver.made(tmp_path / "tls")


def taken(file: Path, key: Path | None = None, clock: Any = CLOCK) -> securing.Certificate:
    return securing.Certificate(file, key or file, clock)


def trust(ours: authority.Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ours.certificate_file))


def test_the_names_and_the_end_of_a_certificate(ours: authority.Authority) -> None:
    found = taken(ours.server_file)
    assert found.names == {"127.0.0.1", "[::1]", "localhost"}
    assert dt.timedelta(days=6) < found.ends - CLOCK.now() < dt.timedelta(days=8)
    assert found.context.minimum_version == ssl.TLSVersion.TLSv1_2


def split(server_file: Path) -> tuple[Path, Path]:
    """Key and certificate in files of their own."""
    text = server_file.read_text()
    at = text.index("-----BEGIN CERTIFICATE")
    key, certificate = server_file.with_name("key.pem"), server_file.with_name("cert.pem")
    key.write_text(text[:at])
    certificate.write_text(text[at:])
    return certificate, key


def test_files_that_cannot_be_used_are_named_with_what_to_do(ours: authority.Authority, tmp_path: Path) -> None:
    certificate, key = split(ours.server_file)
    other = split(tlsserver.made(tmp_path / "other").server_file)[1]
    old = tlsserver.made(tmp_path / "old", ago=dt.timedelta(days=30)).server_file
    nonsense, locked = tmp_path / "nonsense.pem", tmp_path / "locked.pem"
    nonsense.write_bytes(b"\x00\xff nonsense")
    locked.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    taken(certificate, key)
    for pair, said in [
        ((certificate, other), "is not that of the certificate"),
        ((certificate, tmp_path / "none.pem"), "none.pem cannot be read"),
        ((certificate, nonsense), "holds no private key in PEM"),
        ((certificate, None), "holds no private key in PEM"),
        ((nonsense, key), "holds no certificate in PEM"),
        ((key, key), "holds no certificate in PEM"),
        ((certificate, locked), "has a passphrase"),
        ((old, None), "ended at"),
    ]:
        with pytest.raises(errors.ModplaneError, match=said):
            taken(*pair)


def test_a_key_without_a_certificate_is_refused(ours: authority.Authority) -> None:
    assert doors.certificate(settings.load([]), CLOCK) is None
    with pytest.raises(errors.ModplaneError, match="give --tls-cert-file too"):
        doors.certificate(settings.load(["--tls-key-file", str(ours.server_file)]), CLOCK)
    found = doors.certificate(settings.load(["--tls-cert-file", str(ours.server_file)]), CLOCK)
    assert found is not None
    assert "localhost" in found.names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--control-host", "0.0.0.0"], "tokens would travel in the clear"),
        (["--control-host", "0.0.0.0", "--control-anonymous", "viewer"], "lets everybody in"),
    ],
)
def test_a_door_for_other_machines_needs_tls_and_tokens(words: list[str], said: str) -> None:
    with pytest.raises(errors.ModplaneError, match=said):
        doors.opened(settings.load([*words, "--control-port", "0"]))


def test_a_door_with_a_certificate_may_be_for_other_machines(ours: authority.Authority) -> None:
    words = ["--control-host", "0.0.0.0", "--control-port", "0", "--tls-cert-file", str(ours.server_file)]
    with doors.opened(settings.load(words)) as door:
        assert doors.url(door, taken(ours.server_file)).startswith("https://0.0.0.0:")
        assert doors.url(door, None).startswith("http://")


class App:
    """As much of an application as a door needs."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def open_door(shown: securing.Certificate) -> AsyncIterator[str]:
    door = socket.create_server(("127.0.0.1", 0))
    server = doors.Server(App(), shown)
    task = asyncio.create_task(server.serve(sockets=[door]))
    try:
        await until(lambda: server.started)
        yield doors.url(door, shown)
    finally:
        server.should_exit = True
        await task
        door.close()


def serial(shown: bytes | None) -> bytes:
    assert shown is not None
    return shown


def shown_at(url: str, trusted: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown."""
    place = httpx.URL(url)
    with (
        socket.create_connection((place.host, place.port), 30) as line,
        trusted.wrap_socket(line, server_hostname=place.host) as talk,
    ):
        return serial(talk.getpeercert(binary_form=True))


async def test_replaced_files_are_shown_to_new_connections_and_bad_ones_never(ours: authority.Authority) -> None:
    clock = FakeClock(CLOCK.now())
    shown = taken(ours.server_file, clock=clock)
    following = asyncio.create_task(shown.run())
    trusted = trust(ours)
    async with open_door(shown) as url, httpx.AsyncClient(base_url=url, verify=trusted) as kept:
        assert (await kept.get("/")).text == "ok"
        first = await asyncio.to_thread(shown_at, url, trusted)
        ours.issue(CLOCK.now())
        await clock.advance(61)
        second = await asyncio.to_thread(shown_at, url, trusted)
        assert second != first
        good = ours.server_file.read_bytes()
        certificate = good[good.index(b"-----BEGIN CERTIFICATE") :]
        ours.issue(CLOCK.now())
        for bad in (b"nonsense", certificate, ours.server_file.read_bytes()[:241] + certificate):
            ours.server_file.write_bytes(bad)
            with structlog.testing.capture_logs() as logged:
                await clock.advance(61)
            assert [line["event"] for line in logged] == ["new certificate refused, the old one is shown on"]
            assert await asyncio.to_thread(shown_at, url, trusted) == second
        os.unlink(ours.server_file)
        await clock.advance(61)
        assert await asyncio.to_thread(shown_at, url, trusted) == second
        assert (await kept.get("/")).text == "ok"
    following.cancel()


async def test_an_end_that_comes_near_is_told_once(ours: authority.Authority) -> None:
    clock = FakeClock(CLOCK.now())
    following = asyncio.create_task(taken(ours.server_file, clock=clock).run())
    await clock.settle()
    with structlog.testing.capture_logs() as logged:
        clock.jump(4 * 86_400)
        await clock.advance(200)
        assert logged == []
        clock.jump(2 * 86_400)
        await clock.advance(200)
    assert [(line["event"], line["log_level"]) for line in logged] == [("certificate ends soon", "warning")]
    following.cancel()


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_plain_http_is_told_to_use_https_and_other_noise_is_not_answered(
    ours: authority.Authority, factory: Any
) -> None:
    async def say(url: str, words: bytes) -> bytes:
        place = httpx.URL(url)
        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(words)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def body() -> None:
        async with open_door(taken(ours.server_file)) as url:
            async with httpx.AsyncClient() as plain:
                answer = await plain.get(url.replace("https", "http"))
            assert answer.status_code == 400
            assert "https only" in answer.text
            assert not (await say(url, b"\x00\x01\x02nonsense\r\n\r\n")).startswith(b"HTTP")
            async with httpx.AsyncClient(verify=trust(ours)) as good:
                assert (await good.get(url)).text == "ok"
                # an idle connection is still open here: the door does not wait for it to say good-bye

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())


@pytest.mark.parametrize(("version", "welcome"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
async def test_tls_is_1_2_or_newer(ours: authority.Authority, version: str, welcome: bool) -> None:
    trusted = trust(ours)
    trusted.set_ciphers("ALL:@SECLEVEL=0")
    trusted.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that 1.1 is obsolete is the point
        trusted.maximum_version = ssl.TLSVersion[version]
    async with open_door(taken(ours.server_file)) as url:
        try:
            await asyncio.to_thread(shown_at, url, trusted)
        except (ssl.SSLError, ConnectionError):
            assert not welcome
        else:
            assert welcome
