"""Routes of the areas and masks that are drawn on the picture."""

import logging
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from config.zones import Zones

from ..drawing import Drawing, ZonesState
from .schemas import ErrorOut

audit = logging.getLogger("linewatch.audit")
_ANSWERS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such camera"},
    409: {"model": ErrorOut, "description": "They leave nothing to inspect, or others hold than `base`"},
    507: {"model": ErrorOut, "description": "They can't be kept"},
}


class ZonesIn(Zones):
    """What is to hold. `base`: the `fingerprint` of what the asker saw, so that nobody draws over what
    another window has drawn since; null: whatever holds now."""

    base: str | None = None


class ZonesOut(BaseModel):
    """What holds. `drawn`: on the page, in place of what the config file says; `yaml`: as it would
    stand there."""

    roi: list[tuple[float, float]] | None
    masks: dict[str, list[tuple[float, float]]]
    drawn: bool
    yaml: str
    fingerprint: str


def build(drawing: Drawing, changed: Callable[[], None]) -> APIRouter:
    """`changed` is called after zones were put in force."""
    router = APIRouter(prefix="/api/v1/cameras/{name}/zones", tags=["tuning"])

    @router.get("", responses=_ANSWERS)
    async def zones(name: str) -> ZonesOut:
        """Where defects count."""
        return _out(await drawing.state(name))

    @router.put("", responses=_ANSWERS)
    async def draw(name: str, wish: ZonesIn, request: Request) -> ZonesOut:
        """Look there from the next batch on, also after a restart. Corners are shares of the picture."""
        return await put_in_force(name, Zones(roi=wish.roi, masks=wish.masks), request, wish.base)

    @router.delete("", responses=_ANSWERS)
    async def forget(name: str, request: Request) -> ZonesOut:
        """Back to what the config file says."""
        return await put_in_force(name, None, request)

    async def put_in_force(
        name: str, wish: Zones | None, request: Request, base: str | None = None
    ) -> ZonesOut:
        try:
            state = await drawing.draw(name, wish, base)
        except OSError as error:
            raise HTTPException(507, f"The zones can't be kept: {error.strerror}.") from error
        who, _ = request.state.who
        audit.info("camera %s by %s: %s", name, who, " ".join(state.zones.as_yaml().split()))
        changed()
        return _out(state)

    return router


def _out(state: ZonesState) -> ZonesOut:
    zones = state.zones
    return ZonesOut(
        roi=None if zones.roi is None else list(zones.roi),
        masks={name: list(mask.polygon) for name, mask in zones.masks.items()},
        drawn=state.drawn,
        yaml=zones.as_yaml(),
        fingerprint=zones.fingerprint(),
    )
