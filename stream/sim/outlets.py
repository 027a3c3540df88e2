"""How packets leave: interleaved in the RTSP connection, or by UDP."""

import asyncio
import socket
import struct
from typing import Any

_PORT_TRIES = 50


class TcpOutlet:
    """RTP and RTCP between the RTSP messages, on two channels (RFC 2326, 10.12)."""

    def __init__(self, writer: asyncio.StreamWriter, channels: tuple[int, int]) -> None:
        self._writer, self._channels = writer, channels

    def send(self, packets: list[bytes]) -> None:
        """All packets in one write."""
        if not self._writer.is_closing():
            self._writer.write(b"".join(self._framed(0, packet) for packet in packets))

    def send_rtcp(self, packet: bytes) -> None:
        """One packet on the second channel."""
        if not self._writer.is_closing():
            self._writer.write(self._framed(1, packet))

    def _framed(self, which: int, packet: bytes) -> bytes:
        return struct.pack("!cBH", b"$", self._channels[which], len(packet)) + packet

    def backlog_bytes(self) -> int:
        """What the connection's buffer holds."""
        return int(self._writer.transport.get_write_buffer_size())

    def close(self) -> None:
        """What is in the buffer still goes, then the connection ends."""
        self._writer.close()


class UdpOutlet:
    """RTP and RTCP from a pair of ports to the client's pair; ends with the RTSP connection."""

    def __init__(
        self,
        transports: tuple[asyncio.DatagramTransport, asyncio.DatagramTransport],
        writer: asyncio.StreamWriter,
        client: tuple[str, tuple[int, int]],
    ) -> None:
        self._rtp, self._rtcp = transports
        self._writer = writer
        self._rtp_to, self._rtcp_to = ((client[0], port) for port in client[1])

    @property
    def server_ports(self) -> tuple[int, int]:
        """Our pair of ports."""
        return self._rtp.get_extra_info("sockname")[1], self._rtcp.get_extra_info("sockname")[1]

    def send(self, packets: list[bytes]) -> None:
        """One datagram each."""
        if not self._rtp.is_closing():
            for packet in packets:
                self._rtp.sendto(packet, self._rtp_to)

    def send_rtcp(self, packet: bytes) -> None:
        """One datagram to the client's second port."""
        if not self._rtcp.is_closing():
            self._rtcp.sendto(packet, self._rtcp_to)

    def backlog_bytes(self) -> int:
        """What the socket didn't take at once."""
        return int(self._rtp.get_write_buffer_size())  # type: ignore[attr-defined]

    def release(self) -> None:
        """Give the pair of ports back."""
        self._rtp.close()
        self._rtcp.close()

    def close(self) -> None:
        """Cut the RTSP connection and the ports."""
        self.release()
        self._writer.close()


async def open_udp(host: str, writer: asyncio.StreamWriter, client: tuple[str, tuple[int, int]]) -> UdpOutlet:
    """An outlet on an even port and the next one. Raises OSError when no pair is free."""
    loop = asyncio.get_running_loop()
    first, second = _port_pair(host)
    rtp, _ = await loop.create_datagram_endpoint(_Ignore, sock=first)
    rtcp, _ = await loop.create_datagram_endpoint(_Ignore, sock=second)
    return UdpOutlet((rtp, rtcp), writer, client)


def _port_pair(host: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_PORT_TRIES):
        first, second = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            first.bind((host, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((host, port + 1))
                first.setblocking(False)
                second.setblocking(False)
                return first, second
        except OSError:
            pass  # the next one is taken: another pair
        first.close()
        second.close()
    raise OSError("no free pair of UDP ports")


class _Ignore(asyncio.DatagramProtocol):
    """Receiver reports and hole punching are welcome and not needed."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Nothing to do."""

    def error_received(self, exc: Exception) -> None:
        """The client's port is closed: its RTSP connection will say so."""
