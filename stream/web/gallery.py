"""Routes of the incident gallery: kept pictures, and what a person says of them.

What touches the disk runs in the page's own threads: one that hangs must not take those of the line.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from ..evidence import Evidence, EvidenceError, Feedback, Item
from .curves import Curves
from .schemas import ErrorOut, In
from .tuning import CurveOut

_GONE: dict[int | str, dict[str, Any]] = {404: {"model": ErrorOut, "description": "It was removed"}}
_FILED: dict[int | str, dict[str, Any]] = {
    **_GONE,
    409: {"model": ErrorOut, "description": "There is no folder for good pictures"},
    507: {"model": ErrorOut, "description": "It can't be filed"},
}
_FILE: dict[int | str, dict[str, Any]] = {
    **_GONE,
    200: {"content": {"image/png": {}, "image/jpeg": {}}, "description": "The picture"},
}


class EvidenceOut(BaseModel):
    """One kept picture; boxes are 0–1 of the frame, strongest first; image and heatmap are relative URLs."""

    camera: str
    stem: str
    taken_at: datetime
    score_ratio: float
    model: str
    boxes: list[tuple[float, float, float, float]]
    feedback: Feedback | None
    image: str
    heatmap: str


class FeedbackIn(In):
    """`false_alarm`: the part was good, learn from it; `confirmed`: keep it as evidence; null: take it
    back.
    """

    feedback: Feedback | None


def build(
    evidence: Evidence, pictures: Path | None, curves: Curves, changed: Callable[[], None]
) -> APIRouter:
    """`curves` are of what was shown lately. `pictures`: where CAMERA/good is, for false alarms; None: no
    answer is taken. `changed` is called after an answer.
    """
    router = APIRouter(tags=["evidence"])

    @router.get("/api/v1/evidence")
    async def listed(
        camera: str | None = None,
        feedback: Literal["false_alarm", "confirmed", "none"] | None = None,
        before: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> list[EvidenceOut]:
        """Kept pictures, newest first, and with the last one those of the same moment beyond `limit`;
        `before` without an offset is UTC."""
        if before is not None and before.tzinfo is None:
            before = before.replace(tzinfo=UTC)
        start = None if before is None else before.timestamp()
        found = evidence.items(camera=camera, feedback=feedback, before=start, limit=limit)
        return [out(item) for item in found]

    @router.get("/api/v1/evidence/{camera}/{stem}", responses=_GONE)
    async def one(camera: str, stem: str) -> EvidenceOut:
        """One kept picture."""
        return out(_found(evidence, camera, stem))

    @router.get("/api/v1/evidence/{camera}/{stem}/scores", responses=_GONE)
    async def scores(camera: str, stem: str) -> CurveOut:
        """What the camera scored in the seconds around it."""
        return await _scores(_found(evidence, camera, stem), evidence, curves)

    @router.put("/api/v1/evidence/{camera}/{stem}/feedback", responses=_FILED)
    async def answer(camera: str, stem: str, said: FeedbackIn) -> EvidenceOut:
        """What a person says of it. A false alarm's picture goes into the camera's good folder."""
        if pictures is None:
            raise HTTPException(409, "There is no folder for good pictures: set pictures.dir.")
        found = _found(evidence, camera, stem)
        words = (found.camera, found.stem, said.feedback, pictures / found.camera / "good")
        try:
            answered = out(await run_in_threadpool(evidence.answer, *words))
        except (EvidenceError, FileNotFoundError) as error:
            raise HTTPException(404, "This picture is not there: it was removed.") from error
        except OSError as error:
            raise HTTPException(507, f"The picture could not be filed: {error.strerror}.") from error
        changed()
        return answered

    _files(router, evidence)
    return router


def _files(router: APIRouter, evidence: Evidence) -> None:
    @router.get("/evidence/{camera}/{name}", responses=_FILE, response_class=FileResponse)
    async def file(camera: str, name: str) -> FileResponse:
        """The picture (.png) or the one with map and boxes (.jpg)."""
        stem, _, kind = name.rpartition(".")
        if kind not in ("png", "jpg"):
            raise HTTPException(404, "There is no such picture.")
        item = _found(evidence, camera, stem)
        path = evidence.path(item, "png" if kind == "png" else "jpg")
        if not await run_in_threadpool(path.exists):  # on a share it may hang
            raise HTTPException(404, _why_not_there(item))
        return FileResponse(path, headers={"cache-control": "private, max-age=86400"})


def _why_not_there(item: Item) -> str:
    said = "is not there: it was removed" if item.size_bytes else "is being written; ask again in a moment"
    return f"This picture {said}."


async def _scores(item: Item, evidence: Evidence, curves: Curves) -> CurveOut:
    """As kept, or of what was shown lately while they are not written yet. Raises HTTPException."""
    try:
        return CurveOut.model_validate_json(await run_in_threadpool(evidence.path(item, "scores").read_bytes))
    except FileNotFoundError:
        live = curves.around(item)
    except (OSError, ValueError) as error:
        raise HTTPException(404, "The scores of this picture can't be read.") from error
    if live is None:
        raise HTTPException(404, "No scores of this picture were kept.")
    return live


def out(item: Item) -> EvidenceOut:
    """An item in the API's words."""
    return EvidenceOut(
        camera=item.camera,
        stem=item.stem,
        taken_at=datetime.fromisoformat(item.stem.partition("Z-")[0] + "Z"),
        score_ratio=item.score_ratio,
        model=item.model,
        boxes=list(item.boxes),
        feedback=item.feedback,
        image=item.image,
        heatmap=item.heatmap,
    )


def _found(evidence: Evidence, camera: str, stem: str) -> Item:
    # Only what is in the index has a path: no name from outside is ever put together to one.
    try:
        return evidence.find(camera, stem)
    except EvidenceError as error:
        raise HTTPException(404, str(error)) from error
