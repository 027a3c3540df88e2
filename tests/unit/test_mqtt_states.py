"""The MQTT bridge's states end when they are told to, also where a call has swallowed that."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

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
