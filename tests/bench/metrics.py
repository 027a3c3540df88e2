"""Seconds and memory that all metrics of a large test set take: `python -m tests.bench.metrics`."""

import resource
import time

import numpy as np

from trainer.calibrate import region_score
from trainer.metrics import Pair, Pixels, aupimo, pooled_metrics, pro_per_image

PICTURES, SIDE = 500, 256


def main() -> None:
    rng = np.random.default_rng(0)
    pairs: list[Pair] = []
    for i in range(PICTURES):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[30 : 90 if i % 2 else 30, 30:60] = True
        pairs.append((rng.random((SIDE, SIDE), np.float32) + 0.3 * mask.astype(np.float32), mask))
    begin = time.perf_counter()
    pooled_metrics(Pixels.of(pairs))
    pro_per_image(pairs)
    aupimo(pairs)
    pixels_s = time.perf_counter() - begin
    begin = time.perf_counter()
    for raw, _ in pairs[:50]:
        region_score(raw)
    region_ms = (time.perf_counter() - begin) / 50 * 1e3
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{PICTURES} maps of {SIDE}x{SIDE}: all pixel metrics {pixels_s:.1f} s, peak memory {peak_mb:.0f} MB"
    )
    print(f"region score of one map of noise: {region_ms:.1f} ms")


if __name__ == "__main__":
    main()
