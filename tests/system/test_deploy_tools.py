"""What is in deploy/, read by tools that Debian packages bring: promtool and systemd's own."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_deploy import DEPLOY, board_queries
from tests.unit.test_deploy import unit as unit_settings

pytestmark = pytest.mark.debian


def run(*words: object, **options: Any) -> str:
    said = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


def test_prometheus_takes_the_alerts_and_its_config() -> None:
    assert "21 rules found" in run("promtool", "check", "rules", DEPLOY / "prometheus/alerts.yaml")
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus/prometheus.yaml")


def test_alerts_come_when_they_must_and_only_then() -> None:
    run("promtool", "test", "rules", "alerts_test.yaml", cwd=DEPLOY / "prometheus")


def test_prometheus_understands_every_query_of_the_board(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m").replace("$camera", ".*") for query in board_queries()]
    rules = [{"record": f"board:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "board.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run("promtool", "check", "rules", file)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    text = (DEPLOY / "systemd/linewatch.service").read_text()
    file = tmp_path / "linewatch.service"
    file.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    return file


def test_systemd_takes_the_unit_and_every_word_of_it(unit: Path) -> None:
    assert run("systemd-analyze", "verify", unit).strip() == ""


def test_the_unit_is_hardened(unit: Path) -> None:
    told = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", "--json=short", unit)
    assert any(row["name"].startswith("NoNewPrivileges") for row in json.loads(told))


@pytest.mark.skipif(os.getuid() != 0, reason="gives away rights, which only root has")
@pytest.mark.parametrize("port", [502, 443])
def test_nobody_with_the_units_rights_may_listen_on_a_low_port_and_so_may_its_children(port: int) -> None:
    words = [name.removeprefix("CAP_").lower() for name in unit_settings()["CapabilityBoundingSet"].split()]
    rights = ",".join(["-all", *(f"+{word}" for word in words)])
    bind = f"import socket; socket.socket().bind(('', {port})); print('bound')"
    # A bridge is our child: the right has to outlive an exec.
    child = f"import os; os.execv('/usr/bin/python3', ['python3', '-c', {bind!r}])"
    nobody = ("--reuid=65534", "--regid=65534", "--clear-groups", f"--bounding-set={rights}")
    sets = (f"--inh-caps={rights}", f"--ambient-caps={rights}", "--no-new-privs")
    # In a network of its own, where nobody else has the port and the limit is the kernel's default.
    assert "bound" in run("unshare", "--net", "setpriv", *nobody, *sets, "/usr/bin/python3", "-c", child)


def test_systemd_makes_the_user() -> None:
    told = run("systemd-sysusers", "--dry-run", DEPLOY / "systemd/linewatch.sysusers.conf")
    assert "linewatch" in told


def test_a_package_that_was_removed_and_left_its_config_is_missing(tmp_path: Path) -> None:
    listed = (DEPLOY / "debian-packages.txt").read_text().split()
    stanza = "Package: {}\nStatus: {}\nArchitecture: all\nVersion: 1\nMaintainer: m\nDescription: d\n\n"
    states = {name: "install ok installed" for name in listed} | {"mosquitto": "deinstall ok config-files"}
    (tmp_path / "status").write_text("".join(stanza.format(*state) for state in states.items()))
    (tmp_path / "info").mkdir()
    (tmp_path / "updates").mkdir()
    somebody = tmp_path / "id"  # not root, who would install it
    somebody.write_text("#!/bin/sh\necho 1000\n")
    somebody.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DPKG_ADMINDIR": str(tmp_path)}
    said = subprocess.run(
        ["sh", DEPLOY / "debian.sh"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "these Debian packages are missing: mosquitto\n" in said.stderr
