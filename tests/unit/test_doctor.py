"""The doctor finds what is wrong and says how to mend it, in one line each, and changes nothing."""

import errno
import fcntl
import os
import socket
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from config.load import parse
from config.services import WebSettings
from config.settings import Settings
from engine.artifact import save
from stream.doctor import folders, machine, models, services
from stream.doctor.findings import Finding
from stream.doctor.visit import visit
from stream.outbox_file import is_held, lock
from tests.certificates import make_certificate
from tests.models import tiny_artifact

CAMERA = "version: 1\ncameras:\n  top: {source: {type: pattern}}\n"
# The kernel refuses folders there, also to root.
NOBODYS = Path("/proc/sys/linewatch")


def settings(folder: Path, more: str = "") -> Settings:
    return parse(CAMERA + more, name="cameras.yaml", folder=folder, env={})


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_package_that_hides_a_module_of_ours_is_named() -> None:
    assert machine.installation().level == "ok"
    clash = machine.installation({"config": ["linewatch", "config-thing"], "engine": ["linewatch"]})
    assert clash.level == "failed"
    assert "config-thing also brings a module config" in clash.text


def test_a_device_that_is_not_there_says_why_and_what_to_do() -> None:
    assert machine.device("cpu").level == "ok"
    asked = machine.device("cuda:7")
    assert asked.level == "failed"
    if torch.version.cuda is None:
        assert "this torch is a build for CPUs; install its CUDA build" in asked.text


def test_codecs_of_the_installed_wheel_are_all_there() -> None:
    assert machine.codecs().level == "ok"


def test_a_clock_that_nobody_keeps_is_told() -> None:
    now = datetime.now(UTC).timestamp()
    assert machine.clock(now, synchronised=True).level == "ok"
    assert "chrony" in machine.clock(now, synchronised=False).text
    assert machine.clock(0.0, synchronised=True).level == "failed"
    assert machine.clock().subject == "clock"


def test_folders_that_do_not_exist_yet_are_fine_and_are_not_made(tmp_path: Path) -> None:
    found = list(folders.folders(settings(tmp_path)))
    assert {finding.level for finding in found} == {"ok"}
    assert len(found) == 7
    assert files(tmp_path) == []


def test_a_folder_that_exists_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    assert {finding.level for finding in folders.folders(settings(tmp_path))} == {"ok"}
    assert files(tmp_path) == [tmp_path / "var"]


def test_where_nobody_may_write_is_told_with_the_key() -> None:
    needed = folders.folder(folders.Place("evidence.dir", NOBODYS))
    assert needed.level == "failed"
    assert needed.text.startswith("/proc/sys/linewatch: ")
    assert "evidence.dir" in needed.text
    assert folders.folder(folders.Place("models.dir", NOBODYS, needed=False)).level == "warning"


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    found = folders.folder(folders.Place("models.dir", tmp_path / "var" / "models"))
    assert "there is a file in its way; name another folder in models.dir" in found.text


@pytest.mark.parametrize(("free_mb", "level"), [(10, "failed"), (500, "warning"), (5000, "ok")])
def test_a_full_disk_is_told_before_it_is_full(free_mb: int, level: str, tmp_path: Path) -> None:
    assert folders.folder(folders.Place("evidence.dir", tmp_path), free_mb).level == level


def test_a_disk_of_another_machine_is_no_place_for_the_outbox(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nnas:/x /srv/my\\040share nfs4 rw 0 0\n")
    assert folders.filesystem_of(Path("/srv/my share/outbox.db"), mounts) == "nfs4"
    assert folders.filesystem_of(Path("/srv/other/outbox.db"), mounts) == "ext4"
    assert folders.filesystem_of(Path("/srv"), tmp_path / "none") == ""


def test_a_running_linewatch_is_noticed_by_its_lock(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    assert not is_held(outbox)
    with (tmp_path / "outbox.db.lock").open("ab") as lock:
        assert not is_held(outbox)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_held(outbox)


def test_our_own_outbox_on_a_disk_that_is_read_only_is_not_called_another_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, owner = settings(tmp_path).events.outbox.path, os.getuid()
    outbox.parent.mkdir()
    outbox.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for uid, texts in ((owner, []), (owner + 1, [f"`chown` it to uid {owner + 1}"])):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        told = [f.text for f in folders.folders(settings(tmp_path)) if "another user" in f.text]
        assert [text.rpartition("; ")[2] for text in told] == texts


def test_an_outbox_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with sqlite3.connect(tmp_path / "var/outbox.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    found = by_subject(list(folders.folders(settings(tmp_path))))["outbox"]
    assert "form 99, this program has 1" in found.text
    assert "start that version once" in found.text


def test_what_the_system_will_not_show_is_told_of_each_and_ends_no_visit(tmp_path: Path) -> None:
    """As to who looks with other rights than the line has; this holds for root too."""
    hidden = "x" * 300
    found = settings(
        tmp_path, f"events: {{outbox: {{path: {hidden}/outbox.db}}}}\nmodels: {{dir: {hidden}}}\n"
    )
    told = by_subject([*folders.folders(found), *models.models(found)])
    assert "can't be read: File name too long" in told["outbox"].text
    assert "can't be read" in told["model of top"].text and told["model of top"].level == "failed"


def test_a_port_in_use_is_told_unless_it_is_our_own_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        web = WebSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert next(services.page(web, running=False)).level == "failed"
        assert next(services.page(web, running=True)).level == "ok"


@pytest.mark.parametrize(
    ("listen", "said"),
    [("192.0.2.1:8080", "no such address"), ("0.0.0.0:8080", "there are no users: name a web.users_file")],
)
def test_an_address_that_can_not_be_served_is_told(listen: str, said: str) -> None:
    found = services.page(WebSettings(listen=listen), running=False)
    assert any(said in finding.text for finding in found if finding.level == "failed")


def test_a_port_that_the_line_may_take_and_who_looks_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `sudo -u linewatch linewatch doctor`, without the right that the unit gives."""

    def refuse(host: str, port: int, kind: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(services, "_bind", refuse)
    web = WebSettings(listen="127.0.0.1:443")
    assert next(services.page(web, running=True)).level == "ok"
    found = next(services.page(web, running=False))
    assert found.level == "warning" and "our systemd unit has" in found.text


def test_video_ports_that_are_all_taken_are_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        assert services.udp_ports(port, port).level == "failed"
    assert services.udp_ports(port, port).level == "ok"


def test_a_certificate_that_ends_is_told_a_month_before(tmp_path: Path) -> None:
    now, file = datetime(2026, 11, 24, tzinfo=UTC), tmp_path / "page.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "linewatch")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .sign(key, SHA256())
    )
    from cryptography.hazmat.primitives.serialization import Encoding

    file.write_bytes(made.public_bytes(Encoding.PEM))
    levels = [services.certificate(file, now + timedelta(days=d)).level for d in (0, 70, 91)]
    assert levels == ["ok", "warning", "failed"]
    file.write_text("no certificate")
    assert "PEM" in services.certificate(file, now).text
    assert "can't be read" in services.certificate(tmp_path / "none", now).text


def test_a_key_that_is_another_certificate_s_is_told_before_the_page_refuses_to_start(tmp_path: Path) -> None:
    ours, other = (make_certificate(tmp_path, name) for name in ("ours", "other"))
    for key_file, level in ((ours.key_file, "warning"), (other.key_file, "failed")):
        tls = {"cert_file": ours.cert_file, "key_file": key_file}
        web = WebSettings.model_validate({"listen": "127.0.0.1:0", "tls": tls})
        found = by_subject(list(services.page(web, running=False)))["web.tls"]
        assert found.level == level
    assert found.text.startswith(
        f"{other.key_file} is not the key of {ours.cert_file}; check web.tls.key_file"
    )


async def test_the_embedded_broker_needs_nothing_and_one_that_is_away_is_told(tmp_path: Path) -> None:
    assert (await services.broker(settings(tmp_path), running=False)).level == "ok"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    away = settings(tmp_path, f"events: {{url: 'redis://127.0.0.1:{port}/0', password: geheim}}\n")
    found = await services.broker(away, running=False)
    assert found.level == "failed"
    assert "can't be reached" in found.text and "geheim" not in found.text


async def test_a_line_that_starts_is_not_said_to_be_away(tmp_path: Path) -> None:
    line = settings(tmp_path)
    with lock(line.events.outbox.path):
        found = await services.broker(line, running=True)
    assert found.level == "ok"
    assert "a Linewatch starts here: models are being loaded" in found.text


def test_models_are_loaded_whole_and_a_foreign_one_says_what_to_do(tmp_path: Path) -> None:
    line = settings(tmp_path)
    assert [finding.level for finding in models.models(line)] == ["warning"]
    made = save(tiny_artifact(real="lite", name="top"), tmp_path / "var/models")
    assert [finding.text for finding in models.models(line)] == ["top@1, lite, 256 px, whole"]
    weights = made / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "altered or cut off" in next(models.models(line)).text
    other = replace(tiny_artifact(real="lite", name="top"), teacher_sha256="0" * 64)
    save(other, tmp_path / "var/models")
    assert "not the teacher this model was trained with" in next(models.models(line)).text


def test_the_teachers_weights_are_checked(tmp_path: Path) -> None:
    assert [finding.level for finding in models.teachers(settings(tmp_path))] == ["ok"]
    wide = settings(tmp_path, "defaults: {model: {size: wide}}\n")
    assert "not installed" in next(models.teachers(wide)).text


async def test_without_a_usable_config_the_machine_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("version: 1\nwbe: {}\n")
    found = [finding async for finding in visit(tmp_path / "c.yaml")]
    assert found[0].level == "failed" and "did you mean web?" in found[0].text
    assert [finding.subject for finding in found[1:]] == ["install", "device", "codecs", "clock"]
