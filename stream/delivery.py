"""Outbox, broker and publisher as one part: what is recorded here arrives there.

startup   outbox (this process owns it) · broker (our own child, or the config's) · publisher · run file
stop      what waits is sent, for as long as it may take · publisher · run file · broker
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from config.settings import Settings

from .broker import EmbeddedBroker, Endpoint, RunFile
from .endings import end
from .keys import Keys
from .outbox import Outbox
from .publisher import Publisher, PublisherState

log = logging.getLogger(__name__)


def run_file(settings: Settings) -> Path:
    """Where a running line leaves the broker's address for programs of the same user."""
    return settings.events.embedded.dir / "run.json"


def endpoint(settings: Settings) -> Endpoint:
    """The broker that the config names."""
    events, tls = settings.events, settings.events.tls
    return Endpoint(
        events.url,
        events.username,
        events.password.get_secret_value() if events.password else None,
        ca_file=_text(tls.ca_file),
        cert_file=_text(tls.cert_file),
        key_file=_text(tls.key_file),
        verify=tls.verify,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class Delivery:
    """`on_delivered` is called on the event loop when the broker took something."""

    def __init__(self, settings: Settings, on_delivered: Callable[[], None]) -> None:
        """Raises OutboxError: a broken file, a full disk, or another Linewatch that owns it."""
        events = settings.events
        self.keys = Keys(events.stream_key(settings.site, settings.line))
        self.outbox = Outbox(events.outbox.path, keep=events.maxlen, max_bytes=events.outbox.max_mb << 20)
        self.endpoint: Endpoint | None = None
        self._settings = settings
        self._on_delivered = on_delivered
        self._broker: EmbeddedBroker | None = None
        self._publisher: Publisher | None = None
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises BrokerError when our own broker can't be started; one of the config may come later."""
        events = self._settings.events
        if events.url == "embedded":
            broker = EmbeddedBroker(
                events.embedded.dir, port=events.embedded.port, max_memory_mb=events.embedded.max_memory_mb
            )
            self.endpoint = await broker.start()
            self._broker = broker
        else:
            self.endpoint = endpoint(self._settings)
        self._publisher = Publisher(
            self.outbox,
            self.endpoint.client,
            self.keys,
            maxlen=events.maxlen,
            on_delivered=self._on_delivered,
        )
        self._sending = asyncio.create_task(self._publisher.run(), name="publisher")

    def announce(self) -> None:
        """Leave the run file: from now on `linewatch events` finds us."""
        assert self.endpoint is not None
        RunFile(self.endpoint, self.keys.events, os.getpid()).write(run_file(self._settings))

    def wake(self) -> None:
        """Something was recorded."""
        if self._publisher is not None:
            self._publisher.wake()

    @property
    def state(self) -> PublisherState:
        return self._publisher.state if self._publisher is not None else PublisherState()

    @property
    def died(self) -> BaseException | None:
        """The bug that ended the publisher's task, if one did."""
        sending = self._sending
        return (
            sending.exception()
            if sending is not None and sending.done() and not sending.cancelled()
            else None
        )

    async def stop(self, within_s: float) -> None:
        """Send what waits, then close everything. Safe to call after a start that failed."""
        if self._publisher is not None and self._sending is not None:
            if not self._sending.done() and not await self._publisher.drained(within_s):
                log.warning("%d events stay in the outbox for the next start", self.outbox.pending)
            await end([self._sending])
        if self.endpoint is not None:
            run_file(self._settings).unlink(missing_ok=True)
        if self._broker is not None:
            await self._broker.stop()
        self.outbox.close()
