"""Modbus requests of one connection: each is answered by itself, in the order in which they came.

pymodbus keeps one request a connection. Of two that a client sends without waiting it answers one, or one of
them twice; the other is not carried out, and a PLC that has several under way runs into time-outs.
"""

from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler

# Transaction, protocol (0) and length stand before what the length counts, which is unit and request.
_HEAD, _LENGTH = 6, slice(4, 6)
_LONGEST = 260
# A client that sends on and on without waiting for answers.
_MOST_UNREAD = 64 * 1024


class OneByOne(ServerRequestHandler):
    """One connection. What is no Modbus ends it: nobody knows where the next request would begin."""

    def __init__(self, server: ModbusTcpServer) -> None:
        super().__init__(server, None, None, None)  # type: ignore[no-untyped-call]
        self._unread = b""
        self._answering = False

    def data_received(self, data: bytes) -> None:
        """asyncio's: any part of any number of requests."""
        self._unread += data
        self._go_on()

    async def handle_request(self) -> None:
        """pymodbus' answer to the request that it was given, then the next one."""
        try:
            await super().handle_request()  # type: ignore[no-untyped-call]
        finally:
            self._answering = False
            self._go_on()

    def _go_on(self) -> None:
        while not self._answering and len(self._unread) >= _HEAD:
            length = _HEAD + int.from_bytes(self._unread[_LENGTH])
            if self._unread[2:4] != b"\0\0" or not _HEAD + 2 <= length <= _LONGEST:
                self._leave()
            if len(self._unread) < length:
                return
            request, self._unread = self._unread[:length], self._unread[length:]
            super().data_received(request)
            # One that can't be decoded was answered at once.
            self._answering = self.last_pdu is not None
        if len(self._unread) > _MOST_UNREAD:
            self._leave()

    def _leave(self) -> None:
        self._unread = b""
        self.close()


class Server(ModbusTcpServer):
    """pymodbus' server with such connections."""

    def callback_new_connection(self) -> OneByOne:
        """pymodbus' question for each client."""
        return OneByOne(self)
