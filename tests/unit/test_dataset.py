"""Only good pictures get in, whatever can be converted is, and what can't is said in a sentence."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

import trainer.dataset
from trainer.dataset import GoodPictures, at_most, good_folder, list_pictures, load_good, read_picture
from trainer.errors import DataError


def write(path: Path, *, shape: tuple[int, ...] = (40, 50, 3), dtype: type = np.uint8, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    top = int(np.iinfo(dtype).max)
    pixels = np.random.default_rng(seed).integers(0, top, shape, dtype=dtype, endpoint=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def fill(folder: Path, count: int = 12) -> Path:
    for index in range(count):
        write(folder / f"{index}.png", seed=index)
    return folder


def test_a_plain_folder_and_an_mvtec_layout_both_work(tmp_path: Path) -> None:
    assert len(load_good(fill(tmp_path / "plain"), 64)) == 12
    fill(tmp_path / "mvtec" / "train" / "good")
    fill(tmp_path / "mvtec" / "test" / "crack")
    good = load_good(tmp_path / "mvtec", 64)
    assert len(good) == 12
    assert good.pixels.shape == (12, 64, 64, 3)


def test_what_the_line_counts_as_a_picture_is_one_for_training(tmp_path: Path) -> None:
    for index in range(12):
        write(
            tmp_path / f"{index}{('.pgm', '.PPM')[index % 2]}", seed=index, shape=(40, 50, 3)[: 2 + index % 2]
        )
    assert len(load_good(tmp_path, 64)) == 12


def test_test_pictures_never_get_in(tmp_path: Path) -> None:
    fill(tmp_path / "test" / "crack")
    with pytest.raises(DataError, match="training takes good pictures only"):
        good_folder(tmp_path)


def test_names_count_up_as_numbers(tmp_path: Path) -> None:
    fill(tmp_path)
    assert [p.stem for p in list_pictures(tmp_path)] == [str(n) for n in range(12)]
    write(tmp_path / "1²2.png")  # a digit, and no number
    assert [p.stem for p in list_pictures(tmp_path)][1:3] == ["1", "1²2"]


@pytest.mark.parametrize("made_first", [0, 1])
def test_names_of_one_number_stand_in_one_order_whichever_came_first(tmp_path: Path, made_first: int) -> None:
    twins = [tmp_path / "a1.png", tmp_path / "a01.png"]
    with pytest.MonkeyPatch.context() as patched:
        found = twins if made_first == 0 else twins[::-1]
        patched.setattr(Path, "iterdir", lambda _: iter(found))
        assert [p.name for p in list_pictures(tmp_path)] == ["a01.png", "a1.png"]


def named(count: int) -> GoodPictures:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return GoodPictures(pixels, tuple(f"{n}.png" for n in range(count)), ())


@pytest.mark.parametrize(
    ("count", "held_out"), [(10, 4), (14, 5), (23, 8), (24, 8), (40, 10), (100, 25), (250, 60)]
)
def test_a_quarter_is_held_out_in_runs_and_the_newest_is_learnt_from(count: int, held_out: int) -> None:
    training, out = named(count).split()
    assert len(out) == held_out and not set(training.names) & set(out.names)
    assert set(training.names) | set(out.names) == set(named(count).names)
    assert f"{count - 1}.png" in training.names
    assert [f"{n}.png" for n in out.pixels[:, 0, 0, 0]] == list(out.names)
    places = [int(name[:-4]) for name in out.names]
    alone = [n for n in places if n - 1 not in places and n + 1 not in places]
    assert not alone and places[0] < count / 4 and places[-1] > count * 3 / 4 - 1


def test_takes_of_one_part_stay_together() -> None:
    rng = np.random.default_rng(1)
    parts = np.repeat(np.arange(30), rng.integers(1, 4, 30))
    things = rng.integers(60, 190, (30, 32, 32, 3))
    pixels = np.clip(things[parts] + rng.normal(0, 5, (len(parts), 32, 32, 3)), 0, 255).astype(np.uint8)
    part_of = {f"{n}.png": part for n, part in enumerate(parts)}
    training, out = GoodPictures(pixels, tuple(part_of), ()).split()
    assert not {part_of[name] for name in training.names} & {part_of[name] for name in out.names}
    assert 0.15 * len(parts) < len(out) < 0.4 * len(parts)


@pytest.mark.parametrize(
    ("pictures", "of_a_part"), [(50, 6), (50, 8), (100, 8), (200, 15), (400, 30), (24, 6), (20, 5)]
)
def test_parts_of_many_pictures_are_not_cut(pictures: int, of_a_part: int) -> None:
    part_of = np.arange(pictures) // of_a_part
    things = np.random.default_rng(3).integers(0, 256, (pictures, 16, 16, 3), dtype=np.uint8)
    training, out = GoodPictures(things[part_of], tuple(map(str, range(pictures))), ()).split()
    held = {part_of[int(name)] for name in out.names}
    assert held and not held & {part_of[int(name)] for name in training.names}
    assert of_a_part <= len(out) <= pictures / 2


def test_copies_are_held_out_together_in_whatever_order_they_stand() -> None:
    rng = np.random.default_rng(4)
    part_of = rng.permutation(np.repeat(np.arange(30), 3))
    things = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    training, out = GoodPictures(things[part_of], tuple(map(str, range(90))), ()).split()
    assert len(out) >= 20
    assert not {part_of[int(n)] for n in out.names} & {part_of[int(n)] for n in training.names}


def test_filed_false_alarms_are_learnt_from_and_have_no_say() -> None:
    good = named(40)
    filed = tuple(f"20261126T1011{n:02}.131415Z-{n:016x}.png" for n in range(20))
    mixed = GoodPictures(good.pixels, (*good.names[:20], *filed), ())
    training, out = mixed.split()
    assert set(filed) <= set(training.names) and len(out) == 7
    # Where there is nothing else, better by those than not at all.
    training, out = GoodPictures(good.pixels[20:], filed, ()).split()
    assert len(out) == 7


def test_files_that_are_the_same_count_once(tmp_path: Path) -> None:
    fill(tmp_path)
    for n in range(3):
        (tmp_path / f"copy{n}.png").write_bytes((tmp_path / f"{n}.png").read_bytes())
    good = load_good(tmp_path, 64)
    assert len(good) == 12 and "3 copies of other files, such as copy0.png, don't count." in good.notes


def test_one_endless_take_is_still_split() -> None:
    still = np.random.default_rng(2).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    pixels = np.concatenate([np.repeat(still, 40, 0), 255 - np.repeat(still, 2, 0)])
    training, out = GoodPictures(pixels, tuple(f"{n}.png" for n in range(42)), ()).split()
    assert len(out) == 10 and len(training) == 32


def test_the_same_pictures_are_split_alike() -> None:
    assert named(50).split()[1].names == named(50).split()[1].names


def test_a_folder_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="can't be read: File name too long"):
        good_folder(tmp_path / ("x" * 300))

    def forbidden(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(DataError, match="can't be read: Permission denied"):
        list_pictures(tmp_path)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((40, 50), np.uint8, "grey"),
        ((40, 50, 4), np.uint8, "four channels (alpha or CMYK)"),
        ((40, 50, 3), np.uint16, "16-bit"),
        ((40, 50), np.uint16, "16-bit grey"),
        ((40, 50, 3), np.uint8, ""),
    ],
)
def test_other_kinds_become_eight_bit_rgb(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, kind: str
) -> None:
    pixels, found = read_picture(write(tmp_path / "x.png", shape=shape, dtype=dtype))
    assert pixels.shape == (40, 50, 3)
    assert pixels.dtype == np.uint8
    assert pixels.max() > 200
    assert found == kind


def cmyk_jpeg(*inks: int) -> bytes:
    """A plain 8x8 picture as a JPEG of four components, as Adobe writes them: 255 is no ink."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    bits = ""
    for level in (ink - 128 for ink in inks):
        size = abs(level).bit_length()
        value = level if level > 0 else level + (1 << size) - 1
        bits += f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"),
            segment(0xDB, b"\0" + b"\x08" * 64),
            segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(4))),
            segment(0xC4, b"\0" + bytes([0, 0, 0, 12, *[0] * 12]) + bytes(range(12))),
            segment(0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0"),
            segment(0xDA, b"\x04" + b"".join(bytes([i, 0]) for i in range(4)) + b"\0\x3f\0"),
            coded,
            b"\xff\xd9",
        )
    )


def test_a_cmyk_jpeg_becomes_rgb_and_is_remarked(tmp_path: Path) -> None:
    (tmp_path / "print.jpg").write_bytes(cmyk_jpeg(255, 0, 0, 255))
    pixels, kind = read_picture(tmp_path / "print.jpg")
    assert np.allclose(pixels.astype(int), (255, 0, 0), atol=2) and kind == "CMYK"
    assert read_picture(write(tmp_path / "screen.jpg"))[1] == ""


@pytest.mark.parametrize(("top", "said"), [(4095, True), (4096, False)])
def test_twelve_bits_in_sixteen_are_remarked(tmp_path: Path, top: int, said: bool) -> None:
    write(tmp_path / "eight-bit.png")
    for index in range(12):
        deep = np.full((40, 50, 4), min(top, 4000 + index * 50), np.uint16)
        deep[index, index, :3] = 4000  # no two the same
        deep[..., 3] = 65535  # all opaque
        cv2.imwrite(str(tmp_path / f"{index}.png"), deep)
    notes = " ".join(load_good(tmp_path, 64).notes)
    assert ("The 12 16-bit pictures all stay below 4096" in notes) == said


def test_red_stays_red(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((8, 8, 3), (0, 0, 255), np.uint8))
    assert read_picture(tmp_path / "red.png")[0][0, 0].tolist() == [255, 0, 0]


def test_an_unreadable_picture_is_skipped_and_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    (tmp_path / "empty.jpg").touch()
    good = load_good(tmp_path, 64)
    assert len(good) == 12
    assert sum("is not a readable picture" in note for note in good.notes) == 2


@pytest.mark.parametrize(
    ("count", "says"), [(0, "holds no pictures"), (9, "holds 9 good pictures; at least 10 are needed")]
)
def test_too_few_pictures_are_refused(tmp_path: Path, count: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_good(fill(tmp_path, count), 64)


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load_good(tmp_path / "nowhere", 64)


def test_mixed_sizes_and_conversions_are_remarked(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / "a.png", shape=(80, 30))
    notes = " ".join(load_good(tmp_path, 64).notes)
    assert "2 different sizes" in notes
    assert "1 pictures were converted from grey" in notes


def test_what_else_lies_in_the_folder_is_said_once(tmp_path: Path) -> None:
    assert load_good(fill(tmp_path / "plain"), 64).notes == ()
    fill(tmp_path)
    fill(tmp_path / "2026-11-23" / "early", 2)
    fill(tmp_path / "2026-11-24", 2)
    fill(tmp_path / ".thumbnails", 2)
    fill(tmp_path / "cache" / ".small", 2)
    for name in ("labels.csv", "film.mp4", ".DS_Store"):
        (tmp_path / name).touch()
    assert load_good(tmp_path, 64).notes == (
        "2 files of other kinds and 3 subfolders with pictures are not used, such as 2026-11-23.",
    )


def test_a_folder_without_pictures_of_its_own_says_where_they_are(tmp_path: Path) -> None:
    fill(tmp_path / "2026-11-24", 2)
    (tmp_path / "raw.cr2").touch()
    says = r"no pictures of .*\(1 files of other kinds and 1 subfolders with pictures are not used, such as"
    with pytest.raises(DataError, match=says):
        load_good(tmp_path, 64)
    fill(tmp_path, 3)
    with pytest.raises(DataError, match=r"holds 3 good pictures \(1 files of other kinds and"):
        load_good(tmp_path, 64)


def test_a_pipe_among_good_pictures_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(fill(tmp_path) / "feed.png")
    good = load_good(tmp_path, 64)
    assert len(good) == 12
    assert [note for note in good.notes if "feed.png is a pipe" in note]


def test_of_far_more_good_pictures_some_are_taken_spread_over_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.dataset, "MOST_GOOD", 12)
    good = load_good(fill(tmp_path, 36), 64)
    assert good.names == tuple(f"{number}.png" for number in range(0, 36, 3))
    assert good.notes[-1].startswith("12 of 36 pictures are used")


@pytest.mark.parametrize(
    ("filed", "others", "filed_taken"), [(2, 30, 2), (30, 30, 5), (30, 3, 7), (0, 30, 0)]
)
def test_the_newest_false_alarms_are_among_the_pictures_taken(
    filed: int, others: int, filed_taken: int
) -> None:
    alarms = [Path(f"20261126T1200{n:02d}.000000Z-{n:016x}.png") for n in range(filed)]
    captured = [Path(f"20261126T1300{n:02d}.000000Z.png") for n in range(others)]
    taken = at_most([*alarms, *captured], 10)
    assert len(taken) == 10
    assert [path for path in taken if path in alarms] == alarms[len(alarms) - filed_taken :]
