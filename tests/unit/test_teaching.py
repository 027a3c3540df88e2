"""What a running line removes of its models."""

from pathlib import Path

from config.load import load
from engine.artifact import save
from engine.versions import versions
from stream.teaching import Teaching
from tests.models import tiny_artifact

CONFIG = """
version: 1
cameras:
  top: {source: {type: pattern}}
  side: {source: {type: pattern}, model: top@1, enabled: false}
models: {dir: models, keep_versions: 2}
"""


async def test_the_version_that_a_disabled_camera_is_pinned_to_stays(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    settings = load(tmp_path / "cameras.yaml")
    for _ in range(5):
        save(tiny_artifact(name="top"), tmp_path / "models")
    teaching = Teaching(lambda: settings, in_use=lambda: {"top": {2}})
    await teaching.tidy()
    assert versions(tmp_path / "models", "top") == [1, 2, 4, 5]
