"""Accuracy on real pictures: our models as `linewatch train` makes them, beside nearest neighbours.

    python -m tests.bench.accuracy --data ../shared/data --categories toothbrush cookie --seeds 0 1 2

One training a category and seed, the last step counts, official figures as `linewatch evaluate` has them;
nothing is chosen by test pictures. With --peers, in the environment of `make peers`, PatchCore and STFPM of
anomalib too, on the same teacher and pictures. Rows that stand in --out are not measured again: a run can be
taken up.
At the end comes a Markdown table: means over the seeds, spread behind ±.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from engine.artifact import Artifact, load, save
from engine.choose import choose_device
from engine.model.blocks import resize
from engine.model.dmdd import SIZES
from engine.model.teacher import Teacher, build_teacher
from engine.tiles import ONE
from tests.bench.peer_accuracy import PEERS, judge
from trainer.bank import teach
from trainer.calibrate import image_score
from trainer.dataset import load_good
from trainer.evaluate import evaluate, flat
from trainer.metrics import Pixels, image_auroc, pooled_metrics, pro_per_image
from trainer.predict import model_of
from trainer.recipe import Wish, make_model
from trainer.testset import TestPicture, load_test

SHOWN = ("image_auroc", "pixel_auroc", "ap", "pro", "pro_per_image", "aupimo")
AT_LEVEL = ("false_alarm_rate", "recall_at_threshold")
NEIGHBOURS = "nearest neighbour"
Measure = Callable[[Path, argparse.Namespace, int], dict[str, Any]]
_PICTURES, _PATCHES, _SIGMA_PX = 200, 10_000, 4.0


def ours(folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, save, load and evaluate, as a person does with two commands."""
    wish = Wish(
        name=folder.name,
        data=folder,
        size=args.size,
        teacher_weights=args.teacher_weights,
        steps=args.steps,
        seed=seed,
        device=args.device,
        textures=args.textures,
        tiles=args.tiles,
    )
    made = load(save(make_model(wish, lambda *_: None, lambda _: None), args.models, promote=False))
    predict = model_of(made, choose_device(args.device), args.teacher_weights)
    found = evaluate(
        predict, made.calibration, load_test(folder, made.input_px, made.tiles), tiles=made.tiles
    )
    results = {name.split()[-1]: value for name, value in flat(found.results).items()}
    return {**_told(results, (*SHOWN, *AT_LEVEL)), "seconds": made.trained_on["seconds"], **_made(made)}


def _made(made: Artifact) -> dict[str, Any]:
    return {"steps": made.config["steps"], "device": made.trained_on["device"]}


@torch.inference_mode()
def neighbours(folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Distance of a patch to the nearest of 10,000 good ones, on the same teacher at strides 8 and 16.

    Features averaged 3 x 3, at most 200 training pictures, Gaussian of 4 px; after PatchCore, without its
    choice of patches.
    """
    device = choose_device(args.device)
    teacher = build_teacher(SIZES[args.size].teacher, args.teacher_weights).to(device)
    good = load_good(folder, 256).pixels
    if len(good) > _PICTURES:
        good = good[np.linspace(0, len(good) - 1, _PICTURES).astype(int)]
    patches = _patches(good, teacher, device).flatten(0, 1)
    picked = torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))[:_PATCHES]
    remembered = patches[picked.to(patches.device)]
    tested = load_test(folder, 256)
    maps = [_nearest(p.pixels, remembered, teacher, device) for p in tested]
    return _row(tested, maps, [image_score(m) for m in maps])


def peer(name: str) -> Measure:
    """`name` of tests.bench.peer_accuracy, in its own environment."""

    def measure(folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
        tested = load_test(folder, 256)
        begin = time.monotonic()
        judged = judge(name, folder, [p.pixels for p in tested], args, seed)
        row = _row(tested, [m for m, _ in judged], [score for _, score in judged])
        return {**row, "seconds": round(time.monotonic() - begin, 1)}

    return measure


def _row(tested: list[TestPicture], maps: list[NDArray[np.float32]], scores: list[float]) -> dict[str, Any]:
    pairs = [(m, p.mask) for m, p in zip(maps, tested, strict=True) if p.mask is not None]
    good = [s for s, p in zip(scores, tested, strict=True) if p.good]
    defective = [s for s, p in zip(scores, tested, strict=True) if not p.good]
    found = {**pooled_metrics(Pixels.of(pairs)), "pro_per_image": pro_per_image(pairs)}
    return _told({**found, "image_auroc": image_auroc(good, defective)}, SHOWN)


def _patches(pixels: NDArray[np.uint8], teacher: Teacher, device: torch.device) -> Tensor:
    """(N, K, C) float32, K cells of stride 8."""
    _, middle, coarse = (functional.avg_pool2d(f.float(), 3, 1, 1) for f in teach(pixels, teacher, device))
    joined = torch.cat([middle, resize(coarse, (middle.shape[2], middle.shape[3]))], dim=1)
    return joined.flatten(2).transpose(1, 2)


def _nearest(
    pixels: NDArray[np.uint8], remembered: Tensor, teacher: Teacher, device: torch.device
) -> NDArray[np.float32]:
    cells = _patches(pixels[None], teacher, device)[0]
    side = round(len(cells) ** 0.5)
    distances = torch.cdist(cells, remembered).amin(1).view(1, 1, side, side)
    full = resize(distances, (pixels.shape[0], pixels.shape[1]))[0, 0].cpu().numpy()
    return np.asarray(gaussian_filter(full, _SIGMA_PX), dtype=np.float32)


def _told(results: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: results.get(name) for name in names}


def table(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Markdown: a row a category and method, then the mean over the categories that every method has."""
    yield f"| category | method | seeds | {' | '.join((*SHOWN, *AT_LEVEL))} |"
    yield "|---" * (3 + len(SHOWN) + len(AT_LEVEL)) + "|"
    kinds = sorted({(row["category"], row["method"]) for row in rows})
    for category, method in kinds:
        yield _line(category, method, [r for r in rows if (r["category"], r["method"]) == (category, method)])
    methods = sorted({m for _, m in kinds})
    shared = {c for c, _ in kinds if all((c, m) in kinds for m in methods)}
    for method in methods:
        yield _mean(method, [r for r in rows if r["method"] == method and r["category"] in shared], shared)


def _mean(method: str, rows: list[dict[str, Any]], categories: set[str]) -> str:
    """Each category counts once, however many seeds it has."""
    cells = []
    for name in (*SHOWN, *AT_LEVEL):
        told = [row for row in rows if row.get(name) is not None]
        means = [statistics.fmean(r[name] for r in told if r["category"] == c) for c in _categories(told)]
        cells.append(f"{statistics.fmean(means):.3f}" if means and _categories(told) == categories else "")
    return f"| mean of {len(categories)} | {method} | | {' | '.join(cells)} |"


def _categories(rows: list[dict[str, Any]]) -> set[str]:
    return {row["category"] for row in rows}


def _line(category: str, method: str, rows: list[dict[str, Any]]) -> str:
    cells = []
    for name in (*SHOWN, *AT_LEVEL):
        values = [row[name] for row in rows if row.get(name) is not None]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "")
    return f"| {category} | {method} | {len({row['seed'] for row in rows})} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of categories in MVTec layout")
    parser.add_argument("--categories", nargs="+", required=True)
    parser.add_argument("--size", default="lite", choices=list(SIZES))
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tiles", default=ONE)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peers", action="store_true", help="PatchCore and STFPM too (needs `make peers`)")
    parser.add_argument("--models", type=Path, default=Path("var/accuracy"))
    parser.add_argument("--out", type=Path, default=Path("var/accuracy/rows.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    done = {(row["category"], row["method"], row["seed"]) for row in rows}
    methods: list[tuple[str, Measure]] = [(f"{NEIGHBOURS} {args.size}", neighbours)]
    if args.peers:
        methods += [(f"{name} {args.size}", peer(name)) for name in PEERS]
    textures = f" {args.textures.name}" if args.textures else ""
    methods.append((f"{args.size} {args.tiles} {args.steps or 'default'} steps{textures}", ours))
    for seed in args.seeds:
        for category in args.categories:
            for method, measure in methods:
                if (category, method, seed) in done:
                    continue
                row = {"category": category, "method": method, "seed": seed}
                row |= measure(args.data / category, args, seed)
                rows.append(row)
                with args.out.open("a") as out:
                    print(json.dumps(row), file=out)
                print(json.dumps(row), file=sys.stderr, flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
