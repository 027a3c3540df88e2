"""The running line as any visitor sees it: its REST API."""

import asyncio
import json
from typing import Any
from urllib.parse import urljoin
from urllib.request import ProxyHandler, build_opener

from .children import ChildFailed

_ANSWER_WITHIN_S = 5.0


class LineApi:
    """`page` is the address that `linewatch run` printed. A line that doesn't answer raises ChildFailed."""

    def __init__(self, page: str) -> None:
        self._base = urljoin(page, "/api/v1/")
        # A proxy of the environment is for the outside world, and the line is on this machine.
        self._opener = build_opener(ProxyHandler({}))

    async def live_cameras(self) -> set[str]:
        """Names of the cameras that are live now."""
        return {camera["name"] for camera in await self._get("cameras") if camera["state"] == "live"}

    async def frames(self) -> dict[str, dict[str, int]]:
        """Counters since start: camera → result → frames."""
        counts: dict[str, dict[str, int]] = (await self._get("stats"))["frames"]
        return counts

    async def _get(self, what: str) -> Any:
        try:
            return await asyncio.to_thread(self._get_now, what)
        except (OSError, ValueError) as error:
            raise ChildFailed(f"demo: the line's page does not answer ({type(error).__name__})") from error

    def _get_now(self, what: str) -> Any:
        with self._opener.open(urljoin(self._base, what), timeout=_ANSWER_WITHIN_S) as answer:
            return json.load(answer)
