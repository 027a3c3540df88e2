"""What `linewatch check` says of bridges' files and addresses, with the line, without a connection."""

from pathlib import Path

import pytest

from config.cli import main
from tests.certificates import make_certificate

HEAD = "version: 1\nsite: a\nline: b\ncameras: {top: {source: {type: pattern}}}\nbridges:\n"
WEBHOOK = "type: webhook, url: 'https://h', secret: {env: MES}"
OPCUA = "type: opcua, clients: {mes: {cert_file: mes-cert.pem}}"


def check(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *bridges: str
) -> tuple[int, list[str]]:
    """Exit code and what was said on stderr, without the folder's name."""
    monkeypatch.setenv("MES", "0123456789abcdef")
    monkeypatch.chdir(folder)
    Path("cameras.yaml").write_text(HEAD + "".join(f"  {bridge}\n" for bridge in bridges))
    code = main(["check", "cameras.yaml", "--offline"])
    said = capsys.readouterr().err.replace(f"{folder}/", "").splitlines()
    return code, [line for line in said if "cameras.top.model" not in line]  # nobody has trained it here


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of every kind, each made once."""
    folder = tmp_path_factory.mktemp("files")
    make_certificate(folder, "ours", uri="urn:linewatch:a:b")
    make_certificate(folder, "mes", uri="urn:mes")
    make_certificate(folder, "old", uri="urn:linewatch:a:b", expired=True)
    for kind in ("cert", "key"):  # as `openssl pkcs12` writes them, and who makes a bundle of authorities
        pem = (folder / f"ours-{kind}.pem").read_text()
        (folder / f"words-{kind}.pem").write_text(f"Bag Attributes\n    friendlyName: Főnök\n{pem}")
    make_certificate(folder, "curve", uri="urn:linewatch:a:b", rsa_key=False)
    (folder / "text.pem").write_text("no certificate\n")
    return folder


WRONG = {
    f"m: {{{WEBHOOK}, tls: {{ca_file: none.pem}}}}": [
        "m.tls.ca_file: the certificate authority none.pem can't be read: No such file or directory"
    ],
    f"m: {{{WEBHOOK}, tls: {{ca_file: text.pem}}}}": [
        "m.tls.ca_file: text.pem holds no certificate, expected PEM"
    ],
    f"m: {{{WEBHOOK}, tls: {{ca_file: old-cert.pem}}}}": [
        "m.tls.ca_file: the certificate authority old-cert.pem expired on DATE; no server would be trusted"
    ],
    f"m: {{{WEBHOOK}, tls: {{cert_file: old-cert.pem, key_file: none.pem}}}}": [
        "m.tls.cert_file: the certificate old-cert.pem expired on DATE; nobody would trust it",
        "m.tls.key_file: the key none.pem can't be read: No such file or directory",
    ],
    "m: {type: mqtt, url: 'mqtts://h', tls: {cert_file: ours-cert.pem, key_file: mes-key.pem}}": [
        "m.tls.key_file: mes-key.pem is not the key of ours-cert.pem"
    ],
    f"m: {{{OPCUA}, tls: {{cert_file: mes-cert.pem, key_file: mes-key.pem}}}}": [
        "m.tls.cert_file: mes-cert.pem does not name the URI urn:linewatch:a:b"
    ],
    f"m: {{{OPCUA}, tls: {{cert_file: curve-cert.pem, key_file: curve-key.pem}}}}": [
        "m.tls.cert_file: curve-cert.pem is for another kind of key than RSA, which OPC UA needs"
    ],
    "m: {type: opcua, clients: {mes: {cert_file: old-cert.pem}}, users_file: users.yaml, "
    "tls: {cert_file: ours-cert.pem, key_file: ours-key.pem}}": [
        "m.clients.mes.cert_file: the certificate old-cert.pem expired on DATE; nobody would trust it",
        "m.users_file: The users file users.yaml can't be read: No such file or directory; make it with "
        "`linewatch users --file users.yaml add NAME --role admin`.",
    ],
    f"m: {{{WEBHOOK}, state_dir: text.pem}}": ["m.state_dir: text.pem is no folder"],
    f"m: {{{WEBHOOK}, state_dir: {'x' * 300}}}": [
        f"m.state_dir: {'x' * 300} can't be reached: File name too long"
    ],
    "m: {type: modbus, listen: '127.0.0.1:8080', stations: {top: {address: 100}}}": [
        "m.listen: 127.0.0.1:8080 is taken by the page (web.listen)"
    ],
}


@pytest.mark.parametrize("bridge", WRONG)
def test_what_is_wrong_with_a_bridges_files_is_said_with_its_line(
    bridge: str, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = check(files, capsys, monkeypatch, bridge)
    assert code == 2
    assert [_without_date(line) for line in said] == [
        f"cameras.yaml:6: bridges.{text}" for text in WRONG[bridge]
    ]


def _without_date(line: str) -> str:
    before, on, after = line.partition("expired on ")
    return f"{before}{on}DATE{after[10:]}" if on else line


def test_two_bridges_that_want_the_same_are_told(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mqtt = "{type: mqtt, url: 'mqtt://h'"
    code, said = check(files, capsys, monkeypatch, f"m: {mqtt}}}", f"n: {mqtt}, topics: sparkplug}}")
    name = "the name linewatch-SITE-LINE at h:1883"
    assert (code, said) == (2, [f"cameras.yaml:7: bridges.n.client_id: {name} is taken by bridge m"])


def test_a_bridge_that_another_machine_may_run_is_warned_of(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = f"m: {{{WEBHOOK}, autostart: false, tls: {{ca_file: none.pem}}}}"
    code, said = check(files, capsys, monkeypatch, bridge)
    assert (code, len(said)) == (0, 1)
    assert said[0].startswith("warning: cameras.yaml:6: bridges.m.tls.ca_file: ")


def test_what_is_right_is_not_complained_of(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = "tls: {cert_file: ours-cert.pem, key_file: ours-key.pem}"
    bridges = (
        f"m: {{{WEBHOOK}, tls: {{ca_file: mes-cert.pem}}}}",
        f"n: {{{WEBHOOK}, tls: {{ca_file: words-cert.pem}}}}",
        f"r: {{{WEBHOOK}, tls: {{cert_file: words-cert.pem, key_file: words-key.pem}}}}",
        f"o: {{{OPCUA}, {ours}}}",
        f"q: {{type: mqtt, url: 'mqtts://h', {ours}}}",
        "p: {type: modbus, stations: {top: {address: 100}}}",
    )
    assert check(files, capsys, monkeypatch, *bridges) == (0, [])
