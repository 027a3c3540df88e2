"""What is in deploy/ is right, as far as the tools of each trade can say without a container engine."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load
from config.settings import Settings
from stream import app, broker, metrics, training
from stream.bridges import children
from stream.evidence import Evidence
from tests.webline import everything

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
BOARD = DEPLOY / "grafana" / "linewatch.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
# Kept by Prometheus itself.
FOREIGN = {"up"}


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=60, check=False, **options
    )


def exported() -> set[str]:
    """Every metric that the program can export, by asking it for all of them."""
    registry = metrics.registry(everything().view(), lambda: metrics.PageStats(0, 0, 0, 0))
    text = metrics.exposition(registry).decode()
    return {re.split(r"[{ ]", row)[0] for row in text.splitlines() if not row.startswith("#")}


def board_queries() -> Iterator[str]:
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def alert_queries() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def named(query: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\b(?:linewatch|process)_[a-z_]+|\bup\b", query))


@pytest.mark.parametrize("query", [*board_queries(), *alert_queries()])
def test_every_query_asks_for_metrics_that_are_exported(query: str) -> None:
    assert named(query), "a query that asks for nothing of ours"
    assert named(query) - FOREIGN - exported() == set()


def test_every_metric_that_tells_of_loss_or_trouble_has_an_alert() -> None:
    watched = {name for query in alert_queries() for name in named(query)}
    trouble = {
        n for n in exported() if re.search(r"dropped|errors|replayed|drift|ready|_up$|lag$|successful", n)
    }
    assert trouble - watched - {"linewatch_page_pictures_total"} == set()


def test_the_boards_panels_do_not_overlap_and_have_titles() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells


def test_the_dockerfile_is_clean() -> None:
    said = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert (said.returncode, said.stdout) == (0, "")


def test_an_image_runs_as_nobody_with_a_health_check_and_a_safe_path() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "PYTHONSAFEPATH=1" in text and "HEALTHCHECK" in text and "NVIDIA_VISIBLE_DEVICES" in text


def test_compose_is_valid_and_every_container_is_confined(tmp_path: Path) -> None:
    said = run(BIN / "docker-compose", "-f", DEPLOY / "compose.yaml", "config", "--format", "json")
    assert said.returncode == 0, said.stderr
    services = json.loads(said.stdout)["services"]
    assert set(services) == {"linewatch", "broker", "camera", "prometheus", "grafana"}
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged")
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name


def test_compose_files_that_are_mounted_are_there() -> None:
    for service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source


def test_the_secrets_for_compose_are_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / "compose").mkdir()
    (tmp_path / "broker").mkdir()
    for name in ("compose/prepare.sh", "broker/acl.example"):
        (tmp_path / name).write_bytes((DEPLOY / name).read_bytes())
    words = ("sh", tmp_path / "compose" / "prepare.sh")
    environment = {"PATH": "/usr/bin:/bin", "LINEWATCH": str(BIN / "linewatch")}
    assert run(*words, env=environment).returncode == 0
    made = tmp_path / "compose" / "secrets"
    first = {file.name: file.read_text() for file in made.iterdir()}
    assert set(first) == {
        "admin.password",
        "broker.acl",
        "broker.password",
        "grafana.password",
        "metrics.token",
        "users.yaml",
    }
    assert made.stat().st_mode & 0o777 == 0o700
    assert "change-me" not in first["broker.acl"]
    assert f">{first['broker.password'].strip()} " in first["broker.acl"]
    assert run(*words, env=environment).returncode == 0
    assert first == {file.name: file.read_text() for file in made.iterdir()}


@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_the_manifests_are_built_and_fit_kubernetes_schemas(overlay: str, tmp_path: Path) -> None:
    built = run(BIN / "kubectl", "kustomize", DEPLOY / "kubernetes" / overlay)
    assert built.returncode == 0, built.stderr
    manifests = tmp_path / "all.yaml"
    manifests.write_text(built.stdout)
    said = run(BIN / "kubernetes-validate", "--strict", manifests)
    assert said.returncode == 0, said.stdout + said.stderr
    by_kind = {found["kind"]: found for found in yaml.safe_load_all(built.stdout)}
    (container,) = by_kind["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/startup", "liveness": "/live", "readiness": "/ready"}
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "gpu")


def unit() -> dict[str, str]:
    """What the systemd unit sets, the last word of each key."""
    text = (DEPLOY / "systemd" / "linewatch.service").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def the_pod() -> dict[str, Any]:
    """The pod's specification in Kubernetes."""
    first = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes" / "base" / "linewatch.yaml").read_text())))
    pod: dict[str, Any] = first["spec"]["template"]["spec"]
    return pod


def test_a_training_without_memory_does_not_end_the_unit() -> None:
    assert unit()["OOMPolicy"] == "continue"


def test_the_unit_has_the_one_right_that_modbus_port_needs() -> None:
    assert unit()["CapabilityBoundingSet"] == unit()["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    # In a user namespace of its own that right would hold for its own network only.
    assert "PrivateUsers" not in unit() and "PrivateNetwork" not in unit()


def test_who_stops_us_waits_for_as_long_as_we_may_take() -> None:
    evidence_s = inspect.signature(Evidence.stop).parameters["within_s"].default
    ours_s = training._GRACE_S + app.DEVICE_ENDS_WITHIN_S + app.DRAIN_WITHIN_S + children.STOP_WITHIN_S
    ours_s += broker.STOP_WITHIN_S + evidence_s
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["linewatch"]
    (docker,) = re.findall(r"docker run -d .*--stop-timeout (\d+) ", (DEPLOY / "README.md").read_text())
    told = (unit()["TimeoutStopSec"], compose["stop_grace_period"], docker)
    limits_s = {float(text.removesuffix("s")) for text in told}
    assert limits_s == {the_pod()["terminationGracePeriodSeconds"]}
    # What is left is for cameras and the page, which take about a second.
    assert min(limits_s) >= ours_s + 5


def test_systemd_and_kubernetes_wait_equally_long_for_the_first_start() -> None:
    probe = the_pod()["containers"][0]["startupProbe"]
    assert float(unit()["TimeoutStartSec"]) == probe["periodSeconds"] * probe["failureThreshold"]


def test_examples_and_pages_that_a_page_names_lie_beside_it() -> None:
    """So they do in a bundle, which has all of these folders and pages."""
    for page in DEPLOY.glob("*.md"):
        text = page.read_text()
        named = re.findall(r"`((?:examples|broker|systemd|prometheus|grafana)/[\w./-]+|\w+\.md)`", text)
        for path in {*named, *re.findall(r"\]\(([\w.-]+)\)", text)} - {"LINEWATCH.md"}:
            assert (DEPLOY / path).exists(), f"{page.name} names {path}"


def placed(text: str, folder: Path) -> Settings:
    """A config as it is where it belongs: its secret files are there."""
    for path in re.findall(r"(?<!zones_)file: ([^ }]+)", text):
        secret = folder / path.lstrip("/")
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("sixteen characters, as a webhook wants")
    config = folder / "cameras.yaml"
    config.write_text(re.sub(r"(?<!zones_)file: /", f"file: {folder}/", text))
    return load(config, {})


@pytest.mark.parametrize("name", ["compose/config", "kubernetes/base", "systemd"])
def test_a_config_of_deploy_is_right_and_writes_to_the_data_folder_only(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / name / "cameras.yaml").read_text()
    # As somebody takes up the bridge that stands there in a comment.
    settings = placed(text.replace("# bridges:", "bridges:"), tmp_path)
    assert settings.warnings == ()
    events = settings.events
    (bridge,) = settings.bridges.values()
    written = [settings.models.dir, settings.pictures.dir, settings.evidence.dir, settings.engine.cache_dir]
    written += [settings.web.zones_file, bridge.state_dir]
    written += [events.outbox.path] + ([events.embedded.dir] if events.url == "embedded" else [])
    assert all(path.is_relative_to("/var/lib/linewatch") for path in written)


def test_an_environment_that_was_only_begun_is_completed(tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    maker = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\n[ "$2" != pip ] || [ -e {tmp_path}/pip ] || exit 1\n')
    maker.write_text(f'#!/bin/sh\n[ "$1" != -m ] || touch {tmp_path}/pip\n')
    for file in (python, maker):
        file.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(maker)}
    said = run("sh", DEPLOY / "bootstrap.sh", tmp_path / "venv", "", env=environment)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    ("cuda", "fails", "brings"),
    [("13.0", False, ".[cuda13]"), ("13.0", True, ".[cuda13]"), ("", False, ".[dev]")],
)
def test_where_a_gpu_is_cupy_comes_along_for_the_cuda_of_torch(
    tmp_path: Path, cuda: str, fails: bool, brings: str
) -> None:
    """If it can't be had, all else is there."""
    python, driver, asked = tmp_path / "venv/bin/python", tmp_path / "nvidia-smi", tmp_path / "asked"
    python.parent.mkdir(parents=True)
    torch = (
        f"import sys; sys.modules['torch'] = t = type(sys)('torch'); t.version = t; t.cuda = '{cuda}' or None"
    )
    python.write_text(
        f'#!/bin/sh\necho "$*" >>{asked}\n[ "$1" != -c ] || exec {sys.executable} -c "{torch}\n$2"\n'
        + ('case "$*" in *.*cuda13*) exit 1 ;; esac\n' if fails else "")
    )
    driver.write_text("#!/bin/sh\n")
    for file in (python, driver):
        file.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": sys.executable}
    said = run("sh", DEPLOY / "bootstrap.sh", tmp_path / "venv", "dev", env=environment)
    assert said.returncode == 0, said.stderr
    assert asked.read_text().splitlines()[-1].endswith(f" -e {brings}")
    assert ("without CuPy" in said.stderr) == fails


def test_a_line_of_the_board_is_told_from_the_others() -> None:
    """One legend without a label stands for one series only."""
    labels = {"linewatch_device_errors_total": "kind", "linewatch_events_total": "phase"}
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            for metric in named(target["expr"]) & labels.keys():
                alone = "sum(" in target["expr"] or labels[metric] in target["legendFormat"]
                assert alone, target["expr"]
