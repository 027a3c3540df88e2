"""Other anomaly detectors, one frame at a time as their users run them: ms a frame in torch and OpenVINO.

`make peers` sets up their environment and runs this, then our own bench: run it on a quiet machine. Weights
are random: they make no difference to the time. Input 256 x 256, batch 1; the picture is at network size
already and nobody asks for regions, as for `bare` in our own bench. One JSON object on the last line.
"""

import argparse
import contextlib
import ctypes
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import torch
from torch import Tensor, nn

SIDE = 256
_M_MMAP_THRESHOLD = -3  # of malloc.h
# What a memory of a tenth of 200 pictures' patches holds, as PatchCore's own default keeps it.
_BANK_ROWS = 20_480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each peer and back end (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default all)")
    parser.add_argument("--only", default="", help="peers to run, comma between")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    only_offline()
    told: dict[str, dict[str, float]] = {}
    print(f"{'peer':24s} {'torch ms':>9s} {'openvino ms':>12s}   {args.threads} threads, batch 1, {SIDE} px")
    for name, make in PEERS.items():
        if args.only and name not in args.only.split(","):
            continue
        model = make().eval().requires_grad_(False)
        told[name] = {"torch_ms": _ms(_in_torch(model), args.seconds)}
        with contextlib.suppress(ImportError):
            told[name]["openvino_ms"] = _ms(_in_openvino(model, args.threads), args.seconds)
        shown = told[name].get("openvino_ms")
        print(f"{name:24s} {told[name]['torch_ms']:9.1f} {shown or float('nan'):12.1f}", flush=True)
    print(json.dumps(told))


def _in_torch(model: nn.Module) -> Callable[[], Any]:
    picture = torch.rand(1, 3, SIDE, SIDE)

    @torch.inference_mode()
    def look() -> Any:
        return model(picture)

    return look


def _in_openvino(model: nn.Module, threads: int) -> Callable[[], Any]:
    """The exported graph, compiled for one frame, in the CPU's own precision."""
    import openvino as ov

    program = torch.export.export(_Answer(model), (torch.rand(1, 3, SIDE, SIDE),))
    graph = ov.convert_model(program)
    wishes = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(graph, "CPU", wishes).create_infer_request()
    picture = ov.Tensor(torch.rand(1, 3, SIDE, SIDE).numpy())

    def look() -> None:
        request.set_input_tensor(picture)
        request.infer()

    return look


class _Answer(nn.Module):
    """The map alone: an exported graph gives tensors, not named tuples."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor) -> Tensor:
        answer: Tensor = self.model(picture).anomaly_map
        return answer


def _ms(look: Callable[[], Any], seconds: float) -> float:
    """The median call after a few untimed ones."""
    for _ in range(3):
        look()
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent) < 3:
        begin = time.perf_counter()
        look()
        spent.append(time.perf_counter() - begin)
    return 1000.0 * statistics.median(spent)


def _efficientad() -> nn.Module:
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel

    return EfficientAdModel(teacher_out_channels=384)


def _stfpm() -> nn.Module:
    from anomalib.models.image.stfpm.torch_model import STFPMModel

    return STFPMModel(layers=["layer1", "layer2", "layer3"], backbone="resnet18")


def _patchcore() -> nn.Module:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    model.memory_bank = torch.rand(_BANK_ROWS, 384)
    return model


def _reverse_distillation() -> nn.Module:
    from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
    from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

    return ReverseDistillationModel(
        backbone="wide_resnet50_2",
        layers=["layer1", "layer2", "layer3"],
        input_size=(SIDE, SIDE),
        anomaly_map_mode=AnomalyMapGenerationMode.ADD,
        pre_trained=False,
    )


PEERS: dict[str, Callable[[], nn.Module]] = {
    "EfficientAD-S": _efficientad,
    "STFPM-R18": _stfpm,
    "PatchCore-R18": _patchcore,
    "Reverse Distillation-WRN50": _reverse_distillation,
}


def only_offline() -> None:
    """Call before anything of theirs is imported: nothing is fetched, no warnings among the figures."""
    _let_torchvision_import()
    _load_no_weights()
    warnings.simplefilter("ignore")
    # PatchCore's choice keeps a tiny tensor after each large one that it gives back: on the heap the holes
    # between them can't be used again (22 GB with 28 pictures), so large ones shall lie outside it.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _let_torchvision_import() -> None:
    """A registry's torchvision is a CUDA build: beside a CPU torch it misses its own operators, which no peer
    uses."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        globals()["_kept"] = library


def _load_no_weights() -> None:
    """Backbones with random weights: nothing is fetched."""
    import timm

    make = timm.create_model

    def create_model(*words: Any, **named: Any) -> nn.Module:
        model: nn.Module = make(*words, **{**named, "pretrained": False})
        return model

    timm.create_model = create_model


if __name__ == "__main__":
    main()
