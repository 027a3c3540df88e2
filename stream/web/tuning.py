"""Routes of a camera's own page: its score curve, what an alarm level would cost, and setting it."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isclose
from typing import Annotated, Any, Self

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field, model_validator

from engine.core import ModelInfo

from .schemas import ErrorOut, In
from .scores import Scores, cost, curve
from .view import LineActions


class CurveOut(BaseModel):
    """The score over time; `at` are the buckets' starts (UTC s), `highest` their highest score_ratio (1.0 =
    alarm).
    """

    now: datetime
    seconds: float
    bucket_s: float
    at: list[float]
    highest: list[float]
    ng: list[float]
    threshold: float | None
    median: float | None
    can_set: bool


class CostOut(BaseModel):
    """What an alarm level would have done to the last hour's pictures: an estimate."""

    level: float
    pictures: int
    above: int
    alarms: int
    hours: float


class LevelIn(In):
    """The new alarm level as a multiple of `base`, the raw one that the asker saw; null: the model's own
    again."""

    level: Annotated[float, Field(gt=0.05, lt=20)] | None
    base: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _of_what(self) -> Self:
        if self.level is not None and self.base is None:
            raise ValueError("base is missing: the raw alarm level (threshold) that level multiplies")
        return self


_NO_CAMERA: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut, "description": "No such camera"}}
_NOT_SET: dict[int | str, dict[str, Any]] = {
    **_NO_CAMERA,
    409: {"model": ErrorOut, "description": "No model yet, or another level than `base`"},
}
Level = Annotated[float, Query(gt=0.05, lt=20)]


def build(
    scores: Callable[[str], Scores],
    hysteresis: Mapping[str, tuple[int, int]],
    actions: LineActions,
    changed: Callable[[], None],
) -> APIRouter:
    """`scores(name)` raises 404 for an unknown camera; `hysteresis`: camera → (on_frames, off_frames)."""
    router = APIRouter(prefix="/api/v1/cameras/{name}", tags=["tuning"])

    @router.get("/scores", responses=_NO_CAMERA)
    async def score_curve(name: str, seconds: Annotated[float, Query(ge=10, le=3600)] = 300.0) -> CurveOut:
        """The score over time."""
        found = scores(name)
        model = found.model or actions.model_of(name)
        can_set = actions.set_threshold is not None and model is not None
        return curve_out(found, time.time(), seconds, model).model_copy(update={"can_set": can_set})

    @router.get("/cost", responses=_NO_CAMERA)
    async def level_cost(name: str, level: Level) -> CostOut:
        """How many alarms this level would have given in the last hour."""
        on_frames, off_frames = hysteresis.get(name, (2, 8))
        found = cost(scores(name), time.time(), level, on_frames=on_frames, off_frames=off_frames)
        return CostOut(
            level=level, pictures=found.pictures, above=found.above, alarms=found.alarms, hours=found.hours
        )

    @router.put("/threshold", responses=_NOT_SET)
    async def set_level(name: str, wish: LevelIn) -> LevelIn:
        """Set the alarm level from now on. 409 if it is not `base` any more, or another model runs meanwhile:
        a repeated request changes nothing twice."""
        found = scores(name)
        # Of a triggered camera the model may be there for days before it inspects a picture.
        known = [model for model in (found.model, actions.model_of(name)) if model is not None]
        if actions.set_threshold is None or not known:
            raise HTTPException(409, "The alarm level of this camera can't be set now: it has no model yet.")
        meant = [m for m in known if wish.base is None or isclose(wish.base, m.threshold, rel_tol=1e-9)]
        if not meant:
            raise HTTPException(
                409, "The alarm level was changed meanwhile; look at the new one, then set it again."
            )
        if wish.level is None:
            in_force = await actions.set_threshold(name, None, None)
        else:
            in_force = await actions.set_threshold(name, raw_threshold(meant[0], wish.level), meant[0])
        # The next picture may be a minute away. Another model's scores begin anew with its first picture.
        if found.model is not None and found.model.sha256 == in_force.sha256:
            found.model = in_force
        changed()
        return wish

    return router


def curve_out(found: Scores, now: float, seconds: float, model: ModelInfo | None = None) -> CurveOut:
    """The scores of the `seconds` before `now` (UTC s), in the API's words; `model` is told as long as none
    has given a score.
    """
    drawn, model = curve(found, now, seconds), found.model or model
    return CurveOut(
        now=datetime.fromtimestamp(now, UTC),
        seconds=seconds,
        bucket_s=drawn.bucket_s,
        at=drawn.at.tolist(),
        highest=[round(value, 4) for value in drawn.highest.tolist()],
        ng=[round(value, 3) for value in drawn.ng.tolist()],
        threshold=model.threshold if model else None,
        median=model.median if model else None,
        can_set=False,
    )


def raw_threshold(model: ModelInfo, level: float) -> float:
    """A multiple of the present alarm level → a raw map value (1.0 is where it stands)."""
    return model.median + level * (model.threshold - model.median)
