"""How long the webhook bridge tries, whatever the clock does meanwhile."""

from typing import Any

import pytest

from stream.bridges.http import Reply
from stream.bridges.sink import PeerAway, Rejected
from stream.bridges.webhook import Options, Webhook
from tests.brokers import facts
from tests.webhook_peer import SECRET


class Failing:
    """A peer that answers each event with an internal error."""

    host = "mes"

    def __init__(self) -> None:
        self.stamps: list[int] = []

    async def post(self, body: bytes, headers: dict[str, str]) -> Reply:
        self.stamps.append(int(headers["webhook-timestamp"]))
        return Reply(500)


async def test_a_clock_that_is_set_makes_it_give_up_neither_sooner_nor_later() -> None:
    utc_s, elapsed_s = 1_700_000_000.0, 50.0
    poster: Any = Failing()
    options = Options.model_validate({"url": "http://mes", "secret": SECRET, "give_up_after_s": 3600})
    webhook = Webhook(options, poster, now_s=lambda: utc_s, elapsed_s=lambda: elapsed_s)
    (event,) = facts(1)
    with pytest.raises(PeerAway):
        await webhook.deliver(event)
    utc_s += 86_400.0
    with pytest.raises(PeerAway):
        await webhook.deliver(event)
    utc_s -= 2 * 86_400.0
    elapsed_s += 3600.0
    with pytest.raises(Rejected, match="answers 500 since 3600 s"):
        await webhook.deliver(event)
    assert poster.stamps == [1_700_000_000, 1_700_086_400, 1_699_913_600]
