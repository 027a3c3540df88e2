"""What a model remembers of the areas that its alarm level was set for, and what areas it takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine import artifact
from engine.errors import ArtifactError
from engine.library import CameraTuning, Library
from engine.zones import Areas
from tests.models import SIDE, tiny_artifact

LEFT, RIGHT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0))


def test_areas_are_equal_when_they_say_the_same_and_survive_a_manifest(tmp_path: Path) -> None:
    areas = Areas(LEFT, (RIGHT, LEFT))
    assert areas == Areas(LEFT, (LEFT, RIGHT)) != Areas(None, (LEFT, RIGHT))
    assert areas and not Areas() and Areas().zone((4, 4)) is None
    made = replace(tiny_artifact(name="top"), trained_on={"areas": areas.to_json()})
    assert artifact.load(artifact.save(made, tmp_path)).areas == areas
    assert artifact.load(artifact.save(tiny_artifact(name="old"), tmp_path)).areas == Areas()


def test_areas_that_are_none_are_a_sentence(tmp_path: Path) -> None:
    few: list[object] = [[], [[0, 0], [1, 1]], [[0, 0], [1e999, 0], [1, 1]]]
    none = [{"roi": [1, 2]}, {"masks": [[["a", "b"]]]}, {"masks": 3}, [1], {"masks": [[]]}]
    for said in [*none, *({"roi": roi} for roi in few)]:
        with pytest.raises(ValueError, match=r"."):
            Areas.from_json(said)  # type: ignore[arg-type]
    folder = artifact.save(tiny_artifact(name="top"), tmp_path)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["trained_on"]["areas"] = {"roi": 7}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="garbles an area is a list of points"):
        artifact.load(folder)


@pytest.mark.parametrize(("side", "why"), [(0.0, "nothing to inspect"), (2 / SIDE, "leaves 4 cells of the")])
def test_an_area_with_room_for_no_defect_is_refused(side: float, why: str) -> None:
    """A camera that can't find anything looks as if all parts were good."""
    model = tiny_artifact()
    model = replace(model, calibration=replace(model.calibration, min_area_px=5))
    corner = ((0.0, 0.0), (side, 0.0), (side, side), (0.0, side))
    with pytest.raises(ArtifactError, match=why):
        Library().put("top", model, CameraTuning(roi=corner))
