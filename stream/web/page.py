"""The web room as one part: what stream/app.py makes, starts, tells, and stops.

    page = LivePage(view, listen="127.0.0.1:8080")
    await page.start()            # page.url is known now
    page.show(inspection)         # also a bare Frame of a camera without a model
    page.camera_changed()         # a camera's state is another
    page.incidents_changed()      # an incident was opened, updated or closed
    await page.stop()             # every stream ends at once

All on one event loop; none of these waits but start and stop.
"""

from datetime import UTC, datetime
from pathlib import Path

from engine.core import Frame, Inspection

from .. import metrics
from .app import create_app
from .errors import ListenError
from .feed import Feed
from .hub import Hub
from .schemas import line_out
from .server import WebServer, is_loopback, parse_listen
from .view import LineView
from .viewers import Seats

INCIDENTS_ON_PAGE = 30


def check_listen(listen: str, users_file: Path | None) -> None:
    """Raises ListenError for a broken address, and for one that others reach while there are no users."""
    host, _ = parse_listen(listen)
    if not is_loopback(host) and users_file is None:
        raise ListenError(
            f"web.listen {listen} can be reached by others, and there are no users: name a web.users_file, "
            "or listen on 127.0.0.1."
        )


class LivePage:
    """See the module's head. Raises ListenError when made for, or started on, an address that can't be."""

    def __init__(
        self,
        view: LineView,
        *,
        listen: str = "127.0.0.1:8080",
        users_file: Path | None = None,
        host_names: tuple[str, ...] = (),
        max_viewers: int = 64,
    ) -> None:
        check_listen(listen, users_file)
        host, port = parse_listen(listen)
        self._view = view
        self._seats = Seats(max_viewers)
        self._hub = Hub(view.cameras, seats=self._seats)
        self._feed = Feed(self._message, seats=self._seats)
        app = create_app(
            view,
            self._hub,
            self._feed,
            page_stats=self.stats,
            loopback_only=is_loopback(host),
            host_names=host_names,
        )
        self._server = WebServer(app, host, port, self._close_streams)

    @property
    def url(self) -> str:
        """Where the page is; with the real port once started."""
        return self._server.url

    async def start(self) -> None:
        """Listening when it returns; raises ListenError when the port is taken."""
        await self._server.start()

    async def stop(self) -> None:
        """Ends streams, connections and threads. Safe to call twice, and without a start."""
        self._close_streams()
        await self._server.stop()

    def show(self, picture: Inspection | Frame) -> None:
        """The newest of its camera; drawn only while somebody watches."""
        self._hub.show(picture)

    def camera_changed(self) -> None:
        """Draw and tell the cameras' new states now, not in a second."""
        self._hub.camera_changed()
        self._feed.changed()

    def incidents_changed(self) -> None:
        """Tell the incidents now."""
        self._feed.changed()

    def stats(self) -> metrics.PageStats:
        """The page's own numbers."""
        counts = self._hub.counts()
        return metrics.PageStats(self._seats.taken, counts.drawn, counts.overtaken, counts.dropped)

    def _message(self) -> bytes:
        return line_out(self._view, datetime.now(UTC), INCIDENTS_ON_PAGE).model_dump_json().encode()

    def _close_streams(self) -> None:
        self._hub.close()
        self._feed.close()
