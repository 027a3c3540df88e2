"""The command line: finds commands, says what was wrong in one sentence, leaves with the agreed code."""

import argparse
import os
import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from config import cli
from config.load import ConfigError
from engine.errors import ArtifactError


def command(main: object) -> types.ModuleType:
    module = types.ModuleType("a_command")
    module.HELP = "does a thing"  # type: ignore[attr-defined]
    module.configure = lambda parser: parser.add_argument("--count", type=int)  # type: ignore[attr-defined]
    module.main = main  # type: ignore[attr-defined]
    return module


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> object:
    """Make `linewatch thing` run a function, the way an installed package would."""

    def install(main: object) -> None:
        monkeypatch.setitem(sys.modules, "a_command", command(main))
        point = EntryPoint("thing", "a_command", cli.GROUP)
        monkeypatch.setattr(cli, "entry_points", lambda group: [point])

    return install


def raising(error: BaseException) -> object:
    def main(arguments: argparse.Namespace) -> int:
        raise error

    return main


def test_a_command_gets_its_arguments_and_its_code_is_ours(install: object) -> None:
    install(lambda arguments: arguments.count)  # type: ignore[operator]
    assert cli.main(["thing", "--count", "7"]) == 7


ENDINGS = {
    "wrong settings": (
        ConfigError(["c.yaml:3: fps: is 0", "c.yaml:4: x: unknown"]),
        2,
        "c.yaml:3: fps: is 0",
    ),
    "engine": (ArtifactError("the model folder is gone"), 1, "the model folder is gone"),
    "interrupted": (KeyboardInterrupt(), 130, "interrupted"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_a_person_did_wrong_is_a_sentence_and_a_code(
    name: str, install: object, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, said = ENDINGS[name]
    install(raising(error))  # type: ignore[operator]
    assert cli.main(["thing"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_a_bug_stays_a_traceback(install: object) -> None:
    install(raising(ZeroDivisionError()))  # type: ignore[operator]
    with pytest.raises(ZeroDivisionError):
        cli.main(["thing"])


def test_wrong_options_are_code_2_and_help_is_code_0(
    install: object, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda arguments: 0)  # type: ignore[operator]
    assert cli.main(["thing", "--count", "many"]) == 2
    assert "invalid int value" in capsys.readouterr().err
    assert cli.main(["thing", "--help"]) == 0
    assert "does a thing" in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_the_nearest(
    install: object, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda arguments: 0)  # type: ignore[operator]
    assert cli.main(["thin"]) == 2
    assert capsys.readouterr().err == "linewatch: unknown command 'thin', did you mean thing?\n"


def test_the_list_shows_each_command_with_its_help(
    install: object, capsys: pytest.CaptureFixture[str]
) -> None:
    install(lambda arguments: 0)  # type: ignore[operator]
    assert cli.main(["--help"]) == 0
    assert "  thing  does a thing\n" in capsys.readouterr().out
    assert cli.main([]) == 2


def test_a_command_whose_extra_is_missing_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("gone", "no_such_module_here", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["--help"]) == 0
    assert "gone  (not usable here: No module named 'no_such_module_here')" in capsys.readouterr().out


def linewatch(*words: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).parent / "linewatch"
    return subprocess.run([script, *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_installed_script_prints_its_version_and_schema() -> None:
    assert linewatch("--version").stdout.startswith("linewatch ")
    printed = linewatch("schema", "config")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert '"$id": "urn:linewatch:config:1"' in printed.stdout


def test_a_reader_that_goes_away_brings_no_traceback() -> None:
    script = Path(sys.executable).parent / "linewatch"
    with subprocess.Popen(
        [script, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_on_a_full_disk_is_a_sentence(unbuffered: str) -> None:
    script = Path(sys.executable).parent / "linewatch"
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [script, "schema", "event"], stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        "linewatch schema: no room for what it writes or prints (No space left on device): free some on that "
        "disk\n",
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_may_be_started_without_input_and_outputs(tmp_path: Path, closed: str) -> None:
    """What it opens then, and what a program opens that it starts, gets no number of theirs, where it would
    get what libraries print.
    """
    said = tmp_path / "said"
    child = "import os; [os.fstat(number) for number in range(3)]"
    script = (
        "import os, subprocess, sys; from config.cli import main\n"
        "codes = main(['--version']), main(['check', '--offline', '/nowhere'])\n"
        f"number = os.open({str(said)!r}, os.O_WRONLY | os.O_CREAT)\n"
        f"child = subprocess.run([sys.executable, '-c', {child!r}]).returncode\n"
        "os.write(number, f'{codes} {number > 2} {child}'.encode())\n"
    )
    line = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", script]
    subprocess.run(line, capture_output=True, check=True)
    assert said.read_text() == "(0, 2) True 0"
