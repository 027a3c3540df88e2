"""Outbox, broker and publisher as one part: what is recorded here arrives there.

startup   outbox (this process owns it) · broker (our own child, or the config's) · claim · publisher
          run file
stop      what waits is sent, for as long as it may take · publisher · run file · broker
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.settings import Settings

from .bridges.report import Report
from .broker import BrokerError, EmbeddedBroker, Endpoint, RunFile, endpoint_of, run_file_of
from .claim import Claim, Taken
from .endings import end
from .heed import heed_cancellation
from .keys import Keys
from .lag import GroupLag, LagWatch, group_lags
from .outbox import Outbox
from .outbox_file import OutboxError
from .publisher import Publisher, PublisherState

log = logging.getLogger(__name__)

_LAG_EVERY_S = 5.0
# Groups that the metric names, those that are furthest behind: others may make as many as they like.
_MOST_GROUPS = 24


class Delivery:
    """`on_delivered` is called on the event loop when the broker took something, `on_behind` once for each
    consumer group that is about to lose entries to the stream's retention. `lags` is entries behind by group,
    as last seen; groups of the verdict stream are called verdicts/GROUP. `bridges` is what each bridge told
    of itself last; one that the file names no more is there as long as it runs.
    """

    def __init__(
        self, settings: Settings, on_delivered: Callable[[], None], on_behind: Callable[[GroupLag], None]
    ) -> None:
        """Raises OutboxError: a broken file, a full disk, or another Linewatch that owns it."""
        events = settings.events
        self.keys = Keys(events.stream_key(settings.site, settings.line))
        self.outbox = Outbox(events.outbox.path, keep=events.maxlen, max_bytes=events.outbox.max_mb << 20)
        self.outbox.belong_to(self.keys.base)
        self.endpoint: Endpoint | None = None
        self._settings = settings
        self._on_delivered = on_delivered
        self._on_behind = on_behind
        self.lags: dict[str, int] = {}
        self._named = settings.bridges
        self.bridges: dict[str, Report | None] = dict.fromkeys(settings.bridges)
        self._broker: EmbeddedBroker | None = None
        self._publisher: Publisher | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises BrokerError when our own broker can't be started; one of the config may come later. Raises
        Taken when another Linewatch speaks for this line there.
        """
        events = self._settings.events
        if events.url == "embedded":
            broker = EmbeddedBroker(
                events.embedded.dir, port=events.embedded.port, max_memory_mb=events.embedded.max_memory_mb
            )
            self.endpoint = await broker.start()
            self._broker = broker
        else:
            self.endpoint = endpoint_of(events)
        claim = Claim(
            self.endpoint.client,
            self.keys.owner,
            self.outbox.lock,
            what=f"another Linewatch speaks for {self.keys.events} at this broker, {{where}}",
            mend="stop that one, or give this one another site or line",
        )
        await claim.take()
        self._publisher = Publisher(
            self.outbox,
            self.endpoint.client,
            self.keys,
            maxlen=events.maxlen,
            max_age_s=events.max_age_s,
            on_delivered=self._on_delivered,
        )
        self._tasks = [
            asyncio.create_task(self._publisher.run(), name="publisher"),
            asyncio.create_task(claim.keep(), name="claim"),
            asyncio.create_task(self._watch_lag(self.endpoint), name="lag"),
        ]

    def announce(self) -> None:
        """Leave the run file: from now on `linewatch events` finds our own broker. Another one stands in the
        config, which may lie where nothing can be written. Raises BrokerError when our own disk refuses.
        """
        assert self.endpoint is not None
        if self._broker is None:
            return
        events = self._settings.events
        outbox = str(events.outbox.path)
        path = run_file_of(events)
        try:
            RunFile(self.endpoint, self.keys.events, os.getpid(), outbox).write(path)
        except OSError as error:
            raise BrokerError(
                f"the run file {path} can't be written: {error.strerror}; mend that, or name another folder "
                "in events.embedded.dir"
            ) from error

    def changed(self, after: Settings) -> None:
        """The config file was edited."""
        self._named = after.bridges

    def wake(self) -> None:
        """Something was recorded."""
        if self._publisher is not None:
            self._publisher.wake()

    def backlog(self, now_s: float) -> tuple[float | None, int | None]:
        """Age in s of the oldest event that waits, and how many were dropped; None: the disk does not say."""
        try:
            return self.outbox.oldest_s(now_s), sum(self.outbox.dropped().values())
        except OutboxError:
            return None, None

    @property
    def state(self) -> PublisherState:
        return self._publisher.state if self._publisher is not None else PublisherState()

    @property
    def is_taken(self) -> bool:
        """Another Linewatch speaks for this line: what is said of it is no more ours to say."""
        return isinstance(self.died, Taken)

    @property
    def died(self) -> BaseException | None:
        """The bug that ended one of our tasks, if one did."""
        ended = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((bug for task in ended if (bug := task.exception()) is not None), None)

    async def drain(self, within_s: float) -> None:
        """Wait until the broker has what was recorded, for so long at most."""
        if self._publisher is not None and self.died is None:
            await self._publisher.drained(within_s)

    async def stop(self, within_s: float) -> None:
        """Send what waits, then close everything. Safe to call after a start that failed."""
        if self._publisher is not None:
            if self.died is None and not await self._publisher.drained(within_s):
                log.warning("%d events stay in the outbox for the next start", self.outbox.pending)
            await end(self._tasks)
        if self._broker is not None:
            self._withdraw()
            await self._broker.stop()
        self.outbox.close()

    def _withdraw(self) -> None:
        """A disk that refuses keeps neither broker nor outbox from being closed."""
        path = run_file_of(self._settings.events)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning(
                "the run file %s can't be removed: %s; until the next start it names a broker that has ended",
                *(path, error.strerror),
            )

    async def _watch_lag(self, endpoint: Endpoint) -> None:
        events = self._settings.events
        watch = LagWatch(events.maxlen, events.max_age_s)
        # Not the client's own `async with`: a cluster's connects there, and may be away.
        async with contextlib.aclosing(endpoint.client()) as client:
            while True:
                with contextlib.suppress(RedisError, OSError, OutboxError):
                    groups = [*await self._lags(client, "events"), *await self._lags(client, "verdicts")]
                    furthest = sorted(groups, key=lambda group: -group.behind)[:_MOST_GROUPS]
                    self.lags = {group.group: group.behind for group in furthest}
                    for group in watch.newly_behind(groups, time.time()):
                        self._on_behind(group)
                await self._read_reports(client)
                heed_cancellation()
                await asyncio.sleep(_LAG_EVERY_S)

    async def _lags(self, client: Redis, stream: str) -> list[GroupLag]:
        found = await group_lags(
            client,
            self.keys.of(stream),
            unread=lambda read_up_to: self.outbox.kept_after(stream, read_up_to),
            ages=self._settings.events.max_age_s is not None,
        )
        prefix = "" if stream == "events" else f"{stream}/"
        return [replace(group, group=prefix + group.group) for group in found]

    async def _read_reports(self, client: Redis) -> None:
        """A bridge may run anywhere: its report comes by the broker, and expires when it stops."""
        names = list(self._settings.bridges)
        told: list[bytes | None] = [None] * len(names)
        with contextlib.suppress(RedisError, OSError):
            async with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.get(self.keys.bridge_report(name))
                told = await pipe.execute()
        reports = {
            name: None if text is None else Report.parse(text) for name, text in zip(names, told, strict=True)
        }
        self.bridges = {name: r for name, r in reports.items() if r is not None or name in self._named}
