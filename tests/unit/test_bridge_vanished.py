"""A peer that vanished does not keep its connection, whatever was under way."""

import socket
from asyncio.trsock import TransportSocket

from stream.bridges.vanished import end_vanished


def test_an_answer_that_is_under_way_to_a_peer_that_vanished_keeps_no_connection() -> None:
    """No peer is asked whether it is there while something waits for its acknowledgement: without a limit of
    its own that went on for a quarter of an hour.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        end_vanished([TransportSocket(listener)])
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
