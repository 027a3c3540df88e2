"""Counters and histograms."""

import threading

from engine.meter import SECONDS_BOUNDS, Histogram, Meter


def test_frames_are_counted_by_camera_and_result() -> None:
    meter = Meter()
    meter.frame("top", "inspected")
    meter.frame("top", "inspected")
    meter.frame("top", "late")
    assert meter.snapshot().frames == {("top", "inspected"): 2, ("top", "late"): 1}


def test_a_value_on_a_bound_falls_into_the_bucket_that_ends_there() -> None:
    meter = Meter()
    meter.stages({"student": SECONDS_BOUNDS[0]})
    seen = meter.snapshot().stages["student"]
    assert seen.counts[0] == 1 and seen.count == 1 and seen.total == SECONDS_BOUNDS[0]


def test_quantiles_are_upper_edges_of_buckets() -> None:
    histogram = Histogram((1.0, 2.0), (5, 4, 1))
    assert (histogram.quantile(0.5), histogram.quantile(0.9)) == (1.0, 2.0)
    assert histogram.quantile(0.99) == float("inf")
    assert Histogram.empty((1.0,)).quantile(0.5) == 0.0


def test_a_snapshot_does_not_change_afterwards() -> None:
    meter = Meter()
    meter.batch(3)
    before = meter.snapshot()
    meter.batch(3)
    meter.error("DeviceError")
    assert before.batch_sizes.count == 1 and before.errors == {}


def test_a_removed_camera_is_forgotten() -> None:
    meter = Meter()
    meter.frame("a", "late")
    meter.frame("b", "late")
    meter.forget("a")
    assert list(meter.snapshot().frames) == [("b", "late")]


def test_threads_lose_no_count() -> None:
    meter = Meter()
    threads = [
        threading.Thread(target=lambda: [meter.frame("a", "late") for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.snapshot().frames["a", "late"] == 8000
