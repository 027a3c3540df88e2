"""RTP and RTCP for H.264, after RFC 3550 and RFC 6184: pure functions from bytes to bytes.

Time stamps are 90 kHz, modulo 2**32; `utc_s` is seconds since 1970.
"""

import struct
from collections.abc import Iterable, Iterator

CLOCK_HZ = 90_000
PAYLOAD_TYPE = 96
MAX_PAYLOAD_BYTES = 1400
_NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
_FU_A, _STAP_A = 28, 24
_SPS, _PPS, _IDR = 7, 8, 5


def split_nals(annex_b: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without start codes."""
    pieces = annex_b.split(b"\x00\x00\x01")[1:]
    # The zero byte of a four-byte start code (and padding) belongs to no NAL: one never ends with a zero.
    return [nal for piece in pieces if (nal := piece.rstrip(b"\x00"))]


def nal_type(nal: bytes) -> int:
    """The type number in the header byte."""
    return nal[0] & 0x1F


def parameter_sets(nals: Iterable[bytes]) -> list[bytes]:
    """SPS and PPS among the NAL units, in their order."""
    return [nal for nal in nals if nal_type(nal) in (_SPS, _PPS)]


def is_key(nals: Iterable[bytes]) -> bool:
    """Whether a decoder can start with this picture."""
    return any(nal_type(nal) == _IDR for nal in nals)


def payloads(nals: Iterable[bytes], max_bytes: int = MAX_PAYLOAD_BYTES) -> Iterator[bytes]:
    """RTP payloads for the NAL units of one picture: STAP-A for parameter sets, single NAL, or FU-A
    fragments.
    """
    small: list[bytes] = []
    for nal in nals:
        if nal_type(nal) in (_SPS, _PPS) and 3 + sum(len(n) + 2 for n in (*small, nal)) <= max_bytes:
            small.append(nal)
            continue
        yield from _aggregate(small)
        small = []
        yield from [nal] if len(nal) <= max_bytes else _fragments(nal, max_bytes)
    yield from _aggregate(small)


def _aggregate(nals: list[bytes]) -> Iterator[bytes]:
    if len(nals) == 1:
        yield nals[0]
    elif nals:
        reference = max(nal[0] & 0x60 for nal in nals)
        yield bytes([reference | _STAP_A]) + b"".join(struct.pack("!H", len(n)) + n for n in nals)


def _fragments(nal: bytes, max_bytes: int) -> Iterator[bytes]:
    indicator = (nal[0] & 0xE0) | _FU_A
    room, body = max_bytes - 2, nal[1:]
    for start in range(0, len(body), room):
        first, last = start == 0, start + room >= len(body)
        header = (0x80 if first else 0) | (0x40 if last else 0) | nal_type(nal)
        yield bytes([indicator, header]) + body[start : start + room]


def packet(payload: bytes, *, sequence: int, timestamp: int, ssrc: int, last: bool) -> bytes:
    """One RTP packet; `last` marks the end of a picture."""
    marker = (0x80 if last else 0) | PAYLOAD_TYPE
    return struct.pack("!BBHII", 0x80, marker, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def sender_report(
    *, ssrc: int, utc_s: float, timestamp: int, packets: int, octets: int, name: str = "linewatch"
) -> bytes:
    """A compound RTCP packet: the report that ties `timestamp` to `utc_s`, and the CNAME."""
    seconds = int(utc_s)
    fraction = int((utc_s - seconds) * (1 << 32))
    report = struct.pack(
        "!BBHIIIIII",
        *(0x80, 200, 6, ssrc),
        *((seconds + _NTP_EPOCH_S) & 0xFFFFFFFF, fraction, timestamp & 0xFFFFFFFF),
        *(packets & 0xFFFFFFFF, octets & 0xFFFFFFFF),
    )
    return report + _cname(ssrc, name.encode())


def _cname(ssrc: int, name: bytes) -> bytes:
    chunk = struct.pack("!IBB", ssrc, 1, len(name)) + name
    chunk += b"\x00" * (4 - len(chunk) % 4)
    return struct.pack("!BBH", 0x81, 202, len(chunk) // 4) + chunk


def bye(ssrc: int) -> bytes:
    """RTCP: this sender says no more."""
    return struct.pack("!BBHI", 0x81, 203, 1, ssrc)


def ntp_to_utc_s(seconds: int, fraction: int) -> float:
    """The wall clock of a sender report as seconds since 1970."""
    return seconds - _NTP_EPOCH_S + fraction / (1 << 32)
