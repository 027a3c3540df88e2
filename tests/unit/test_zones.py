"""Areas and masks drawn on the page: what holds, the config file's or the drawn ones."""

from pathlib import Path

import pytest

from config.load import ConfigError, load
from config.settings import Mask
from config.zones import DrawnZones, Zones, ZonesFile, read, write

CONFIG = "version: 1\ncameras: {top: {source: {type: pattern}%s}}\nweb: {zones_file: zones.yaml}\n"
TRIANGLE = Zones(roi=((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)))


def config(folder: Path, more: str = "") -> Path:
    path = folder / "cameras.yaml"
    path.write_text(CONFIG % more)
    return path


def draw(folder: Path, zones: Zones, instead_of: Zones | None = None) -> None:
    drawn = DrawnZones(roi=zones.roi, masks=zones.masks, instead_of=instead_of or Zones())
    write(folder / "zones.yaml", ZonesFile(cameras={"top": drawn}))


def test_without_a_file_the_config_files_zones_hold(tmp_path: Path) -> None:
    settings = load(config(tmp_path, ", roi: [[0, 0], [1, 0], [1, 1]]"))
    assert settings.cameras["top"].roi == ((0, 0), (1, 0), (1, 1))
    assert settings.warnings == ()


def test_what_was_drawn_replaces_the_config_files_and_is_said(tmp_path: Path) -> None:
    draw(tmp_path, TRIANGLE)
    settings = load(config(tmp_path))
    assert settings.cameras["top"].roi == ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
    assert "cameras.top: roi and masks as drawn on the page" in settings.warnings[0]
    assert settings.file == tmp_path / "cameras.yaml"


def test_a_config_file_that_was_edited_since_rules_again(tmp_path: Path) -> None:
    draw(tmp_path, TRIANGLE)
    settings = load(config(tmp_path, ", roi: [[0, 0], [1, 0], [1, 1]]"))
    assert settings.cameras["top"].roi == ((0, 0), (1, 0), (1, 1))
    assert "the config file's hold" in settings.warnings[0]


def test_zones_of_a_camera_that_is_not_there_wait_for_it(tmp_path: Path) -> None:
    drawn = DrawnZones(roi=TRIANGLE.roi, instead_of=Zones())
    write(tmp_path / "zones.yaml", ZonesFile(cameras={"side": drawn}))
    assert load(config(tmp_path)).warnings == ()


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    zones = Zones(masks={"label": Mask(polygon=((0, 0), (0.2, 0), (0.2, 0.1)))})
    draw(tmp_path, zones, TRIANGLE)
    found = read(tmp_path / "zones.yaml").cameras["top"]
    assert Zones.of(found) == zones
    assert found.instead_of == TRIANGLE


def test_who_is_not_the_lines_user_may_read_what_was_drawn(tmp_path: Path) -> None:
    """From the first drawing on, `linewatch check` of anybody else refused the config file."""
    draw(tmp_path, Zones(), TRIANGLE)
    assert (tmp_path / "zones.yaml").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "cameras: 3",
        "\x00",
        "cameras: {top: {roi: [[0, 0]]}}",
        "cameras: {top: 2026-13-45}",
        "[" * 3000,
    ],
)
def test_a_broken_file_is_one_sentence_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "zones.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"zones\.yaml.*mend it or delete it"):
        load(config(tmp_path))


def test_the_drawn_zones_as_they_would_stand_in_the_config_file(tmp_path: Path) -> None:
    under = "".join(f"\n      {row}" for row in TRIANGLE.as_yaml().splitlines())
    path = tmp_path / "cameras.yaml"
    path.write_text(f"version: 1\ncameras:\n  top:\n      source: {{type: pattern}}{under}\n")
    assert Zones.of(load(path).cameras["top"]) == TRIANGLE
