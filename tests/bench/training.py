"""Seconds that 1,000 training steps take, by size and stage: `python -m tests.bench.training`.

Batches of 8 at 256 px, as `linewatch train` takes them; the median step of a few. The teachers have random
weights, which cost as much as others. On a GPU: --device cuda.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from engine.model.dmdd import SIZES, CameraNetwork, build_network
from engine.model.teacher import Teacher, build_trunk
from stream.sim.shows import PatternShow
from trainer.bank import build_bank
from trainer.foreground import find_foregrounds
from trainer.synthesis import TRAINING, Synthesis
from trainer.train import Material, Schedule, train_head, train_student

Train = Callable[[CameraNetwork, Material, Schedule, Callable[[int, float], None]], None]
SIDE, PICTURES, BATCH = 256, 8, 8
_WARM_UP = 2


def material(teacher: Teacher, device: torch.device) -> Material:
    show = PatternShow("machined", 1, (SIDE, SIDE))
    pictures = np.stack([show.picture(1.6 * number) for number in range(PICTURES)])
    bank = build_bank(pictures, teacher, device, copies=2, rng=np.random.default_rng(0))
    return Material(bank, find_foregrounds(pictures, "off"), Synthesis(TRAINING), teacher, device, seed=0)


def thousand_s(train: Train, network: CameraNetwork, drawn: Material, schedule: Schedule) -> float:
    """From the median step; the loss that a step tells is known only once the device has done it."""
    ticks = [time.perf_counter()]
    train(network, drawn, schedule, lambda step, loss: ticks.append(time.perf_counter()))
    return 1000.0 * statistics.median(np.diff(ticks)[_WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.steps <= _WARM_UP:
        parser.error(f"--steps: at least {_WARM_UP + 1}, the first {_WARM_UP} are not measured")
    device = torch.device(args.device)
    print(f"seconds for 1,000 steps of {BATCH}, {device}, {torch.get_num_threads()} threads")
    for size in args.sizes:
        name = SIZES[size].teacher
        trunk = build_trunk(name).eval()
        trunk.fold()
        teacher = Teacher(name, trunk.to(memory_format=torch.channels_last), "").to(device)  # type: ignore[call-overload]
        network = build_network(size).to(device)
        drawn, schedule = material(teacher, device), Schedule(args.steps, args.steps, BATCH)
        network.strength.copy_(drawn.bank.strength())
        student = thousand_s(train_student, network, drawn, schedule)
        head = thousand_s(train_head, network, drawn, schedule)
        print(
            f"{size:10s} student {student:6.0f}  head {head:6.0f}  two to one {(2 * student + head) / 3:6.0f}"
        )


if __name__ == "__main__":
    main()
