"""Child processes of the demo: the same `linewatch` commands that a person would type.

None outlives the demo: each is told SIGTERM, and the kernel ends it should the demo itself be killed (Linux).
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..console import linewatch
from ..launch import with_us

_LINE_BYTES = 1 << 20


class ChildFailed(Exception):
    """A command of the demo ended with an error; its own words were already printed on stderr."""

    user_message = True


class Child:
    """One running `linewatch` command, its standard output read line by line, its stderr passed on."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log: Path | None, marked: str | None
    ) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._telling = asyncio.create_task(self._tell(marked), name=f"stderr of {name}")

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path | None = None,
        marked: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> "Child":
        """`log` takes stderr (appended) instead of the terminal; on that `marked` stands before each line,
        where several speak at once. `variables` of the environment hold where ours doesn't have them. Raises
        ChildFailed if it can't start.
        """
        with contextlib.ExitStack() as stack:
            stderr = stack.enter_context(log.open("ab")) if log else None
            try:
                process = await asyncio.create_subprocess_exec(
                    *with_us([*linewatch(), *arguments]),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE if marked else stderr,
                    env={**(variables or {}), **os.environ, "PYTHONUNBUFFERED": "1"},
                    limit=_LINE_BYTES,
                    # Ctrl-C in a terminal goes to the whole group: the demo alone says what stops when.
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"demo: {name} can't be started: {error.strerror}") from error
        return cls(name, process, log, marked)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def json_line(self, timeout_s: float) -> dict[str, Any]:
        """The next line of standard output that is a JSON object. Raises ChildFailed if none comes."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                while line := await self._process.stdout.readline():
                    if line.startswith(b"{"):
                        answer: dict[str, Any] = json.loads(line)
                        return answer
        except TimeoutError:
            raise ChildFailed(f"demo: {self.name} said nothing for {timeout_s:g} s") from None
        await self._process.wait()
        raise self.failure()

    def failure(self) -> ChildFailed:
        """What to raise when it ended though it should not have."""
        where = f"; it says why in {self._log}" if self._log else ""
        return ChildFailed(f"demo: {self.name} ended with exit code {self._process.returncode}{where}")

    async def result(self, timeout_s: float) -> dict[str, Any]:
        """Wait for its end; the JSON object of its last line. Raises ChildFailed on another exit than 0."""
        assert self._process.stdout is not None
        last = b""
        try:
            async with asyncio.timeout(timeout_s):
                while line := await self._process.stdout.readline():
                    last = line if line.startswith(b"{") else last
                code = await self._process.wait()
                await self._telling
        except TimeoutError:
            raise ChildFailed(f"demo: {self.name} did not end within {timeout_s:g} s") from None
        if code != 0 or not last:
            raise self.failure()
        answer: dict[str, Any] = json.loads(last)
        return answer

    async def _tell(self, marked: str | None) -> None:
        while self._process.stderr is not None and (line := await self._process.stderr.readline()):
            sys.stderr.write(f"{marked}: {line.decode(errors='replace')}")

    async def drain(self) -> None:
        """Read and forget what it still prints, so that it never blocks on a full pipe. Cancel at will."""
        assert self._process.stdout is not None
        while await self._process.stdout.read(_LINE_BYTES):
            pass

    async def stop(self, timeout_s: float) -> int:
        """SIGTERM, wait, SIGKILL if it must be; its exit code. Safe to call twice."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        drained = asyncio.create_task(self.drain())
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            return await self._process.wait()
        finally:
            drained.cancel()
            self._telling.cancel()
            await asyncio.gather(drained, self._telling, return_exceptions=True)


def memory_mb(pid: int) -> tuple[float, float]:
    """Memory that a running process has now, and the most it ever had; zeros where there is no /proc."""
    said: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                said[name] = int(value.split()[0]) / 1024.0
    return said.get("VmRSS", 0.0), said.get("VmHWM", 0.0)
