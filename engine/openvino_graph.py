"""Torch modules as OpenVINO graphs, and the folder that keeps them for the next start.

Exporting costs seconds, so it is done once for each size of network, not for each model: the graph is
exported with weights that can't be mistaken for one another, each constant gets the name of the weight it
holds, and a model's own weights are put in their place when it is loaded.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
from torch import Tensor, nn
from torch.export.decomp_utils import CustomDecompTable

from .errors import EngineError

_MARK = "weight:"
_KEPT_ENTRIES = 256
# What `key_of` names: graphs, verdicts, and drafts that a power cut left behind.
_OURS = re.compile(r"[0-9a-f]{32}(\.json)?|\.[0-9a-f]{32}-[0-9]+|\.draft-\w+")


class GraphError(EngineError):
    """A network can't be turned into an OpenVINO graph here; torch runs it instead."""


def export(module: nn.Module, example: tuple[Tensor, ...], fixed: int = 0) -> ov.Model:
    """The module as a graph that takes any number of pictures; its weights are overwritten.

    The last `fixed` inputs have one shape, however many pictures come. Every constant that holds a weight is
    named after it. Raises GraphError.
    """
    names = _overwrite(module)
    try:
        graph = _convert(module, example, fixed)
    except (RuntimeError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise GraphError(f"The network can't be exported: {why}.") from error
    missing = set(names.values()) - _name_constants(graph, names)
    if missing:
        raise GraphError(f"The exported network lost {len(missing)} weights, {min(missing)} for one.")
    return graph


def fill(graph: ov.Model, state: Mapping[str, Tensor]) -> None:
    """Put a model's weights where the graph has its marks. Raises GraphError if they don't fit."""
    left = set(state)
    for node in graph.get_ops():
        name = node.get_friendly_name().removeprefix(_MARK)
        if name not in left or not node.get_friendly_name().startswith(_MARK):
            continue
        value = state[name].numpy()
        if tuple(node.output(0).shape) != value.shape:
            raise GraphError(f"The weight {name} has shape {value.shape}, not {tuple(node.output(0).shape)}.")
        node.output(0).replace(ov.op.Constant(np.ascontiguousarray(value)).output(0))
        left.discard(name)
    if left:
        raise GraphError(f"The graph has no place for {len(left)} weights, {min(left)} for one.")


def _overwrite(module: nn.Module) -> dict[bytes, str]:
    """Give every weight values of its own; returns which bytes belong to which name."""
    dice = torch.Generator().manual_seed(1)
    names = {}
    for name, weight in module.state_dict().items():
        # state_dict shares memory with the module, so this fills the module.
        weight.copy_(torch.rand(weight.shape, generator=dice) + 0.5)
        names[weight.contiguous().numpy().tobytes()] = name
    return names


def _convert(module: nn.Module, example: tuple[Tensor, ...], fixed: int) -> ov.Model:
    # Not openvino.convert_model: that one reports its use to its maker, and nothing of ours phones home.
    any_number = torch.export.Dim("pictures", min=1, max=1024)
    # A piece takes one tensor by name, or several as *tensors: torch wants the shapes nested alike.
    shapes: tuple[Any, ...] = (({0: any_number},) * (len(example) - fixed)) + (None,) * fixed
    if len(example) > 1:
        shapes = (shapes,)
    table = CustomDecompTable()  # type: ignore[no-untyped-call]
    for operation in ops_to_not_decompose():
        with suppress(KeyError):
            table.pop(operation)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, example, dynamic_shapes=shapes).run_decompositions(table)
        decoder = TorchFXPythonDecoder(program.module(), dynamic_shapes=True)
        front_end = FrontEndManager().load_by_framework("pytorch")
        # The loaded model calls back into `decoder`, which nothing but this name keeps alive.
        return front_end.convert(front_end.load(decoder))


def _name_constants(graph: ov.Model, names: Mapping[bytes, str]) -> set[str]:
    found = set()
    for node in graph.get_ops():
        if node.get_type_name() != "Constant":
            continue
        name = names.get(np.ascontiguousarray(node.data).tobytes())
        if name is not None:
            node.set_friendly_name(_MARK + name)
            found.add(name)
    return found


class GraphCache:
    """Exported graphs and verdicts of the parity gate, in a folder. Without one, or where it can't be
    written, graphs are kept in memory.

    A broken or foreign entry reads as none at all. Writers replace whole entries, so processes may share it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._kept: dict[str, ov.Model] = {}

    def graph(self, core: ov.Core, key: str) -> ov.Model | None:
        """A copy for the caller to change."""
        if key in self._kept:
            return self._kept[key].clone()
        if self._folder is None:
            return None
        path = self._folder / key / "graph.xml"
        try:
            return core.read_model(path) if path.is_file() else None
        except (OSError, RuntimeError):
            return None

    def keep_graph(self, key: str, graph: ov.Model) -> None:
        if self._folder is None or not self._write(self._folder, key, graph):
            self._kept[key] = graph.clone()
            return
        with suppress(OSError):
            self._prune()

    @staticmethod
    def _write(folder: Path, key: str, graph: ov.Model) -> bool:
        """False where the disk is full or the folder can't be written: OpenVINO says that by RuntimeError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
            try:
                ov.save_model(graph, draft / "graph.xml", compress_to_fp16=False)
                draft.chmod(0o755)
                shutil.rmtree(folder / key, ignore_errors=True)
                draft.rename(folder / key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except (OSError, RuntimeError):
            return False
        return True

    def verdict(self, key: str) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        try:
            found = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def keep_verdict(self, key: str, verdict: Mapping[str, Any]) -> None:
        if self._folder is None:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = self._folder / f".{key}-{os.getpid()}"
            draft.write_text(json.dumps(verdict), encoding="utf-8")
            draft.replace(self._folder / f"{key}.json")
            self._prune()

    def _prune(self) -> None:
        """The newest of ours stay, so that years of new models don't fill the disk."""
        assert self._folder is not None
        ours = [path for path in self._folder.iterdir() if _OURS.fullmatch(path.name)]
        entries = sorted(ours, key=lambda path: path.stat().st_mtime, reverse=True)
        for old in entries[_KEPT_ENTRIES:]:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def key_of(*parts: object) -> str:
    """A file name for whatever decides an entry: our sources, versions, and `parts`."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted([*here.glob("model/*.py"), *here.glob("openvino_*.py"), here / "parity.py"]):
        digest.update(source.read_bytes())
    for part in (torch.__version__, ov.__version__, *parts):
        digest.update(repr(part).encode())
    return digest.hexdigest()[:32]


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights, for a model that was never saved and so has no hash yet."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
