"""Can the line be relied on? What the heartbeat, `/ready` and the PLC's status keys say of it."""

import time
from collections.abc import Mapping

from config.settings import CameraSettings, Settings, config_sha256
from engine.engine import Engine

from .delivery import Delivery
from .gateway import Gateway
from .overview import Overview
from .recorder import Recorder
from .snapshot import LineFault, not_ready, plc_status
from .status import Fields
from .web.view import CameraView

_BLIND_AFTER_S = 5.0
_BLIND_INTERVALS = 3.0  # a camera that is asked for a picture a minute rests in between


class Vitals:
    """Event loop only. `engine` and `started` are set when they are there, `checksum` when the settings
    change; `cameras` are those that run, kept up to date by their owner.
    """

    def __init__(
        self,
        settings: Settings,
        cameras: Mapping[str, CameraSettings],
        *,
        recorder: Recorder,
        delivery: Delivery,
        gateway: Gateway,
        overview: Overview,
    ) -> None:
        self.engine: Engine | None = None
        self.started = False
        self.checksum = config_sha256(settings)
        self._stuck_after_s = settings.engine.stuck_after_s
        self._cameras = cameras
        self._recorder, self._delivery = recorder, delivery
        self._gateway, self._overview = gateway, overview

    def not_ready(self) -> list[str]:
        """One sentence for each reason; empty when all is well."""
        return not_ready(
            started=self.started,
            broker_error=self._delivery.state.error,
            disk_error=self._recorder.disk_error,
            stuck_after_s=self._stuck_after_s if self._is_stuck() else None,
            triggers_error=self._gateway.trouble if any(map(_is_triggered, self._cameras.values())) else None,
        )

    def is_alive(self) -> bool:
        """What the heartbeat says: the device decides, and what is decided is on disk and on its way.

        A broker that takes heartbeats may refuse events: by its ACL, or as a cluster's node that is down.
        """
        is_told = self._recorder.disk_error is None and self._delivery.state.error is None
        return self.started and not self._is_stuck() and is_told

    def status(self, cameras: list[CameraView]) -> Mapping[str, Fields]:
        """The status hash of each camera."""
        return {camera.name: self._status_of(camera) for camera in cameras}

    def _status_of(self, camera: CameraView) -> Fields:
        parts = self._gateway.parts
        counts = self._gateway.counts(camera.name, self._overview.counts(camera.name))
        on_device = self.engine is not None and self.engine.busy_since is not None
        fault = LineFault(
            disabled=not parts.is_enabled(camera.name),
            disk=self._recorder.disk_error is not None,
            stuck=self._is_stuck(),
            blind=self._is_blind(camera),
            deaf=_is_triggered(self._cameras[camera.name]) and self._gateway.trouble is not None,
        )
        busy = on_device or parts.waiting(camera.name) > 0
        return plc_status(camera, counts, fault, busy=busy, config_checksum=self.checksum)

    def _is_stuck(self) -> bool:
        limit_s = self._stuck_after_s
        return self.engine is not None and self.engine.is_stuck(time.monotonic(), limit_s)

    def _is_blind(self, camera: CameraView) -> bool:
        """Live for a while, and pictures came of which none was inspected in time. Triggered cameras may
        rest, and so may others: a folder into which nothing is dropped is as ready as ever.
        """
        settings = self._cameras[camera.name]
        if camera.state != "live" or settings.frames != "latest":
            return False
        waits_s = self._overview.unanswered_s(camera.name)
        if waits_s <= max(_BLIND_AFTER_S, _BLIND_INTERVALS / settings.fps):
            return False
        # Not by how much: our clock may have been set since.
        return abs(time.time() - camera.since) > settings.down_after_s


def _is_triggered(camera: CameraSettings) -> bool:
    return camera.frames == "every"
