"""Which part of the method earns its place: one row a variant and category, on real pictures.

    python -m tests.bench.ablation --data ../shared/data --categories toothbrush cookie --steps 300

Each variant is one training under one seed. Its parts are then joined in several ways, so that what head and
distillation maps add is seen from the same training. Test pictures are read only after training; nothing is
chosen by them. Without AMX or a GPU a row takes many minutes.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from engine.choose import choose_device
from engine.model.blocks import resize
from engine.model.dmdd import SIZES, CameraNetwork, build_network
from engine.model.teacher import Teacher, build_teacher
from trainer import synthesis as synth
from trainer.bank import build_bank
from trainer.calibrate import image_score
from trainer.dataset import load_good
from trainer.foreground import find_foregrounds
from trainer.join import MIX, Mix, fit_join, parts_of
from trainer.metrics import Pixels, average_precision, image_auroc, pixel_auroc, pro
from trainer.testset import TestPicture, load_test
from trainer.textures import load_textures
from trainer.train import Material, Schedule, train_head, train_student


@dataclass(frozen=True, slots=True)
class Variant:
    """What one training does otherwise than the default."""

    name: str
    lateral: str | None = None
    foreground: str = "auto"
    copies: int = 4
    thin: float = 0.25
    small: float = 0.25
    abnormality: float = 1.0
    mimic: Literal["changed", "unchanged"] = "changed"
    soft_mask: bool = True
    textures: bool = True


VARIANTS = (
    Variant("default"),
    Variant("lateral none", lateral="none"),
    Variant("lateral gated", lateral="gated"),
    Variant("no foreground", foreground="off"),
    Variant("one copy", copies=1),
    Variant("blotches only", thin=0.0, small=0.0),
    Variant("no AIM", abnormality=0.0),
    Variant("AIM variant B", mimic="unchanged"),
    Variant("binary mask", soft_mask=False),
    Variant("no real textures", textures=False),
)
JOINS = {
    "N": Mix(1, 0, 0),
    "A": Mix(0, 1, 0),
    "head": Mix(0, 0, 1),
    "N+A": Mix(1, 1, 0),
    "N+A+head": Mix(1, 1, 1),
    "N+A+3 head": Mix(1, 1, 3),
    "2N+2A+head": MIX,
}


def rows(folder: Path, variant: Variant, args: argparse.Namespace) -> Iterator[str]:
    """Train one variant on one category and measure every join of its parts."""
    device = choose_device(args.device)
    begin = time.perf_counter()
    network, teacher = _trained(folder, variant, args, device)
    seconds = time.perf_counter() - begin
    tested = load_test(folder, args.input_px)
    parts = torch.cat(list(parts_of(network, teacher, [p.pixels for p in tested], device)))
    for name, mix in JOINS.items():
        network.part_weight.copy_(mix.weights())
        numbers = " | ".join(f"{value:.3f}" for value in _measure(network, parts, tested))
        yield f"| {folder.name} | {variant.name} | {args.seed} | {name} | {numbers} | {seconds:.0f} |"


def _trained(
    folder: Path, variant: Variant, args: argparse.Namespace, device: torch.device
) -> tuple[CameraNetwork, Teacher]:
    training, held_out = load_good(folder, args.input_px).split()
    teacher = build_teacher(SIZES[args.size].teacher, args.teacher_weights).to(device)
    torch.manual_seed(args.seed)
    network = build_network(args.size, variant.lateral).to(device)  # type: ignore[arg-type]
    rng = np.random.default_rng(args.seed)
    bank = build_bank(training.pixels, teacher, device, copies=variant.copies, rng=rng)
    foregrounds = find_foregrounds(training.pixels, variant.foreground)
    textures = synth.TRAINING
    if variant.textures:
        textures = (*textures, synth.Textures(tuple(load_textures(args.textures, args.input_px))))
    drawn = synth.Synthesis(textures, thin_share=variant.thin, small_share=variant.small)
    material = Material(bank, foregrounds, drawn, teacher, device, args.seed)
    schedule = replace(
        Schedule.of(args.steps),
        abnormality_weight=variant.abnormality,
        mimic=variant.mimic,
        soft_mask=variant.soft_mask,
    )
    train_student(network, material, schedule, lambda *_: None)
    train_head(network, material, schedule, lambda *_: None)
    fit_join(
        network,
        teacher,
        held_out.pixels,
        find_foregrounds(held_out.pixels, foregrounds.mode),
        synth.Synthesis(synth.UNSEEN),
        device,
        args.seed,
    )
    return network, teacher


@torch.inference_mode()
def _measure(network: CameraNetwork, parts: torch.Tensor, tested: list[TestPicture]) -> list[float]:
    maps = resize(network.join(parts)[:, None], tested[0].pixels.shape[:2])[:, 0].cpu().numpy()
    images = [image_score(m) for m in maps]
    good = [s for s, p in zip(images, tested, strict=True) if p.good]
    defective = [s for s, p in zip(images, tested, strict=True) if not p.good]
    ranked = Pixels.of((m, p.mask) for m, p in zip(maps, tested, strict=True) if p.mask is not None)
    found = (image_auroc(good, defective), pixel_auroc(ranked), average_precision(ranked), pro(ranked))
    return [float("nan") if value is None else value for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ablations of the method, as a Markdown table.")
    parser.add_argument("--data", type=Path, required=True, help="folder of categories in MVTec layout")
    parser.add_argument("--categories", nargs="+", default=["toothbrush", "cookie"])
    parser.add_argument("--textures", type=Path, help="instead of scikit-image's")
    parser.add_argument("--variants", nargs="+", default=["default"], choices=[v.name for v in VARIANTS])
    parser.add_argument("--size", default="lite", choices=list(SIZES))
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--input-px", type=int, default=256)
    args = parser.parse_args()
    print("| category | variant | seed | join | image AUROC | pixel AUROC | AP | PRO | training s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for category in args.categories:
        for variant in (v for v in VARIANTS if v.name in args.variants):
            for row in rows(args.data / category, variant, args):
                print(row, flush=True)


if __name__ == "__main__":
    main()
