"""Certificates of bridges as they lie on the disk: of any name, and renewed while a bridge runs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Client
from cryptography import x509

from tests.bridgeline import BridgeLine, running
from tests.brokers import until, valkey
from tests.certificates import Certificate, make_certificate
from tests.mosquitto import PASSWORD, USER, Mosquitto
from tests.system.test_bridge_opcua import CLIENT_URI, address_of, secure_client, secured, users_file, value
from tests.webhook_peer import SECRET, Peer

URI = "urn:linewatch:test:line-1"


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


def number(certificate: Certificate) -> int:
    return x509.load_pem_x509_certificate(certificate.cert_file.read_bytes()).serial_number


async def shown(address: str) -> int:
    """The serial number of the certificate that an OPC UA server shows who asks for its endpoints."""
    (first, *_) = await Client(address).connect_and_get_server_endpoints()
    return x509.load_der_x509_certificate(first.ServerCertificate).serial_number


async def until_shown(address: str, certificate: Certificate) -> None:
    while await shown(address) != number(certificate):  # noqa: ASYNC110 - a client asks
        await asyncio.sleep(0.05)


async def test_an_opcua_server_shows_its_new_certificate_and_its_clients_stay_connected(
    line: BridgeLine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It showed the old one until it was started again, which nobody did before it had expired."""
    caplog.set_level("INFO")
    own = make_certificate(tmp_path, "server", uri=URI)
    theirs = make_certificate(tmp_path, "client", uri=CLIENT_URI)
    told = secured(tmp_path, own, f'clients: {{mes: {{cert_file: "{theirs.cert_file}"}}}}')
    async with running(line, "scada", told) as bridge:
        address = await address_of(bridge)
        assert await shown(address) == number(own)
        async with await secure_client(address, theirs) as early:
            await until_shown(address, make_certificate(tmp_path, "server", uri=URI))
            assert await value(early, "Linewatch.Site") == "test"
            caplog.clear()
            renewed = make_certificate(tmp_path, "client", uri=CLIENT_URI)
            await until(lambda: "read its certificates anew" in caplog.text)
            async with await secure_client(address, renewed) as late:
                assert await value(late, "Linewatch.Site") == "test"


async def test_an_opcua_server_goes_by_what_is_in_a_file_and_not_by_its_name(
    line: BridgeLine, tmp_path: Path
) -> None:
    """PEM in a file NAME.crt, as most authorities give it, was taken for DER and refused."""
    own = make_certificate(tmp_path, "server", uri=URI)
    named = Certificate(own.cert_file.rename(tmp_path / "a.crt"), own.key_file.rename(tmp_path / "a.key"))
    told = secured(tmp_path, named, f'users_file: "{users_file(tmp_path)}"')
    async with running(line, "scada", told) as bridge:
        assert await shown(await address_of(bridge)) == number(named)


async def test_an_opcua_server_goes_on_with_its_certificate_until_the_new_one_is_whole(
    line: BridgeLine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = make_certificate(tmp_path, "server", uri=URI)
    theirs = make_certificate(tmp_path, "client", uri=CLIENT_URI)
    before = number(own)
    told = secured(tmp_path, own, f'users_file: "{users_file(tmp_path)}"')
    async with running(line, "scada", told) as bridge:
        address = await address_of(bridge)
        (tmp_path / "apart").mkdir()
        new = make_certificate(tmp_path / "apart", "server", uri=URI)
        new.cert_file.replace(own.cert_file)
        await until(lambda: "is not the key of" in caplog.text)
        assert await shown(address) == before
        client = await secure_client(address, theirs)
        client.set_user("vera")
        client.set_password("vera-password")
        async with client:
            assert await value(client, "Linewatch.Site") == "test"
        new.key_file.replace(own.key_file)
        await until_shown(address, own)
        assert bridge.report.trouble is None


def tls_peer(certificate: Certificate, port: int = 0) -> Peer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    return Peer(context, port)


async def test_a_webhook_trusts_what_its_ca_file_says_now(line: BridgeLine, tmp_path: Path) -> None:
    """Once the peer had another authority, events waited until the bridge was started again."""
    old = make_certificate(tmp_path, "peer", hosts=("127.0.0.1",))
    first = tls_peer(old)
    tls = f'tls: {{ca_file: "{old.cert_file}"}}'
    async with running(
        line, "mes", f'mes: {{type: webhook, url: "{first.url}", secret: "{SECRET}", {tls}}}'
    ) as bridge:
        with first:
            line.verdict("A-1")
            await until(lambda: bridge.report.delivered == 1)
        with tls_peer(make_certificate(tmp_path, "peer", hosts=("127.0.0.1",)), first.port):
            line.verdict("A-2")
            await until(lambda: bridge.report.delivered == 2)


@pytest.mark.debian
async def test_an_mqtt_bridge_trusts_what_its_ca_file_says_now(line: BridgeLine, tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "mqtt", hosts=("127.0.0.1",))
    async with Mosquitto(tmp_path, old) as mosquitto:
        tls = f'username: {USER}, password: "{PASSWORD}", tls: {{ca_file: "{old.cert_file}"}}'
        told = f'scada: {{type: mqtt, url: "mqtts://127.0.0.1:{mosquitto.port}", {tls}}}'
        async with running(line, "scada", told) as bridge:
            line.verdict("A-1")
            await until(lambda: bridge.report.delivered == 1)
            await mosquitto.stop()
            make_certificate(tmp_path, "mqtt", hosts=("127.0.0.1",))
            await mosquitto.start()
            line.verdict("A-2")
            await until(lambda: bridge.report.delivered == 2)
