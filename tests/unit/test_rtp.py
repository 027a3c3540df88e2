"""RTP, RTSP messages and passwords: bytes in, bytes out."""

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.sim import rtp
from stream.sim.auth import Credentials, accepted, authorization, challenges
from stream.sim.encoder import Encoder
from stream.sim.faults import BadFault, Faults, damaged
from stream.sim.line import ProductionLine
from stream.sim.messages import (
    BadMessage,
    Request,
    Transport,
    body_length,
    parse_head,
    parse_parameters,
    parse_transport,
)

nal = st.builds(
    lambda kind, body: bytes([0x60 | kind]) + body,
    st.sampled_from([1, 5, 6, 7, 8]),
    st.binary(min_size=1, max_size=700),
)


def depacketised(payloads: list[bytes]) -> list[bytes]:
    """A receiver's half of RFC 6184."""
    nals: list[bytes] = []
    for p in payloads:
        kind = p[0] & 0x1F
        if kind == 24:
            at = 1
            while at < len(p):
                (size,) = struct.unpack("!H", p[at : at + 2])
                nals.append(p[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind == 28 and p[1] & 0x80:
            nals.append(bytes([(p[0] & 0xE0) | (p[1] & 0x1F)]) + p[2:])
        elif kind == 28:
            nals[-1] += p[2:]
        else:
            nals.append(p)
    return nals


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.lists(nal, min_size=1, max_size=5), st.integers(20, 300))
def test_what_is_packed_can_be_unpacked_and_fits(nals: list[bytes], room: int) -> None:
    payloads = list(rtp.payloads(nals, room))
    assert depacketised(payloads) == nals
    assert all(len(p) <= room for p in payloads)


def test_start_codes_of_three_and_four_bytes_are_found() -> None:
    assert rtp.split_nals(b"\0\0\0\1\x67ab\0\0\1\x68c\0\0\0\1\x65d") == [b"\x67ab", b"\x68c", b"\x65d"]


def test_a_packet_has_the_header_of_rfc_3550() -> None:
    packet = rtp.packet(b"xy", sequence=65_537, timestamp=2**32 + 5, ssrc=7, last=True)
    assert struct.unpack("!BBHII", packet[:12]) == (0x80, 0x80 | 96, 1, 5, 7)
    assert packet[12:] == b"xy"


def test_a_sender_report_ties_the_time_stamp_to_the_wall_clock() -> None:
    report = rtp.sender_report(ssrc=7, utc_s=1_700_000_000.25, timestamp=99, packets=3, octets=40)
    assert len(report) % 4 == 0 and report[1] == 200
    _, length, ssrc, seconds, fraction, stamp, packets, octets = struct.unpack("!HHIIIIII", report[:28])
    assert (length, ssrc, stamp, packets, octets) == (6, 7, 99, 3, 40)
    assert rtp.ntp_to_utc_s(seconds, fraction) == pytest.approx(1_700_000_000.25, abs=1e-6)


def test_a_key_picture_comes_when_asked_for_and_at_least_each_second() -> None:
    encoder, line = Encoder((320, 240), 5), ProductionLine("machined", 1, (320, 240))
    keys = [rtp.is_key(encoder.encode(line.picture(i / 5), i * 18_000, key=i == 7)) for i in range(12)]
    assert keys[0] and keys[7]
    assert all(any(keys[i : i + 5]) for i in range(8))


def test_every_picture_is_out_at_once() -> None:
    encoder, line = Encoder((320, 240), 10), ProductionLine("label", 1, (320, 240))
    assert all(encoder.encode(line.picture(i / 10), i * 9_000, key=False) for i in range(5))


def test_damage_changes_every_nal_and_empties_none() -> None:
    nals = [bytes(range(256)) * 4, b"\x65abc"]
    broken = damaged(nals, random.Random(1))
    assert all(a != b and b for a, b in zip(nals, broken, strict=True))


def test_a_request_is_read_and_its_path_is_without_the_track() -> None:
    request = parse_head(b"SETUP rtsp://h:1/line/top/trackID=0 RTSP/1.0\r\nCSeq: 3\r\n\r\n")
    assert (request.method, request.path, request.headers["cseq"]) == ("SETUP", "line/top", "3")
    assert Request("PLAY", "rtsp://h/a%20b/", {}).path == "a b"


@pytest.mark.parametrize(
    "head", [b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"PLAY\r\n", b"PLAY x RTSP/1.0\r\nnoc\r\n"]
)
def test_what_is_no_rtsp_is_refused(head: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_head(head)


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "²"])
def test_an_impossible_length_is_refused(length: str) -> None:
    with pytest.raises(BadMessage):
        body_length({"content-length": length})


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    with suppress(BadMessage):
        assert parse_head(head).method


@pytest.mark.parametrize(
    ("header", "transport"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=2-3", Transport(True, (2, 3))),
        ("RTP/AVP/UDP;unicast;client_port=5000-5001", Transport(False, (5000, 5001))),
        ("RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1", Transport(True, (0, 1))),
        ("RTP/AVP;unicast;client_port=70000-70001", None),
        ("RTP/AVP;multicast", None),
        ("", None),
    ],
)
def test_the_first_transport_that_we_can_serve_is_taken(header: str, transport: Transport | None) -> None:
    assert parse_transport(header) == transport


def test_parameters_are_lines() -> None:
    assert parse_parameters(b"phase: live\r\n\r\nstall: 5\r\n") == {"phase": "live", "stall": "5"}


WHO = Credentials("inspect", 'p@ss:/%#?"')


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_a_challenge_is_answered_by_who_knows_the_password_only(scheme: str) -> None:
    (challenge,) = challenges((scheme,), "n1")
    right = authorization(challenge, "PLAY", "rtsp://h/top", WHO)
    wrong = authorization(challenge, "PLAY", "rtsp://h/top", Credentials("inspect", "guess"))
    assert accepted(right, "PLAY", WHO, (scheme,), "n1")
    assert not accepted(wrong, "PLAY", WHO, (scheme,), "n1")
    assert not accepted(None, "PLAY", WHO, (scheme,), "n1")


def test_a_digest_counts_for_one_method_and_one_nonce() -> None:
    (challenge,) = challenges(("digest",), "n1")
    header = authorization(challenge, "PLAY", "rtsp://h/top", WHO)
    assert not accepted(header, "TEARDOWN", WHO, ("digest",), "n1")
    assert not accepted(header, "PLAY", WHO, ("digest",), "n2")


def test_a_scheme_that_was_not_offered_is_refused() -> None:
    (challenge,) = challenges(("basic",), "n1")
    assert not accepted(authorization(challenge, "PLAY", "u", WHO), "PLAY", WHO, ("digest",), "n1")


def test_a_password_is_not_in_a_repr() -> None:
    assert "p@ss" not in repr(WHO)


def test_faults_end_by_themselves() -> None:
    faults = Faults()
    faults.set("stall", "2", now_s=10.0)
    assert faults.on("stall", 11.9) and not faults.on("stall", 12.0)


@pytest.mark.parametrize(
    ("name", "value"), [("stal", "2"), ("stall", "x"), ("drop", "2"), ("stall", "-1"), ("lose", "nan")]
)
def test_an_impossible_fault_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadFault):
        Faults().set(name, value, now_s=0.0)
