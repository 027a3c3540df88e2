"""The same error is said once a minute, with how often it came."""

from engine.complaints import Complaints
from engine.errors import ArtifactError, DeviceError, OutOfMemory

LOST, BROKEN = DeviceError("The device failed."), ArtifactError("The device failed.")


def test_the_same_error_is_said_once_a_minute_with_its_count() -> None:
    complaints = Complaints()
    assert complaints.worded(LOST, 0.0) is LOST
    assert complaints.worded(LOST, 1.0) is None and complaints.worded(LOST, 59.0) is None
    again = complaints.worded(LOST, 60.0)
    assert isinstance(again, DeviceError) and str(again).startswith("The device failed. (And 2 times")
    assert complaints.worded(LOST, 120.0) is LOST


def test_another_error_is_said_at_once() -> None:
    complaints = Complaints()
    assert complaints.worded(LOST, 0.0) is LOST
    assert complaints.worded(BROKEN, 0.0) is BROKEN
    assert complaints.worded(LOST, 1.0) is None


def test_a_device_without_memory_is_said_once_whatever_it_has_free_by_now() -> None:
    complaints, told = Complaints(), "CUDA out of memory. GPU 0 has a total capacity of 79.10 GiB of which"
    said = [complaints.worded(OutOfMemory(f"{told} {mib} MiB is free."), 0.05 * mib) for mib in range(100)]
    assert [error for error in said if error is not None] == said[:1]
    again = complaints.worded(OutOfMemory(f"{told} 7 MiB is free."), 60.0)
    assert again is not None and str(again).endswith("(And 99 times since it was last said.)")


def test_what_is_remembered_is_bounded() -> None:
    complaints = Complaints()
    for number in range(1000):
        complaints.worded(DeviceError(str(number)), 0.0)
    assert complaints.worded(DeviceError("999"), 1.0) is None
    assert complaints.worded(DeviceError("0"), 1.0) is not None
