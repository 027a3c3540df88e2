"""Cameras together, camera by camera, and torch beside what is chosen here.

Run from the repository's root on a quiet machine: `.venv/bin/python tests/bench/bench_engine.py [SIZE]
[CAMERAS]`.
"naive" is the same network called for one frame at a time (`max_batch` 1), as a loop over cameras would.
"""

import sys

from stream.bench import as_json, measure


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "lite"
    cameras = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    for backend in ("torch", "auto"):
        for max_batch, name in ((1, "naive"), (16, "together")):
            found = as_json(measure(cameras, size, 10.0, backend=backend, max_batch=max_batch))
            kept = {
                key: found[key] for key in ("frames_per_s", "p50_ms", "p99_ms", "efficiency", "memory_mb")
            }
            print(f"{name:9s} {cameras} cameras, {found['backend']}: {kept}")


if __name__ == "__main__":
    main()
