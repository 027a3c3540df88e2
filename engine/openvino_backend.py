"""Teacher and camera networks in OpenVINO: on a CPU several times faster than torch, behind the same parity
gate.

Networks of several cameras run side by side with one thread each, of many threads a few, which wastes no time
on waiting at barriers; a lone one takes all threads.
"""

import copy
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import nn

from .artifact import Artifact
from .backend import Prepared
from .choose import torch_threads
from .fitting import Picture, fitted
from .images import to_device
from .lanes import Lanes
from .model.dmdd import CameraNetwork, build_network
from .model.precision import cpu_has_bf16, cpu_name
from .model.teacher import build_teacher
from .openvino_graph import GraphCache, GraphError, export, fill, key_of, state_digest
from .openvino_pieces import EvidencePiece, Join, TeacherPiece, weighty_pieces
from .parity import Gap, probe_pictures
from .torch_backend import BuildNetwork, BuildTeacher, TorchBackend

_HINTS = {"bf16": "bf16", "float32": "f32"}
_TORCH = "torch"
# Networks run side by side in so many lanes, or in a few more where that gives every thread work: 7 threads
# are 7 lanes of one, 15 are 5 of three. With fewer threads each is a lane.
_SIDE_BY_SIDE = 4
# A teacher looks at one picture a thread at once, from two to four: as fast as eight, and with two threads
# 80 MB less.
_TEACHER_PICTURES = (2, 4)


Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class _Chain:
    """What one camera's network is to OpenVINO; for one thread at a time.

    `evidence` holds the requests of the piece between student and head, which any camera of the size may
    borrow, as many as threads may want one: one for each camera would cost 5 MB more of each.
    """

    student: Any
    strength: NDArray[np.float32]
    evidence: "SimpleQueue[Any]"
    head: Any
    join: Join

    def write_raw_maps(self, features: Arrays, out: NDArray[np.float32]) -> None:
        """Into `out` (n, P, P)."""
        student = _infer(self.student, [features[0]])
        borrowed = self.evidence.get()
        try:
            evidence = _infer(borrowed, [*features, *student, self.strength])
            [logits] = _infer(self.head, evidence)
            self.join.write(evidence[0], logits, out)
        finally:
            self.evidence.put(borrowed)


class _Teacher:
    """A teacher's request, and what it says of the last pictures; for one thread at a time."""

    def __init__(self, request: Any, side_px: int, at_once: int) -> None:
        self._request = request
        self._at_once = at_once
        self._levels = [
            level.copy() for level in _infer(request, [np.zeros((1, side_px, side_px, 3), dtype=np.uint8)])
        ]

    def __call__(self, images: NDArray[np.uint8]) -> Arrays:
        """The levels of (n, P, P, 3), valid until the next call."""
        count = len(images)
        if len(self._levels[0]) < count:
            self._levels = [np.empty((count, *level.shape[1:]), level.dtype) for level in self._levels]
        for start in range(0, count, self._at_once):
            part = slice(start, min(start + self._at_once, count))
            for index, level in enumerate(self._levels):
                self._request.set_output_tensor(index, ov.Tensor(level[part], shared_memory=True))
            _infer(self._request, [images[part]])
        return [level[:count] for level in self._levels]


def _infer(request: Any, arrays: Arrays) -> Arrays:
    """Outputs are the request's own memory, valid until its next run."""
    for index, array in enumerate(arrays):
        request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
    request.infer()
    return [request.get_output_tensor(index).data for index in range(len(request.model_outputs))]


class OpenVinoBackend:
    """`precision`: "auto" or "bf16" (bfloat16 where the CPU computes in it and the model agrees), or
    "float32".

    A model that agrees in neither, or can't be exported, is run by torch; its note says so. `cache_dir` keeps
    exported graphs and verdicts for the next start.
    """

    works_beside = True

    def __init__(
        self,
        *,
        threads: int,
        precision: str = "auto",
        cache_dir: Path | None = None,
        teacher_weights: Mapping[str, Path] | None = None,
        make_teacher: BuildTeacher = build_teacher,
        make_network: BuildNetwork = build_network,
    ) -> None:
        self.device = torch.device("cpu")
        self._threads = threads
        self._threads_each = max(1, threads // _SIDE_BY_SIDE)
        self._lanes = Lanes(threads // self._threads_each)
        wants_bf16 = precision != "float32" and cpu_has_bf16()
        self._precisions = ("bf16", "float32") if wants_bf16 else ("float32",)
        self._torch = TorchBackend(
            self.device,
            teacher_weights=teacher_weights,
            bf16=False,
            make_teacher=make_teacher,
            make_network=make_network,
        )
        # What torch does beside the networks is small, and its threads would wait for each other on cores
        # that cameras and the page have just taken: 0.1 ms became 5.
        torch.set_num_threads(1)
        self._core = ov.Core()
        self._cache = GraphCache(cache_dir)
        self._teachers: dict[str, _Teacher] = {}
        self._evidence: dict[tuple[str, int, int], SimpleQueue[Any]] = {}
        # The chain that has all threads, as long as somebody holds it; two while its model is swapped.
        self._wide: WeakKeyDictionary[_Chain, tuple[str, int, str]] = WeakKeyDictionary()
        self._loading = threading.Lock()

    @property
    def name(self) -> str:
        return f"openvino cpu {self._precisions[0]}"

    def prepare(self, artifact: Artifact) -> Prepared:
        """Raises ArtifactError and TeacherError as torch would."""
        with self._loading:
            network = self._torch.network(artifact)
            model = artifact.sha256 or state_digest(artifact.state)
            asked = (model, artifact.size, artifact.input_px, artifact.teacher_sha256, self._precisions)
            # The gate measures in alarm levels: the same weights calibrated anew are judged anew.
            key = key_of("verdict", cpu_name(), *asked, artifact.calibration)
            verdict = self._cache.verdict(key)
            if verdict is None:
                verdict = self._judge(artifact, network)
                self._cache.keep_verdict(key, verdict)
            return self._runnable(artifact, network, verdict["precision"], verdict["note"])

    def upload(self, pictures: Sequence[Picture]) -> NDArray[np.uint8]:
        side = pictures[0][1].side_px
        starts = [0, *accumulate(tiling.count for _, tiling in pictures)]
        squares = np.empty((starts[-1], side, side, 3), dtype=np.uint8)

        def fit(picture: Picture, start: int) -> None:
            for number, square in enumerate(fitted(picture)):
                squares[start + number] = square

        self._lanes.run([partial(fit, *each) for each in zip(pictures, starts[:-1], strict=True)])
        return squares

    def features(self, teacher: str, images: NDArray[np.uint8]) -> Any:
        """Arrays that stay valid until the next call, or torch's tensors for torch's networks."""
        if teacher not in self._teachers:
            with torch_threads(self._threads):
                return self._torch.features(teacher, to_device(list(images), self.device))
        return self._teachers[teacher](images)

    def raw_maps(
        self, networks: Sequence[tuple[Prepared, slice]], images: NDArray[np.uint8], features: Any
    ) -> torch.Tensor:
        if not isinstance(networks[0][0].network, dict):
            with torch_threads(self._threads):
                return self._torch.raw_maps(networks, to_device(list(images), self.device), features)
        maps = np.empty(images.shape[:3], dtype=np.float32)
        threads = self._threads if len(networks) == 1 else self._threads_each

        def look(prepared: Prepared, part: slice) -> None:
            chains: dict[int, _Chain] = prepared.network
            chain = chains.get(threads) or chains[self._threads_each]
            chain.write_raw_maps([level[part] for level in features], maps[part])

        self._lanes.run([partial(look, *each) for each in networks])
        return torch.from_numpy(maps)

    def settle(
        self, networks: Sequence[tuple[Prepared, slice]], images: NDArray[np.uint8], most: int
    ) -> None:
        """Nothing to measure: side by side won wherever it was measured."""

    @property
    def together(self) -> str:
        lanes = self._threads // self._threads_each
        return f"{lanes} side by side, {self._threads_each} thread{'s' * (self._threads_each > 1)} each"

    def student_share(self, prepared: Prepared, images: NDArray[np.uint8], features: Any) -> float:
        if not isinstance(prepared.network, dict):
            with torch_threads(self._threads):
                return self._torch.student_share(prepared, to_device(list(images), self.device), features)
        chain: _Chain = next(iter(prepared.network.values()))
        maps = np.empty(images.shape[:3], dtype=np.float32)
        shares = []
        for _ in range(5):
            begin = time.perf_counter()
            _infer(chain.student, [features[0]])
            middle = time.perf_counter()
            chain.write_raw_maps(features, maps)
            shares.append((middle - begin) / (time.perf_counter() - middle))
        return min(1.0, float(np.median(shares)))

    def _judge(self, artifact: Artifact, network: nn.Module) -> dict[str, str]:
        """The fastest precision that agrees with torch's float32, and how well it does."""
        with torch_threads(self._threads):
            exact = self._torch.reference(artifact, network)
        why = "it was never tried"
        for precision in self._precisions:
            try:
                gap = Gap.between(exact, self._answer(artifact, network, precision), artifact)
            except GraphError as error:
                why = str(error)
                continue
            if not gap.is_wide:
                return {"precision": precision, "note": f"openvino cpu {precision} ({gap})"}
            why = f"OpenVINO answers differently, {gap}"
        return {"precision": _TORCH, "note": f"torch cpu float32: {why}"}

    def _answer(self, artifact: Artifact, network: nn.Module, precision: str) -> torch.Tensor:
        """Raw maps of the probe pictures, by requests of its own: the device thread waits for none."""
        images = np.stack(probe_pictures(artifact.input_px))
        looked = self._teacher(artifact, precision)(images)
        maps = np.empty(images.shape[:3], dtype=np.float32)
        chain = self._chains(artifact, network, precision, self._threads, own=True)[self._threads]
        chain.write_raw_maps(looked, maps)
        return torch.from_numpy(maps)

    def _runnable(self, artifact: Artifact, network: nn.Module, precision: str, note: str) -> Prepared:
        if precision == _TORCH:
            return Prepared(f"{artifact.teacher}/float32", network, note)
        teacher = f"{artifact.teacher}/{artifact.input_px}/{precision}"
        if teacher not in self._teachers:
            self._teachers[teacher] = self._teacher(artifact, precision)
        # Only one model is compiled a second time, to have all threads when it is alone: with more cameras
        # that would double each one's memory for the rare batch of one frame. A frame in tiles is work for
        # all threads whenever it comes.
        first = self._is_first(artifact)
        wide = first or artifact.tiling.count > 1
        threads = {self._threads_each, self._threads} if wide else {self._threads_each}
        chains = self._chains(artifact, network, precision, *threads)
        if first:
            self._wide[chains[self._threads]] = _identity(artifact)
        return Prepared(teacher, chains, note)

    def _is_first(self, artifact: Artifact) -> bool:
        """Whether no model has all threads, or only the version that this one comes to replace."""
        mine, holders = _identity(artifact), list(self._wide.values())
        # The same version again is another camera's.
        return not holders or (len(holders) == 1 and holders[0][0] == mine[0] and holders[0] != mine)

    def _chains(
        self, artifact: Artifact, network: nn.Module, precision: str, *threads: int, own: bool = False
    ) -> dict[int, _Chain]:
        """One chain for each number of threads; `own`: that borrows nothing. Raises GraphError."""
        if not isinstance(network, CameraNetwork):
            raise GraphError(f"A network of size {artifact.size} can't be cut in pieces.")
        rounded = _is_rounded(precision)
        graphs = self._graphs(artifact, ("student", "head"), rounded)
        for name, piece in weighty_pieces(network, rounded=rounded).items():
            fill(graphs[name], piece.state_dict())
        evidence = partial(self._evidence_requests, count=1) if own else self._evidence_of
        return {
            number: _Chain(
                student=self._request(graphs["student"], precision, number),
                strength=network.strength.numpy(),
                evidence=evidence(artifact, number),
                head=self._request(graphs["head"], precision, number),
                join=Join(network),
            )
            for number in threads
        }

    def _evidence_of(self, artifact: Artifact, threads: int) -> "SimpleQueue[Any]":
        """What cameras of one size borrow: as many as there are lanes of so many threads."""
        key = (artifact.size, artifact.input_px, threads)
        if key not in self._evidence:
            self._evidence[key] = self._evidence_requests(artifact, threads, self._threads // threads)
        return self._evidence[key]

    def _evidence_requests(self, artifact: Artifact, threads: int, count: int) -> "SimpleQueue[Any]":
        [graph] = self._graphs(artifact, ("evidence",), rounded=False).values()
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            # Small differences of large numbers: never in bfloat16.
            requests.put(self._request(graph, "float32", threads))
        return requests

    def _request(self, graph: ov.Model, precision: str, threads: int) -> Any:
        wishes = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Decoders and the event loop share these cores: a pinned thread would wait behind them.
            "ENABLE_CPU_PINNING": False,
        }
        return self._core.compile_model(graph, "CPU", wishes).create_infer_request()

    def _teacher(self, artifact: Artifact, precision: str) -> _Teacher:
        piece = TeacherPiece(self._torch.teacher(artifact.teacher), rounded=_is_rounded(precision)).eval()
        key = key_of("teacher", artifact.teacher, artifact.input_px, precision)
        if (graph := self._cache.graph(self._core, key)) is None:
            pictures = torch.from_numpy(np.stack(probe_pictures(artifact.input_px)[:2]))
            graph = export(copy.deepcopy(piece), (pictures,))
            self._cache.keep_graph(key, graph)
        fill(graph, piece.state_dict())
        fewest, most = _TEACHER_PICTURES
        at_once = min(max(fewest, self._threads), most)
        return _Teacher(self._request(graph, precision, self._threads), artifact.input_px, at_once)

    def _graphs(self, artifact: Artifact, names: Sequence[str], rounded: bool) -> dict[str, ov.Model]:
        """Those pieces of a size, weights still to be filled in. Raises GraphError."""
        # Only the student is another graph when its features are rounded.
        forms = {name: rounded and name == "student" for name in names}
        keys = {n: key_of(n, artifact.size, artifact.input_px, form) for n, form in forms.items()}
        found = {name: self._cache.graph(self._core, key) for name, key in keys.items()}
        graphs = {name: graph for name, graph in found.items() if graph is not None}
        if len(graphs) < len(names):
            for name, graph in self._exported(artifact, rounded, set(names) - set(graphs)).items():
                self._cache.keep_graph(keys[name], graph)
                graphs[name] = graph
        return graphs

    def _exported(self, artifact: Artifact, rounded: bool, wanted: set[str]) -> dict[str, ov.Model]:
        """Export the wanted pieces of a size, each with what the one before gives as its example."""
        fresh = self._torch.unfilled_network(artifact.size)
        assert isinstance(fresh, CameraNetwork)
        pictures = probe_pictures(artifact.input_px)[:2]
        pieces = weighty_pieces(fresh, rounded=rounded) | {"evidence": EvidencePiece().eval()}
        with torch.no_grad():
            looked = self._torch.teacher(artifact.teacher)(to_device(pictures, self.device))
            levels = (*looked, *pieces["student"](looked[0]), fresh.strength.clone())
            examples = {"student": (looked[0],), "evidence": levels, "head": pieces["evidence"](*levels)}
        return {
            name: export(
                pieces[name], tuple(t.contiguous() for t in examples[name]), fixed=int(name == "evidence")
            )
            for name in wanted
        }


def _identity(artifact: Artifact) -> tuple[str, int, str]:
    return artifact.name, artifact.version, artifact.sha256


def _is_rounded(precision: str) -> bool:
    return precision == "bf16"
