"""`linewatch sizes`: what the sizes cost, at sides of the picture that can be trained."""

import json

import pytest

from config.cli import main as linewatch
from trainer.errors import DataError
from trainer.input_px import check_input_px


@pytest.mark.parametrize("input_px", [0, -64, 32, 33, 100, 1056])
def test_a_side_that_can_not_be_trained_is_refused_in_one_sentence(
    input_px: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=f"--input-px {input_px}: "):
        check_input_px(input_px)
    assert linewatch(["sizes", "--input-px", str(input_px)]) == 2
    assert capsys.readouterr().err == (f"--input-px {input_px}: expected a multiple of 32 from 64 to 1024.\n")


def test_every_size_is_told_with_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert linewatch(["sizes", "--input-px", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(told) == {"lite", "r18", "wide-lite", "wide"}
