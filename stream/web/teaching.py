"""Routes that teach a camera: good pictures, training, and the versions that come of it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from engine.shelf import Version

from .. import overlay
from ..sources.folder import read
from ..teaching import MAX_FRAMES, CollectionState, Shelf, Teaching, shown_name
from ..training import TrainingState
from .errors import Gone
from .guard import DOCUMENT_HEADERS
from .schemas import CollectionOut, ErrorOut, In, TrainingOut
from .view import LineView

_Responses = dict[int | str, dict[str, Any]]
_GONE: _Responses = {404: {"model": ErrorOut, "description": "There is no such thing"}}
_REFUSED: _Responses = {**_GONE, 409: {"model": ErrorOut, "description": "Not now, and why"}}
_JPEG: _Responses = {200: {"content": {"image/jpeg": {}}}}
_HTML: _Responses = {200: {"content": {"text/html": {}}}}
_SMALL_PX = 320


class PictureOut(BaseModel):
    """A good picture; `small` is a relative URL of it, at most 320 px wide."""

    name: str
    at: datetime
    small: str


class PicturesOut(BaseModel):
    """A camera's good pictures: how many, and the newest."""

    count: int
    megabytes: float
    newest: list[PictureOut]


class CollectIn(In):
    """How many pictures, at most one in `every_s`; `with_alarms`: also those in which a defect is seen."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] = 100
    every_s: Annotated[float, Field(ge=0, le=3600)] = 0.5
    with_alarms: bool = False


class TrainIn(In):
    """Whose good pictures to learn from; `steps` null: as many as the device is good for."""

    camera: str
    steps: Annotated[int | None, Field(ge=2, le=1_000_000)] = None


class VersionOut(BaseModel):
    """One version of a model. `used_by`: cameras that are inspected with it now; `broken`: why it can't be
    read; `report`: a relative URL."""

    version: int
    latest: bool
    used_by: list[str]
    created_at: str
    size: str
    good_pictures: int | None
    metrics: dict[str, Any]
    evaluated: dict[str, Any]
    report: str | None
    broken: str


class ShelfOut(BaseModel):
    """A model, newest version first. `cameras` have it in their config, `pinned` those with one version,
    `earlier` is where a rollback goes, `interrupted`: a training was ended, from which the next one goes on,
    `no_latest`: why nobody knows which version is the latest.
    """

    name: str
    cameras: list[str]
    pinned: dict[str, int]
    latest: int | None
    earlier: int | None
    interrupted: bool
    no_latest: str
    versions: list[VersionOut]


class RollbackIn(In):
    """The latest version that the asker saw: asked twice, it goes back once."""

    version: int


class LatestOut(BaseModel):
    """Which version is the latest now."""

    name: str
    latest: int


def build(teaching: Teaching, view: LineView) -> APIRouter:
    """The router; `view` knows what runs."""
    router = APIRouter(prefix="/api/v1", tags=["teaching"])
    _picture_routes(router, teaching)
    _training_routes(router, teaching)
    _model_routes(router, teaching, view)
    return router


def _picture_routes(router: APIRouter, teaching: Teaching) -> None:
    @router.get("/cameras/{name}/pictures", responses=_GONE)
    async def listed(name: str, limit: Annotated[int, Query(ge=0, le=200)] = 12) -> PicturesOut:
        """A camera's good pictures, the newest first."""
        found = await teaching.pictures(name)
        return PicturesOut(
            count=len(found),
            megabytes=round(sum(p.size_bytes for p in found) / 1e6, 1),
            newest=[_picture_out(name, p.path, p.at) for p in found[:limit]],
        )

    @router.post("/cameras/{name}/pictures", status_code=202, responses=_REFUSED)
    async def collect(name: str, wish: CollectIn) -> CollectionOut:
        """Collect good pictures of what the camera shows from now on."""
        return collection_out(teaching.collect(name, wish.frames, wish.every_s, wish.with_alarms))

    @router.delete("/cameras/{name}/pictures", responses=_REFUSED)
    async def stop(name: str) -> CollectionOut:
        """Stop collecting; what was collected stays."""
        return collection_out(teaching.stop_collecting(name))

    @router.get("/cameras/{name}/pictures/{file}", responses=_JPEG | _GONE, response_class=Response)
    async def small(name: str, file: str) -> Response:
        """One good picture, small."""
        jpeg = await run_in_threadpool(_small, await teaching.picture(name, file))
        return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    @router.delete("/cameras/{name}/pictures/{file}", responses=_GONE)
    async def remove(name: str, file: str) -> PicturesOut:
        """Remove a picture that was not good, after all."""
        await teaching.remove_picture(name, file)
        return await listed(name)


def _training_routes(router: APIRouter, teaching: Teaching) -> None:
    @router.get("/training")
    async def training() -> TrainingOut | None:
        """The training at hand, or the last one since the start; null before the first."""
        return None if teaching.training is None else training_out(teaching.training)

    @router.post("/training", status_code=202, responses=_REFUSED)
    async def train(wish: TrainIn) -> TrainingOut:
        """Train a camera's model from its good pictures: one training at a time, with what the line leaves of
        the machine. The new version is used by nobody before it is promoted."""
        return training_out(teaching.train(wish.camera, wish.steps))

    @router.delete("/training", responses=_REFUSED)
    async def cancel() -> TrainingOut:
        """Cancel it; started again with the same pictures, it goes on from there."""
        return training_out(await teaching.cancel_training())


def _model_routes(router: APIRouter, teaching: Teaching, view: LineView) -> None:
    def used() -> dict[tuple[str, int], list[str]]:
        found: dict[tuple[str, int], list[str]] = {}
        for camera in view.cameras():
            if camera.model is not None:
                found.setdefault((camera.model.name, camera.model.version), []).append(camera.name)
        return found

    @router.get("/models", responses=_REFUSED)
    async def models() -> list[ShelfOut]:
        """Every model with its versions."""
        return [_shelf_out(shelf, used()) for shelf in await teaching.shelves()]

    @router.get("/models/{name}", responses=_REFUSED)
    async def model(name: str) -> ShelfOut:
        """One model with its versions."""
        for shelf in await models():
            if shelf.name == name:
                return shelf
        raise Gone("There is no model of that name.")

    @router.get("/models/{name}/{version}/report", responses=_HTML | _GONE, response_class=FileResponse)
    async def report(name: str, version: int) -> FileResponse:
        """What training made of it, as a page that runs nothing."""
        path = await teaching.report(name, version)
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=DOCUMENT_HEADERS)

    @router.post("/models/{name}/{version}/promote", responses=_REFUSED)
    async def promote(name: str, version: int) -> LatestOut:
        """Use this version wherever the latest is used, from the first batch after it is loaded."""
        await teaching.promote(name, version)
        return LatestOut(name=name, latest=version)

    @router.post("/models/{name}/rollback", responses=_REFUSED)
    async def rollback(name: str, seen: RollbackIn) -> LatestOut:
        """Go back to the version that was promoted before."""
        return LatestOut(name=name, latest=await teaching.rollback(name, seen.version))


def collection_out(state: CollectionState) -> CollectionOut:
    """In the API's words."""
    return CollectionOut(
        camera=state.camera,
        wanted=state.wanted,
        written=state.captured.written,
        skipped=state.captured.skipped,
        at_work=state.at_work,
        reason=state.reason,
    )


def training_out(state: TrainingState) -> TrainingOut:
    """In the API's words."""
    return TrainingOut.model_validate(state)


def _shelf_out(shelf: Shelf, used: dict[tuple[str, int], list[str]]) -> ShelfOut:
    newest_first = reversed(shelf.versions)
    return ShelfOut(
        name=shelf.name,
        cameras=list(shelf.cameras),
        pinned=dict(shelf.pinned),
        latest=shelf.latest,
        earlier=shelf.earlier,
        interrupted=shelf.interrupted,
        no_latest=shelf.no_latest,
        versions=[_version_out(shelf, v, used.get((shelf.name, v.version), [])) for v in newest_first],
    )


def _version_out(shelf: Shelf, v: Version, used_by: list[str]) -> VersionOut:
    report = f"api/v1/models/{shelf.name}/{v.version}/report" if v.version in shelf.reports else None
    return VersionOut(
        version=v.version,
        latest=v.latest,
        used_by=used_by,
        created_at=v.created_at,
        size=v.size,
        good_pictures=v.good_pictures,
        metrics=dict(v.metrics),
        evaluated=dict(v.evaluated),
        report=report,
        broken=v.broken,
    )


def _picture_out(camera: str, path: Path, at: float) -> PictureOut:
    name = shown_name(path)
    # Browsers keep what they were shown: another file of that name has another address.
    url = f"api/v1/cameras/{camera}/pictures/{quote(name)}?_={at:.3f}"
    return PictureOut(name=name, at=datetime.fromtimestamp(at).astimezone(), small=url)


def _small(path: Path) -> bytes:
    pixels = read(path)
    if pixels is None:
        raise Gone("This picture can't be read.")
    return overlay.encode_jpeg(overlay.plain(pixels, _SMALL_PX))
