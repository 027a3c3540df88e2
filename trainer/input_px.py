"""Which sides the network's picture may have: one rule for training and for reckoning what it costs."""

from .errors import DataError

_STEP_PX, _SMALLEST_PX, _LARGEST_PX = 32, 64, 1024


def check_input_px(input_px: int) -> None:
    """Raises DataError for a side that the network can't halve five times, or that is too small or large."""
    if input_px % _STEP_PX or not _SMALLEST_PX <= input_px <= _LARGEST_PX:
        raise DataError(
            f"--input-px {input_px}: expected a multiple of {_STEP_PX} from {_SMALLEST_PX} to {_LARGEST_PX}."
        )
