"""Who may do what: roles, the users file, sessions and guesses."""

import argparse
import io
import os
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from config.cli import main
from stream.commands import users as command
from stream.web import users
from stream.web.access import Access, needed
from stream.web.sessions import MAX_SESSIONS, LoginLimit, Sessions
from stream.web.users import ROLES, Users, UsersError, UsersFile

PASSWORD = "correct horse battery"
AGAIN = settings(derandomize=True, max_examples=80, deadline=None)


@pytest.fixture(scope="module")
def content() -> UsersFile:
    """Hashing is slow on purpose, so once."""
    return users.with_user(UsersFile(), "anna", "operator", PASSWORD)


@pytest.fixture
def path(tmp_path: Path, content: UsersFile) -> Path:
    path = tmp_path / "users.yaml"
    users.write(path, content)
    return path


def test_the_right_password_has_a_role_and_a_wrong_one_none(path: Path) -> None:
    known = Users(path)
    assert known.password_role("anna", PASSWORD) == "operator"
    assert known.password_role("anna", PASSWORD + "!") is None
    assert known.password_role("bert", PASSWORD) is None


def test_the_file_holds_no_password_and_is_its_owners(path: Path) -> None:
    assert PASSWORD not in path.read_text()
    assert "$argon2id$" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_changed_file_counts_and_a_broken_one_changes_nothing(path: Path) -> None:
    known = Users(path)
    users.write(path, users.with_user(users.read(path), "bert", "admin", PASSWORD))
    mark = known.mark_of("bert")
    assert known.role_now("bert", mark) == "admin"
    path.write_text("users: [")
    assert known.role_now("bert", mark) == "admin"
    users.write(path, users.with_user(UsersFile(), "bert", "admin", "another password"))
    assert known.role_now("bert", mark) is None and known.mark_of("bert") not in ("", mark)
    users.write(path, users.with_user(UsersFile(), "carl", "viewer", PASSWORD))
    assert known.role_now("bert", mark) is None and known.mark_of("bert") == ""


def test_a_file_that_the_line_may_read_stays_one(path: Path) -> None:
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    users.write(path, users.read(path))
    after = path.stat()
    assert (after.st_mode & 0o777, after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)


def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "users.yaml").mkdir()
    with pytest.raises(UsersError, match=r"users.yaml can't be written: .* or name another web.users_file"):
        users.write(tmp_path / "users.yaml", UsersFile())


def test_a_machine_is_known_by_its_token_only(path: Path) -> None:
    content, token = users.with_token(users.read(path), "mes", "viewer")
    users.write(path, content)
    known = Users(path)
    assert token not in path.read_text()
    assert known.token_role(token) == ("mes", "viewer")
    assert known.token_role(token[:-1]) is None
    assert known.token_role("") is None


@pytest.mark.parametrize(
    "text",
    [
        "users: [",
        "[]",
        "users: {anna: {role: god, password: x}}",
        "users: {anna: {role: admin, password: plain}}",
        "x: 1",
    ],
)
def test_a_broken_file_is_one_sentence_without_what_it_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.yaml"
    path.write_text(text)
    with pytest.raises(UsersError, match=re.escape(str(path))) as said:
        Users(path)
    assert "plain" not in str(said.value)


def test_a_file_that_is_not_there_is_said_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "our users.yaml"
    with pytest.raises(UsersError, match="No such file or directory; make it with ") as said:
        Users(path)
    _, line, _ = str(said.value).split("`")
    assert line == f"linewatch users --file '{path}' add NAME --role admin"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert main(shlex.split(line.replace("NAME", "anna"))[1:]) == 0
    assert Users(path).password_role("anna", PASSWORD) == "admin"


@pytest.mark.parametrize("content", [b"\x89PNG\xff\xfe", b"users: 2026-13-01", b"users: " + b"[" * 5000])
def test_what_is_no_yaml_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "users.yaml").write_bytes(content)
    with pytest.raises(UsersError, match="is not YAML"):
        users.read(tmp_path / "users.yaml")


def test_a_file_without_users_says_what_to_do(tmp_path: Path) -> None:
    users.write(tmp_path / "users.yaml", UsersFile())
    with pytest.raises(UsersError, match=re.escape(f"--file {tmp_path}/users.yaml add NAME --role admin`")):
        Users(tmp_path / "users.yaml")


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "short"), ("Anna", PASSWORD), ("a b", PASSWORD), ("", PASSWORD)]
)
def test_weak_passwords_and_strange_names_are_refused(name: str, password: str) -> None:
    with pytest.raises(UsersError):
        users.with_user(UsersFile(), name, "admin", password)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", None),
        ("GET", "/static/app.js", None),
        ("GET", "/ready", None),
        ("POST", "/api/v1/login", None),
        ("POST", "/whip/top", None),
        ("GET", "/metrics", "viewer"),
        ("GET", "/api/v1/cameras", "viewer"),
        ("GET", "/evidence/top/x.png", "viewer"),
        ("POST", "/whep/top", "viewer"),
        ("PUT", "/api/v1/evidence/top/x/feedback", "operator"),
        ("PUT", "/api/v1/evidence/models/x/feedback", "operator"),
        ("PUT", "/api/v1/cameras/top/threshold", "admin"),
        ("POST", "/api/v1/models/top/promote", "admin"),
        ("DELETE", "/something/new", "operator"),
    ],
)
def test_who_may_do_what(method: str, path: str, role: str | None) -> None:
    assert needed(method, path) == role


@AGAIN
@given(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), st.text(min_size=1, max_size=30))
def test_no_change_is_ever_open_to_everybody(method: str, rest: str) -> None:
    role = needed(method, f"/api/v1/x/{rest}")
    assert role is not None
    assert ROLES.index(role) >= ROLES.index("operator")


def test_a_session_lasts_as_long_as_it_should() -> None:
    sessions = Sessions(lifetime_s=10)
    value = sessions.open("anna", "mark", now=0)
    assert sessions.user(value, now=9.9) == ("anna", "mark")
    assert sessions.user(value, now=10) is None
    assert sessions.user(value, now=5) is None
    assert sessions.user("", now=0) is None


def test_logging_out_ends_it_and_sessions_are_bounded() -> None:
    sessions = Sessions(lifetime_s=10)
    values = [sessions.open(f"user{number}", "", now=0) for number in range(MAX_SESSIONS + 1)]
    assert sessions.user(values[0], now=1) is None
    sessions.close(values[1])
    assert sessions.user(values[1], now=1) is None
    assert sessions.user(values[2], now=1) == ("user2", "")


def test_a_script_that_logs_in_again_and_again_sends_nobody_else_out() -> None:
    sessions = Sessions(lifetime_s=10)
    anna = sessions.open("anna", "", now=0)
    values = [sessions.open("script", "", now=0) for _ in range(MAX_SESSIONS + 1)]
    assert sessions.user(anna, now=1) == ("anna", "")
    assert sessions.user(values[0], now=1) is None
    assert sessions.user(values[-1], now=1) == ("script", "")


@AGAIN
@given(st.lists(st.floats(0, 30), max_size=60))
def test_nobody_guesses_faster_than_the_limit(pauses: list[float]) -> None:
    limit, now, guesses = LoginLimit(burst=5, every_s=12), 0.0, 0
    for pause in pauses:
        now += pause
        if limit.wait_s(("anna",), now) == 0:
            limit.failed(("anna",), now)
            guesses += 1
    assert guesses <= 5 + now / 12 + 1e-6


def test_waiting_as_long_as_was_said_is_enough_and_others_do_not_wait() -> None:
    limit = LoginLimit(burst=2, every_s=10)
    for _ in range(2):
        limit.failed(("anna",), 0.0)
    wait_s = limit.wait_s(("anna",), 0.0)
    assert wait_s > 0
    assert limit.wait_s(("anna",), wait_s) == 0
    assert limit.wait_s(("bert",), 0.0) == 0


@pytest.mark.parametrize(
    "beside",
    [
        'grafana={"a":1}',
        "x=a b",
        "plain",
        "foo[bar]=1",
        "path=/x",
        "version=1",
        "=;=",
        "n=\u00fcnic",
    ],
)
def test_cookies_of_other_programs_on_the_host_do_not_hide_ours(beside: str) -> None:
    headers = Headers(raw=[(b"cookie", f"{beside}; linewatch=TOKEN".encode("latin-1"))])
    access = Access(None)
    assert access.cookie_of(headers) == "TOKEN"
    assert access.cookie_of(Headers(raw=[(b"cookie", beside.encode("latin-1"))])) == ""


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    limit = LoginLimit()
    for i in range(2 * LoginLimit.MAX_KEYS):
        limit.failed((f"from {i}",), 0.0)
    assert len(limit._spent) == LoginLimit.MAX_KEYS


def test_the_command_adds_lists_and_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users.yaml"

    def run(*words: str) -> str:
        parser = argparse.ArgumentParser()
        command.configure(parser)
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
        assert command.main(parser.parse_args(["--file", str(path), *words])) == 0
        return capsys.readouterr().out

    run("add", "anna", "--role", "admin")
    token = run("token", "mes", "--role", "viewer").strip()
    assert run("list") == "anna  admin\nmes  viewer  (machine)\n"
    assert Users(path).password_role("anna", PASSWORD) == "admin"
    assert Users(path).token_role(token) == ("mes", "viewer")
    run("remove", "mes")
    assert run("list") == "anna  admin\n"
    with pytest.raises(UsersError, match="no user or machine 'mes'") as told:
        run("remove", "mes")
    assert told.value.exit_code == 2


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/api/v1/training", "viewer"),
        ("GET", "/api/v1/models/top/3/report", "viewer"),
        ("GET", "/api/v1/cameras/top/zones", "viewer"),
        ("POST", "/api/v1/cameras/top/pictures", "operator"),
        ("DELETE", "/api/v1/cameras/top/pictures/a.png", "operator"),
        ("POST", "/api/v1/training", "operator"),
        ("DELETE", "/api/v1/training", "operator"),
        ("POST", "/api/v1/models/top/3/promote", "admin"),
        ("POST", "/api/v1/models/top/rollback", "admin"),
        ("PUT", "/api/v1/cameras/top/zones", "admin"),
        ("DELETE", "/api/v1/cameras/top/zones", "admin"),
    ],
)
def test_an_operator_teaches_and_an_admin_says_what_is_used(method: str, path: str, role: str) -> None:
    assert needed(method, path) == role


def test_a_users_file_that_the_system_will_not_show_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["users", "--file", str(tmp_path / ("x" * 300) / "users.yaml"), "list"]) == 2
    said = capsys.readouterr().err
    assert "can't be read: File name too long." in said and len(said.splitlines()) == 1


def test_a_token_that_could_not_be_filed_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "users.yaml"
    assert main(["users", "--file", str(path), "token", "mes", "--role", "viewer"]) == 2
    out, said = capsys.readouterr()
    assert (
        out == "" and said.startswith(f"The users file {path} can't be written: ") and "Keep it" not in said
    )


@pytest.mark.parametrize("words", [["list"], ["remove", "anna"]])
def test_who_asks_of_a_file_that_is_not_there_hears_so(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "typo.yaml"
    assert main(["users", "--file", str(path), *words]) == 2
    out, said = capsys.readouterr()
    assert said.startswith(f"The users file {path} can't be read: No such file or directory") and not out
    assert said.count("\n") == 1 and not path.exists()


@pytest.mark.parametrize("words", ["--file FILE list", "list --file FILE", "--file nowhere list --file FILE"])
def test_the_file_may_be_named_before_and_behind_what_is_to_be_done(
    words: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["users", *words.replace("FILE", str(path)).split()]) == 0
    assert capsys.readouterr().out == "anna  operator\n"


def test_who_ends_the_input_instead_of_a_password_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_its_end(prompt: str) -> str:
        raise EOFError

    before = path.read_bytes()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", at_its_end)
    assert main(["users", "--file", str(path), "add", "berta", "--role", "viewer"]) == 2
    assert capsys.readouterr().err == "No password was given; nothing was changed.\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # as locales have it
def test_a_password_of_another_encoding_is_one_sentence_and_changes_nothing(
    errors: str, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_bytes()
    said = io.BytesIO("correct hörse battery\n".encode("latin-1"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(said, "utf-8", errors))
    assert main(["users", "--file", str(path), "add", "berta", "--role", "viewer"]) == 2
    assert capsys.readouterr().err.startswith("The password is not UTF-8")
    assert path.read_bytes() == before
