"""The MQTT bridge's states: before it is online, and ended when they are told to be, also where a call has
swallowed that.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

from stream.bridges.mqtt import Options
from stream.bridges.mqtt_client import MqttSink


async def test_a_cancellation_that_is_swallowed_while_a_state_goes_out_ends_the_states(
    tmp_path: Path,
) -> None:
    """As `asyncio.wait_for` of Python 3.11 swallows it when the acknowledgement comes at the same moment: the
    bridge was then never ended."""
    line = Mock(site="test", line="line-1", cameras=("top",), state_dir=tmp_path, alive=True)
    line.status.return_value = {"ready": "1"}
    changes = iter([None])

    async def changed() -> None:
        if next(changes, False) is not None:
            await asyncio.Event().wait()  # nothing more happens

    line.changed = changed
    told: list[str] = []

    async def publish(topic: str, payload: bytes, **_: Any) -> None:
        told.append(f"{topic.rpartition('/')[2]} {payload.decode()}")
        if topic.endswith("/state"):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    client: Any = Mock(publish=publish)
    sink = MqttSink(Options.model_validate({"url": "mqtt://127.0.0.1"}), line)
    states = asyncio.create_task(sink._keep_states(client))
    await asyncio.wait([states], timeout=5.0)
    assert states.cancelled()
    assert told[-1] == "availability offline"


async def test_what_is_retained_of_a_line_that_has_gone_is_taken_back_before_the_bridge_is_online(
    tmp_path: Path,
) -> None:
    """For half a second a bridge that was started again was online beside the `ready` of before."""
    line = Mock(site="test", line="line-1", cameras=("top", "side"), state_dir=tmp_path, alive=False)
    line.status.return_value = {"ready": "1"}
    line.changed = AsyncMock()
    told: list[str] = []

    async def publish(topic: str, payload: bytes, **_: Any) -> None:
        told.append(f"{topic.removeprefix('linewatch/test/line-1/')} {payload.decode()}")

    client: Any = Mock(publish=publish)
    await MqttSink(Options.model_validate({"url": "mqtt://127.0.0.1", "commands": False}), line)._greet(
        client
    )
    gone = '{"ready": "0", "busy": "0"}'
    assert told == [f"top/state {gone}", f"side/state {gone}", "availability online"]
