"""OpenVINO answers as torch does, or torch answers."""

import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.backend import Prepared
from engine.choose import open_backend
from engine.core import Batch, Frame
from engine.errors import ArtifactError, DeviceError
from engine.images import to_device
from engine.library import CameraTuning, Library
from engine.model.dmdd import PARTS, CameraNetwork
from engine.openvino_backend import OpenVinoBackend
from engine.openvino_graph import GraphCache, GraphError, export, fill
from engine.openvino_pieces import EvidencePiece, Join, weighty_pieces
from engine.parity import Gap, probe_pictures
from engine.runner import Runner
from engine.tiles import Tiling
from engine.torch_backend import TorchBackend
from tests.models import TinyNetwork, TinyTeacher, bright_spot, good_calibration, tiny_artifact


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Kept graphs of the light network at 64 px, without verdicts, and the CPU seconds that they took."""
    folder = tmp_path_factory.mktemp("graphs")
    started = time.process_time()
    OpenVinoBackend(threads=2, precision="float32", cache_dir=folder).prepare(
        tiny_artifact(real="lite", input_px=64)
    )
    seconds = time.process_time() - started
    for verdict in folder.glob("*.json"):
        verdict.unlink()
    return folder, seconds


@pytest.fixture
def graphs(exported: tuple[Path, float], tmp_path: Path) -> Path:
    """The same for a test to write to."""
    return Path(shutil.copytree(exported[0], tmp_path / "graphs"))


class Scale(nn.Module):
    """A small thing to export."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def run(graph: object, x: torch.Tensor) -> torch.Tensor:
    import openvino as ov

    return torch.from_numpy(
        ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x.numpy()])[0]
    )


def test_one_exported_graph_serves_any_weights_and_any_number_of_pictures(tmp_path: Path) -> None:
    import openvino as ov

    cache = GraphCache(tmp_path)
    cache.keep_graph("scale", export(Scale().eval(), (torch.zeros(2, 3, 4, 4),)))
    for seed in (1, 2):
        torch.manual_seed(seed)
        module, x = Scale().eval(), torch.rand(seed, 3, 4, 4)
        graph = cache.graph(ov.Core(), "scale")
        fill(graph, module.state_dict())
        assert torch.allclose(run(graph, x), module(x), atol=1e-5)


def test_weights_that_do_not_fit_a_graph_are_refused() -> None:
    graph = export(Scale().eval(), (torch.zeros(2, 3, 4, 4),))
    with pytest.raises(GraphError, match="no place"):
        fill(graph, {"other": torch.zeros(1)})
    with pytest.raises(GraphError, match="has shape"):
        fill(graph, {"conv.bias": torch.zeros(5)})


def test_a_network_that_can_not_be_exported_is_said_so_also_without_words() -> None:
    class Wordless(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError

    with pytest.raises(GraphError, match="can't be exported: RuntimeError"):
        export(Wordless().eval(), (torch.zeros(2, 3, 4, 4),))


def test_a_broken_cache_entry_reads_as_none(tmp_path: Path) -> None:
    import openvino as ov

    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "graph.xml").write_text("<net", encoding="ascii")
    (tmp_path / "verdict.json").write_text("[", encoding="ascii")
    cache = GraphCache(tmp_path)
    assert cache.graph(ov.Core(), "graph") is None and cache.verdict("verdict") is None


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    cache = GraphCache(tmp_path / "file" / "below")
    cache.keep_verdict("v", {"precision": "bf16"})
    assert cache.verdict("v") is None


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_nothing_can_be_written_a_graph_is_exported_once_all_the_same(tmp_path: Path) -> None:
    import openvino as ov

    (tmp_path / "file").write_text("", encoding="ascii")
    graph = export(Scale().eval(), (torch.zeros(2, 3, 4, 4),))
    refusing, full = GraphCache(tmp_path / "file" / "below"), GraphCache(tmp_path / "full")
    refusing.keep_graph("scale", graph)
    with full_disk():
        full.keep_graph("scale", graph)
    assert not list((tmp_path / "full").iterdir())
    for cache in (refusing, full):
        kept = cache.graph(ov.Core(), "scale")
        assert kept is not None and kept is not graph


def test_the_oldest_entries_go_and_nothing_of_anybody_else(tmp_path: Path) -> None:
    cache, keys = GraphCache(tmp_path), [f"{number:032x}" for number in range(300)]
    foreign = [tmp_path / f"picture-{number}.png" for number in range(300)]
    for path in foreign:
        path.touch()
        os.utime(path, (0, 0))
    for age, key in enumerate(keys):
        cache.keep_verdict(key, {"precision": "bf16"})
        os.utime(tmp_path / f"{key}.json", (1 + age, 1 + age))
    cache.keep_verdict("f" * 32, {"precision": "bf16"})
    assert all(path.exists() for path in foreign)
    assert cache.verdict(keys[0]) is None and cache.verdict(keys[-1]) is not None
    assert len(list(tmp_path.glob("*.json"))) == 256


def test_another_user_may_read_what_is_kept(tmp_path: Path) -> None:
    GraphCache(tmp_path).keep_graph("scale", export(Scale().eval(), (torch.zeros(2, 3, 4, 4),)))
    assert (tmp_path / "scale").stat().st_mode & 0o777 == 0o755


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if me == 0:
            os.seteuid(0)


def test_what_another_user_keeps_for_himself_reads_as_none(tmp_path: Path) -> None:
    import openvino as ov

    core, cache = ov.Core(), GraphCache(tmp_path)
    cache.keep_graph("scale", export(Scale().eval(), (torch.zeros(2, 3, 4, 4),)))
    cache.keep_verdict("verdict", {"precision": "bf16"})
    (tmp_path / "scale").chmod(0)
    (tmp_path / "verdict.json").chmod(0)
    with as_nobody():
        assert cache.graph(core, "scale") is None and cache.verdict("verdict") is None
    (tmp_path / "scale").chmod(0o755)


def test_the_pieces_in_a_row_are_the_network() -> None:
    backend = TorchBackend(torch.device("cpu"), bf16=False)
    artifact = tiny_artifact(real="lite", input_px=128)
    network, pictures = backend.network(artifact), probe_pictures(128)[1:3]
    assert isinstance(network, CameraNetwork)
    network.part_mean.copy_(torch.linspace(-8.0, 2.0, PARTS))
    network.part_std.copy_(torch.linspace(0.5, 2.0, PARTS))
    network.strength.copy_(torch.tensor([0.5, 2.0, 3.0]))
    pieces = weighty_pieces(network, rounded=False)
    maps = np.empty((2, 128, 128), dtype=np.float32)
    with torch.inference_mode():
        looked = backend.teacher(artifact.teacher)(to_device(pictures, backend.device))
        evidence = EvidencePiece()(*looked, *pieces["student"](looked[0]), network.strength)
        Join(network).write(evidence[0].numpy(), pieces["head"](*evidence).numpy(), maps)
        exact = network(to_device(pictures, backend.device), looked)
    assert torch.allclose(torch.from_numpy(maps), exact, atol=1e-4)


def test_rounded_features_leave_as_bfloat16_holds_them_and_can_be_exported() -> None:
    network = TorchBackend(torch.device("cpu")).network(tiny_artifact(real="lite", input_px=64))
    assert isinstance(network, CameraNetwork)
    first = torch.rand(2, 24, 16, 16)
    exact, rounded = (weighty_pieces(network, rounded=form)["student"] for form in (False, True))
    with torch.inference_mode():
        wanted = [level.bfloat16().float() for level in exact(first)]
        assert all(map(torch.equal, rounded(first), wanted))
    state = {name: weight.clone() for name, weight in rounded.state_dict().items()}
    graph = export(rounded, (first,))
    fill(graph, state)
    torch.testing.assert_close(run(graph, first), wanted[0], atol=2e-2, rtol=2e-2)


def test_a_network_that_cannot_be_cut_is_run_by_torch_and_says_so() -> None:
    backend = OpenVinoBackend(
        threads=2, make_teacher=lambda name, weights: TinyTeacher(), make_network=lambda size: TinyNetwork()
    )
    library = Library()
    runner = Runner(library, backend=backend)
    library.put("top", tiny_artifact(), CameraTuning(min_area_px=1.0))
    entry = library.get("top")
    assert entry is not None and "torch cpu float32" in entry.network.note
    [seen] = runner.run(Batch((Frame("top", 1, 0.0, time.monotonic(), bright_spot()),)))
    assert [d.box for d in seen.defects] == [(12, 8, 24, 20)]


def test_a_teacher_says_of_many_pictures_what_it_says_of_each(graphs: Path) -> None:
    backend = OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs)
    teacher = backend.prepare(tiny_artifact(real="lite", input_px=64)).teacher
    pictures = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    each = [[level.copy() for level in backend.features(teacher, p[None])] for p in pictures]
    for count in (6, 2):
        for index, level in enumerate(backend.features(teacher, pictures[:count])):
            assert level.shape[0] == count
            wanted = np.concatenate([one[index] for one in each[:count]])
            np.testing.assert_allclose(level, wanted, atol=1e-4 * np.abs(wanted).max())


def test_torch_has_all_cores_for_its_networks_and_one_for_everything_else() -> None:
    had = []

    class Asks(TinyNetwork):
        def forward(self, *given: object) -> torch.Tensor:
            had.append(torch.get_num_threads())
            return super().forward(*given)

    backend = OpenVinoBackend(
        threads=2, make_teacher=lambda name, weights: TinyTeacher(), make_network=lambda size: Asks()
    )
    runner = Runner(library := Library(), backend=backend)
    library.put("top", tiny_artifact(), CameraTuning())
    runner.run(Batch((Frame("top", 1, 0.0, time.monotonic(), bright_spot()),)))
    assert set(had) == {2} and torch.get_num_threads() == 1


def test_maps_that_differ_only_where_nothing_is_decided_agree() -> None:
    artifact = tiny_artifact()
    median = artifact.calibration.median
    span = artifact.calibration.threshold(1.0, 10.0, 2) - median
    deep, deeper = torch.full((1, 2, 2), median - 5 * span), torch.full((1, 2, 2), median - 50 * span)
    near = torch.full((1, 2, 2), median + 0.9 * span)
    assert not Gap.between(deep, deeper, artifact).is_wide
    assert Gap.between(near, near + 0.2 * span, artifact).is_wide
    assert Gap.between(near, torch.full_like(near, torch.nan), artifact).is_wide


def test_the_real_network_answers_as_in_torch_and_starts_faster_with_kept_graphs(
    exported: tuple[Path, float], graphs: Path
) -> None:
    frames = tuple(Frame(c, 1, 0.0, time.monotonic(), bright_spot(256, 256)) for c in ("top", "side"))
    models = {c: tiny_artifact(real="lite", version=v, input_px=64) for v, c in enumerate(("top", "side"))}
    models["side"] = replace(models["side"], tiles="1x2")
    # Each its own: the piece that takes it as an input is shared.
    for camera, strength in (("top", (0.5, 2.0, 3.0)), ("side", (3.0, 0.7, 1.5))):
        state = {**models[camera].state, "strength": torch.tensor(strength)}
        models[camera] = replace(models[camera], state=state)
    answers, seconds = [], 0.0
    for backend in (
        TorchBackend(torch.device("cpu"), bf16=False),
        OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs),
    ):
        library, started = Library(), time.process_time()
        runner = Runner(library, backend=backend)
        for camera, model in models.items():
            library.put(camera, model)
        seconds = time.process_time() - started
        answers.append([i.score_ratio for i in runner.run(Batch(frames))])
        answers.append([runner.run(Batch((frame,)))[0].score_ratio for frame in frames])
    assert all(answer == pytest.approx(answers[0], rel=1e-3) for answer in answers)
    assert seconds < exported[1]  # although there are two models
    side = library.get("side")
    # The first model, and any in tiles, has all threads for itself when it comes alone.
    assert side is not None and set(side.network.network) == {1, 2}


def test_one_model_has_all_threads_for_when_it_is_alone_and_hands_them_on(graphs: Path) -> None:
    backend = OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs)

    def threads_of(name: str, version: int) -> tuple[set[int], Prepared]:
        made = tiny_artifact(real="lite", name=name, version=version, input_px=64)
        prepared = backend.prepare(made)
        return set(prepared.network), prepared

    for_all, top = threads_of("top", 1)
    assert for_all == {1, 2}
    for_side, side = threads_of("side", 1)
    assert for_side == {1}
    # The next version takes them over, while the old one still runs; another camera's with it does not.
    swapped, newer = threads_of("top", 2)
    assert swapped == {1, 2} and threads_of("top", 2)[0] == {1}
    del top
    assert threads_of("side", 2)[0] == {1}
    # With its last holder gone they are free.
    del newer
    freed, side = threads_of("side", 2)
    assert freed == {1, 2} and side is not None


def test_weights_that_are_calibrated_anew_are_judged_anew(graphs: Path) -> None:
    backend = OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs)
    made = replace(tiny_artifact(real="lite", input_px=64), sha256="a" * 64)
    again = replace(made, version=2, calibration=good_calibration(64, low=2.0))
    verdicts = []
    for model in (made, made, again):
        backend.prepare(model)
        verdicts.append(len(list(graphs.glob("*.json"))))
    assert verdicts == [1, 1, 2]


def test_a_new_model_is_judged_without_waiting_for_what_the_device_thread_holds(graphs: Path) -> None:
    backend = OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs)
    first = backend.prepare(tiny_artifact(real="lite", input_px=64))
    held = [chain.evidence.get() for chain in first.network.values()]
    judging = threading.Thread(
        target=backend.prepare, args=(tiny_artifact(real="lite", version=2, input_px=64),), daemon=True
    )
    judging.start()
    judging.join(60.0)
    assert held and not judging.is_alive()


def test_a_model_that_answers_no_numbers_is_refused_and_no_verdict_on_it_is_kept(graphs: Path) -> None:
    made = tiny_artifact(real="lite", input_px=64)
    flat = replace(made, state={**made.state, "part_std": torch.zeros(PARTS)})
    backend = OpenVinoBackend(threads=2, precision="float32", cache_dir=graphs)
    for _ in range(2):
        with pytest.raises(ArtifactError, match="not numbers"):
            backend.prepare(flat)


def test_frames_of_several_sizes_and_tilings_are_uploaded_in_their_order() -> None:
    dice = np.random.default_rng(1)
    shapes = ((480, 640, 3), (64, 64, 3), (300, 200, 3))
    pictures = [
        (dice.integers(0, 256, shape, dtype=np.uint8), Tiling.of(64, words))
        for shape, words in zip(shapes, ("1x1", "1x1", "2x1"), strict=True)
    ]
    squares = OpenVinoBackend(threads=2).upload(pictures)
    assert squares.shape == (4, 64, 64, 3)
    expected = TorchBackend(torch.device("cpu")).upload(pictures)
    assert torch.equal(to_device(squares, "cpu"), expected)


def test_a_wish_for_openvino_is_one_for_the_cpu_also_beside_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen = open_backend("auto", backend="openvino", threads=1, cache_dir=tmp_path)
    assert chosen.device.type == "cpu" and chosen.name.startswith("openvino")
    with pytest.raises(DeviceError, match="can't run here on cuda:0"):
        open_backend("cuda", backend="openvino", cache_dir=tmp_path)
