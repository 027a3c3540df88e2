"""Logins, roles and TLS over a real server."""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.core import ModelInfo
from stream.web import server, users
from stream.web.errors import ListenError
from stream.web.page import LivePage
from stream.web.users import UsersError, UsersFile
from stream.web.view import LineActions
from tests.webline import MODEL, FakeLine, inspection

API = "/api/v1"
LEVEL = {"level": 1.1, "base": MODEL.threshold}
PASSWORD = "correct horse battery"
COOKIE = "linewatch-plant-a-line-1"
TOKENS: dict[str, str] = {}


@pytest.fixture(scope="module")
def content() -> UsersFile:
    """One user and one machine of each role; hashing is slow on purpose, so once."""
    made = UsersFile()
    for role in users.ROLES:
        made = users.with_user(made, role, role, PASSWORD)
        made, TOKENS[role] = users.with_token(made, f"machine-{role}", role)
    return made


@pytest.fixture
def users_file(content: UsersFile, tmp_path: Path) -> Path:
    users.write(tmp_path / "users.yaml", content)
    return tmp_path / "users.yaml"


@pytest_asyncio.fixture
async def http(users_file: Path) -> AsyncIterator[httpx.AsyncClient]:
    async def set_threshold(camera: str, raw: float | None, of: ModelInfo | None) -> ModelInfo:
        return MODEL

    actions = LineActions(set_threshold)
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", users_file=users_file, actions=actions)
    await page.start()
    page.show(inspection())
    async with httpx.AsyncClient(base_url=page.url, timeout=10) as client:
        yield client
    await page.stop()


async def login(http: httpx.AsyncClient, user: str, password: str = PASSWORD) -> httpx.Response:
    return await http.post(f"{API}/login", json={"user": user, "password": password})


async def test_without_a_login_only_the_form_and_the_probes_answer(http: httpx.AsyncClient) -> None:
    for path in ("/", "/static/app.js", "/live", "/ready", "/startup", f"{API}/me"):
        assert (await http.get(path)).status_code == 200
    for path in (
        f"{API}/cameras",
        f"{API}/live",
        f"{API}/cameras/top/mjpeg",
        "/metrics",
        f"{API}/openapi.json",
        "/x",
    ):
        assert (await http.get(path)).status_code == 401
    assert (await http.post("/whep/top", content="")).status_code == 401


async def test_a_login_opens_what_its_role_may_and_a_logout_closes_it(http: httpx.AsyncClient) -> None:
    answer = await login(http, "viewer")
    assert answer.json() == {"user": "viewer", "role": "viewer", "login": True}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert (await http.get(f"{API}/cameras")).status_code == 200
    assert (await http.put(f"{API}/cameras/top/threshold", json=LEVEL)).status_code == 403
    await http.post(f"{API}/logout")
    assert (await http.get(f"{API}/cameras")).status_code == 401


async def test_the_old_cookie_is_worth_nothing_after_a_logout(http: httpx.AsyncClient) -> None:
    await login(http, "admin")
    cookie = f"{COOKIE}={http.cookies[COOKIE]}"
    await http.post(f"{API}/logout")
    assert (await http.get(f"{API}/cameras", headers={"cookie": cookie})).status_code == 401


async def test_a_login_at_one_line_is_none_less_at_another_of_the_same_host(
    http: httpx.AsyncClient, users_file: Path
) -> None:
    second = replace(FakeLine.of("top").view(), line="line-2")
    page = LivePage(second, listen="127.0.0.1:0", users_file=users_file)
    await page.start()
    await login(http, "admin")
    await http.post(f"{page.url}api/v1/login", json={"user": "viewer", "password": PASSWORD})
    for address, who in ((http.base_url, "admin"), (page.url, "viewer")):
        assert (await http.get(f"{address}api/v1/me")).json()["user"] == who
    await page.stop()


async def test_only_an_admin_sets_the_alarm_level(http: httpx.AsyncClient) -> None:
    for role, status in (("viewer", 403), ("operator", 403), ("admin", 200)):
        headers = {"authorization": f"Bearer {TOKENS[role]}"}
        answer = await http.put(f"{API}/cameras/top/threshold", json=LEVEL, headers=headers)
        assert answer.status_code == status


async def test_nonsense_for_a_token_or_a_cookie_is_nobody(http: httpx.AsyncClient) -> None:
    for value in ("", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "x" * 5000):
        assert (await http.get(f"{API}/cameras", headers={"authorization": value})).status_code == 401, value
    for value in ("", f"{COOKIE}=", f"{COOKIE}=x", f'{COOKIE}="', "=;=;", f"{COOKIE}=" + "x" * 5000):
        assert (await http.get(f"{API}/cameras", headers={"cookie": value})).status_code == 401, value


async def test_guessing_is_slowed_down_even_when_all_guesses_come_at_once(http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(login(http, "admin", f"guess number {i}") for i in range(12)))
    said = sorted(answer.status_code for answer in answers)
    assert said == [401] * 5 + [429] * 7
    refused = await login(http, "admin")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


async def test_a_login_from_another_sites_page_is_refused(http: httpx.AsyncClient) -> None:
    said = {"user": "admin", "password": PASSWORD}
    answer = await http.post(f"{API}/login", json=said, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


async def test_a_user_who_is_removed_is_out_at_once(http: httpx.AsyncClient, users_file: Path) -> None:
    await login(http, "operator")
    assert (await http.get(f"{API}/cameras")).status_code == 200
    users.write(users_file, users.without(users.read(users_file), "operator"))
    assert (await http.get(f"{API}/cameras")).status_code == 401


async def test_another_password_ends_the_sessions_of_the_old_one(
    http: httpx.AsyncClient, users_file: Path
) -> None:
    await login(http, "operator")
    users.write(
        users_file, users.with_user(users.read(users_file), "operator", "operator", "another password")
    )
    assert (await http.get(f"{API}/cameras")).status_code == 401
    assert (await login(http, "operator", "another password")).status_code == 200
    assert (await http.get(f"{API}/cameras")).status_code == 200


async def test_what_is_open_ends_with_the_right_to_look(
    http: httpx.AsyncClient, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.web.access._LOOK_EVERY_S", 0.05)
    await login(http, "viewer")
    async with (
        http.stream("GET", f"{API}/live") as live,
        http.stream("GET", f"{API}/cameras/top/mjpeg") as pictures,
    ):
        assert live.status_code == pictures.status_code == 200
        users.write(users_file, users.without(users.read(users_file), "viewer"))
        for stream in (live, pictures):
            with contextlib.suppress(httpx.RemoteProtocolError):  # cut short, as nothing says it is complete
                async for _ in stream.aiter_bytes():
                    pass


async def test_wrong_guesses_from_elsewhere_keep_nobody_out(users_file: Path) -> None:
    page = LivePage(FakeLine.of("top").view(), listen="0.0.0.0:0", users_file=users_file)
    await page.start()

    def client(address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=page.url, transport=httpx.AsyncHTTPTransport(local_address=address), timeout=10
        )

    async with client("127.0.0.2") as stranger, client("127.0.0.3") as admin:
        said = [(await login(stranger, "admin", f"guess number {i}")).status_code for i in range(8)]
        assert said == [401] * 5 + [429] * 3
        assert (await login(admin, "admin")).status_code == 200
    await page.stop()


async def test_every_change_and_every_failed_login_leaves_a_line_without_the_password(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "linewatch.audit"):
        await login(http, "admin", "not the password")
        await login(http, "admin")
        await http.put(f"{API}/cameras/top/threshold", json=LEVEL)
        await http.get(f"{API}/cameras")
    lines = [r.getMessage() for r in caplog.records if r.name == "linewatch.audit"]
    assert "a login as 'admin' from 127.0.0.1 failed" in lines
    assert f"PUT '{API}/cameras/top/threshold' by admin from 127.0.0.1: 200" in lines
    assert not any("password" in line or "GET" in line for line in lines)


async def test_with_users_others_may_be_let_in(users_file: Path) -> None:
    page = LivePage(FakeLine.of("top").view(), listen="0.0.0.0:0", users_file=users_file)
    await page.start()
    async with httpx.AsyncClient(base_url=page.url) as http:
        assert (await http.get("/ready", headers={"host": "10.1.2.3:8080"})).status_code == 200
        refused = await http.get("/ready", headers={"host": "evil.example"})
        assert refused.status_code == 421
        assert "name it in web.allowed_hosts" in refused.json()["detail"]
    await page.stop()


def test_a_users_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="can't be read"):
        LivePage(FakeLine.of("top").view(), users_file=tmp_path / "none.yaml")


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "linewatch test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


async def test_https_with_a_certificate(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", tls=(cert, key))
    await page.start()
    assert page.url.startswith("https://")
    trusted = ssl.create_default_context(cafile=str(cert))
    async with httpx.AsyncClient(base_url=page.url, verify=trusted) as http:
        assert (await http.get("/ready")).status_code == 200
    await page.stop()


async def test_a_certificate_that_was_renewed_counts_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_SWEEP_S", 0.05)
    cert, key = self_signed(tmp_path)
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", tls=(cert, key))
    await page.start()

    async def shown_is(wanted: str) -> None:
        while await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    port = httpx.URL(page.url).port or 0
    async with asyncio.timeout(10):
        await shown_is(cert.read_text())
        self_signed(tmp_path)
        renewed = cert.read_text()
        await shown_is(renewed)
        cert.write_text("half of one")
        while "holds no certificate, expected PEM" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await shown_is(renewed)
    await page.stop()


def test_a_certificate_and_key_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    (tmp_path / "words").write_text("no certificate")
    (tmp_path / "other").mkdir()
    locked, private = tmp_path / "locked.pem", serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    )
    for pair, said in {
        (tmp_path / "words", tmp_path / "words"): "words holds no certificate, expected PEM",
        (cert, tmp_path / "none"): "none can't be read: No such file or directory",
        (cert, self_signed(tmp_path / "other")[1]): "key.pem is not the key of ",
        (cert, locked): "locked.pem is encrypted, expected one without a passphrase",
    }.items():
        with pytest.raises(ListenError, match=f"^web.tls: .*{said}"):
            LivePage(FakeLine.of("top").view(), tls=pair)
