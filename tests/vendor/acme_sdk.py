"""Stands for a camera maker's SDK: calls that block, error codes, buffers that it takes back."""

import time

import numpy as np

NOT_FOUND, TIMEOUT, UNPLUGGED = -1, -2, -3


class AcmeError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"acme error {code}")
        self.code = code


class Device:
    """One camera by its serial number: grey pictures of 64 × 48, until it is unplugged after `life`."""

    def __init__(self, serial: str, life: int = 1_000_000) -> None:
        if serial != "42":
            raise AcmeError(NOT_FOUND)
        self._life = life
        self._buffer = np.zeros((48, 64), np.uint8)
        self.is_open = True

    def grab(self, timeout_ms: int) -> tuple[np.ndarray, float]:
        """The next picture and when it was taken (UTC s). The SDK writes into the same buffer again."""
        time.sleep(min(timeout_ms, 20) / 1000)
        self._life -= 1
        if self._life < 0:
            raise AcmeError(UNPLUGGED)
        self._buffer[:] = np.random.default_rng(self._life).integers(60, 180, self._buffer.shape)
        return self._buffer, time.time()

    def close(self) -> None:
        self.is_open = False
