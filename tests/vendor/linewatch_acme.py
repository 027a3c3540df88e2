"""Acme's cameras as a source: what a maker has to write, and no more.

cameras:
  top: {source: {type: acme, serial: "42"}}
"""

import threading

import acme_sdk
import numpy as np

from config.sources import PluginSource
from stream.sources.base import Deadlines, Ended, Refused, Sink, Source, SourceError, Stalled, Unreachable

_LOOK_MS = 200  # a source looks at `stop` at least so often


class AcmeSource:
    """One connection to one camera; see `stream.sources.base.Source`."""

    steady = True

    def __init__(self, serial: str, life: int) -> None:
        self.deadlines = Deadlines(connect_s=5.0, read_s=3.0)
        self._serial, self._life = serial, life

    def run(self, sink: Sink, stop: threading.Event) -> None:
        try:
            device = acme_sdk.Device(self._serial, self._life)
        except acme_sdk.AcmeError as error:
            raise self._in_words(error) from None
        try:
            sink.connected(f"Acme {self._serial}")
            while not stop.is_set():
                grey, taken_at = device.grab(_LOOK_MS)
                if sink.due(taken_at):
                    # A copy: Linewatch keeps the picture, and the SDK writes into its buffer again.
                    sink.put(np.repeat(grey[:, :, None], 3, axis=2), taken_at, "camera")
        except acme_sdk.AcmeError as error:
            raise self._in_words(error) from None
        finally:
            device.close()

    def _in_words(self, error: acme_sdk.AcmeError) -> SourceError:
        if error.code == acme_sdk.NOT_FOUND:
            return Unreachable(f"no Acme camera with serial number {self._serial}; check serial and cable")
        if error.code == acme_sdk.TIMEOUT:
            return Stalled(f"Acme {self._serial} sends no pictures")
        return Ended(f"Acme {self._serial} was unplugged")


def build(camera: str, settings: PluginSource) -> Source:
    """The entry point `acme`. Raises Refused for options that can't be."""
    options = settings.options
    unknown = options.keys() - {"serial", "life"}
    if unknown or not isinstance(options.get("serial"), str):
        raise Refused(f"{camera}: an acme source takes serial (a text), and nothing else")
    return AcmeSource(options["serial"], int(options.get("life", 1_000_000)))
