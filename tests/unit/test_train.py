"""A folder of good pictures becomes a model: repeatable, from good pictures alone, whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config.cli import main as linewatch
from engine import artifact, versions
from engine.artifact import Artifact
from engine.errors import DeviceError
from engine.model.dmdd import build_network
from engine.model.teacher import Teacher, build_teacher
from trainer import checkpoint, recipe, train
from trainer.bank import build_bank, teach
from trainer.errors import DataError
from trainer.recipe import Wish, make_model

SIDE = 64


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright disc that sits a little differently in each of 14 pictures."""
    folder = tmp_path_factory.mktemp("good")
    y, x = np.mgrid[:96, :96]
    for index in range(14):
        rng = np.random.default_rng(index)
        cy, cx = rng.integers(44, 52, 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < 30**2
        pixels = np.where(disc[:, :, None], (200, 170, 90), 40) + rng.integers(0, 12, (96, 96, 3))
        cv2.imwrite(str(folder / f"{index}.png"), pixels.astype(np.uint8))
    return folder


@pytest.fixture
def wish(good: Path) -> Wish:
    return Wish("top", good, steps=2, input_px=SIDE, device="cpu", foreground="off")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return build_teacher("efficientnet_lite0")


def quiet(*_: object) -> None: ...


@pytest.fixture(scope="module")
def made(good: Path) -> tuple[Artifact, list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []
    wish = Wish("top", good, steps=2, input_px=SIDE, device="cpu", foreground="off")
    return make_model(wish, lambda stage, done, total, _: told.append((stage, done, total)), quiet), told


Made = tuple[Artifact, list[tuple[str, int, int]]]


def test_the_same_seed_gives_the_same_model_and_another_seed_another(wish: Wish, made: Made) -> None:
    first, again = made[0], make_model(wish, quiet, quiet)
    other = make_model(replace(wish, seed=1), quiet, quiet)
    assert all(torch.equal(first.state[key], again.state[key]) for key in first.state)
    assert first.calibration == again.calibration
    assert any(not torch.equal(first.state[key], other.state[key]) for key in first.state)


def test_training_and_held_out_pictures_are_named_in_the_manifest(made: Made) -> None:
    training, held_out = made[0].trained_on["training"], made[0].trained_on["held_out"]
    assert len(training) + len(held_out) == made[0].trained_on["good_pictures"] == 14
    assert not set(training) & set(held_out)
    assert made[0].calibration.pictures == len(held_out)
    assert len(set(made[0].trained_on["sha256"])) == 14


def test_progress_is_told_step_by_step(made: Made) -> None:
    assert made[1] == [("student", 1, 2), ("head", 2, 2)]


@pytest.fixture(scope="module")
def material(good: Path, teacher: Teacher) -> train.Material:
    pixels = recipe.load_good(good, SIDE).pixels
    bank = build_bank(pixels, teacher, torch.device("cpu"), copies=2, rng=np.random.default_rng(0))
    foregrounds = recipe.find_foregrounds(pixels, "off")
    return train.Material(bank, foregrounds, recipe.synth.Synthesis(), teacher, torch.device("cpu"), 0)


def test_both_stages_lower_their_losses(material: train.Material) -> None:
    torch.manual_seed(0)
    network = build_network("lite")
    schedule = train.Schedule(student_steps=12, head_steps=20, batch=4)
    for stage, loss in ((train.train_student, train.student_loss), (train.train_head, train.head_loss)):
        before = float(loss(network, material, schedule, 1000).detach())
        stage(network, material, schedule, quiet)
        # Both times as in training: batch norm's running averages lag behind so few steps.
        (network.student if stage is train.train_student else network.head).train()
        assert float(loss(network, material, schedule, 1000).detach()) < before


def test_in_variant_b_abnormality_mimics_the_unchanged_picture(material: train.Material) -> None:
    torch.manual_seed(0)
    network = build_network("lite").eval()
    plain = train.Schedule(student_steps=12, head_steps=20, batch=4)
    seen = {
        (mimic, weight): float(
            train.student_loss(
                network, material, replace(plain, mimic=mimic, abnormality_weight=weight), 7
            ).detach()
        )
        for mimic in ("changed", "unchanged")
        for weight in (0.0, 1.0)
    }
    assert seen["changed", 0.0] == seen["unchanged", 0.0]
    assert seen["changed", 1.0] != seen["unchanged", 1.0]


def test_the_bank_holds_the_teachers_answer_for_every_altered_copy(good: Path, teacher: Teacher) -> None:
    pixels = recipe.load_good(good, SIDE).pixels
    bank = build_bank(pixels, teacher, torch.device("cpu"), copies=3, rng=np.random.default_rng(0))
    assert len(bank) == 3 * len(pixels)
    assert np.array_equal(bank.pixels[: len(pixels)], pixels)
    altered = len(pixels) + 2
    assert bank.source[altered] == 2
    assert not np.array_equal(bank.pixels[altered], pixels[2])
    asked = teach(bank.pixels[[altered]], teacher, torch.device("cpu"))
    for kept, fresh in zip(bank.features_of(np.array([altered])), asked, strict=True):
        torch.testing.assert_close(kept.float(), fresh.float(), atol=0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": "huge"}, "--size 'huge'"),
        ({"teacher": "resnet18"}, "doesn't fit --size lite"),
        ({"steps": 1}, "--steps 1"),
        ({"seed": -1}, "--seed -1"),
        ({"input_px": 100}, "--input-px 100"),
        ({"device": "tpu"}, "no device 'tpu'"),
    ],
)
def test_a_wish_that_can_not_be_met_is_refused(wish: Wish, change: dict[str, object], says: str) -> None:
    with pytest.raises((DataError, DeviceError), match=says):
        make_model(replace(wish, **change), quiet, quiet)  # type: ignore[arg-type]


def test_the_command_saves_a_version_and_prints_the_agreed_keys(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.commands.train._EVERY_S", 0.0)
    words = ["train", "top", "--data", str(good), "--steps", "2", "--input-px", "64", "--foreground", "off"]
    assert linewatch([*words, "--models", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out.splitlines()[-1])
    keys = {"artifact", "version", "steps", "seconds", "device", "good_pictures", "threshold"}
    assert keys <= report.keys()
    assert versions.resolve(tmp_path, "top@latest") == Path(report["artifact"])
    assert report["threshold"] > artifact.load(Path(report["artifact"])).calibration.median
    assert "%|" not in err  # no progress bar where no person looks
    assert "head: step 2 of 2, about " in err


def test_an_interrupted_training_leaves_the_last_model(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "top", "--data", str(good), "--steps", "2", "--input-px", "64", "--foreground", "off"]
    words += ["--models", str(tmp_path)]
    assert linewatch(words) == 0
    before = versions.resolve(tmp_path, "top")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "train_head", interrupt)
    assert linewatch(words) == 130
    assert versions.resolve(tmp_path, "top") == before
    assert sorted(p.name for p in (tmp_path / "top").iterdir() if p.name.isdecimal()) == ["1"]


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    wish: Wish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = replace(wish, steps=6)
    whole = make_model(wish, quiet, quiet)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    for kill_at in (3, 5):

        def killed(stage: str, done: int, total: int, loss: float, at: int = kill_at) -> None:
            if done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_model(wish, killed, quiet, tmp_path / "keep")
    told: list[int] = []
    # With as many threads as the killed one had, whatever others do on the machine now.
    monkeypatch.setattr(recipe, "_settle_threads", lambda *_: pytest.fail("it was settled before"))
    resumed = make_model(wish, lambda _, done, *__: told.append(done), quiet, tmp_path / "keep")
    assert told == [6]
    assert all(torch.equal(whole.state[key], resumed.state[key]) for key in whole.state)


def test_another_wish_never_goes_on_from_a_kept_training(wish: Wish, tmp_path: Path) -> None:
    (tmp_path / "keep").write_bytes(b"not safetensors")
    told: list[int] = []
    notes: list[str] = []
    make_model(wish, lambda _, done, *__: told.append(done), notes.append, tmp_path / "keep")
    assert told == [1, 2] and any("starts anew" in note for note in notes)


def test_weights_of_another_program_are_not_gone_on_from_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    network, other = build_network("lite"), build_network("lite")
    optimiser = torch.optim.Adam(network.head.parameters())
    other.register_buffer("one_more", torch.zeros(1))
    checkpoint.Checkpoint(tmp_path / "keep", "wish").keep(1, 3, other, optimiser)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    kept = checkpoint.Checkpoint(tmp_path / "keep", "wish")
    assert "starts anew" in kept.resume(network) and kept.stage == 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_other_pictures_under_the_same_names_are_another_wish() -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    assert checkpoint.fingerprint([pixels], seed=1) == checkpoint.fingerprint([pixels.copy()], seed=1)
    assert checkpoint.fingerprint([pixels], seed=1) != checkpoint.fingerprint([pixels + 1], seed=1)
    texture = pixels[0]
    assert checkpoint.fingerprint([pixels, texture]) != checkpoint.fingerprint([pixels, texture + 1])


def test_what_is_half_written_is_nobody_elses_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    (tmp_path / ".training.draft").mkdir()  # another one's
    network = build_network("lite")
    optimiser = torch.optim.Adam(network.head.parameters())
    keep = tmp_path / ".training.safetensors"
    assert checkpoint.stamp(keep) == 0
    checkpoint.Checkpoint(keep, "wish").keep(1, 3, network, optimiser)
    assert {path.name for path in tmp_path.iterdir()} == {".training.draft", ".training.safetensors"}
    written = checkpoint.stamp(keep)
    checkpoint.Checkpoint(keep, "another").resume(network)
    assert checkpoint.stamp(keep) == written
    checkpoint.Checkpoint(keep, "wish").resume(network)
    assert checkpoint.stamp(keep) > written


def test_a_folder_where_the_kept_file_should_be_costs_no_more_than_the_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    (tmp_path / "file").write_text("", encoding="ascii")
    network = build_network("lite")
    optimiser = torch.optim.Adam(network.head.parameters())
    checkpoint.Checkpoint(tmp_path / "file" / "keep", "wish").keep(1, 3, network, optimiser)
    assert (tmp_path / "file").read_text(encoding="ascii") == ""


def test_bad_input_is_one_sentence_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert linewatch(["train", "top", "--data", str(tmp_path), "--models", str(tmp_path / "m")]) == 2
    assert "holds no pictures" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
