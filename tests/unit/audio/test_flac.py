from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.audio.flac import FIRST_BYTES, FlacFramer, StreamInfo, read_frame_header
from tests.synth import Recipe, encode, make, sweep


@functools.cache
def whole() -> bytes:
    return make("flac", 2.0)


def framed(data: bytes, cuts: list[int]) -> list[bytes]:
    info = StreamInfo.find(data[:FIRST_BYTES])
    assert info is not None
    framer = FlacFramer(info)
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    frames = [frame for start, end in itertools.pairwise(edges) for frame in framer.feed(data[start:end])]
    return [*frames, *framer.finish()]


def metadata_bytes(data: bytes) -> int:
    at, is_last = 4, False
    while not is_last:
        is_last = data[at] & 0x80 != 0
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at


def test_frames_are_all_that_follows_the_metadata_and_count_up() -> None:
    frames = framed(whole(), [])
    headers = [read_frame_header(frame[:16]) for frame in frames]

    assert b"".join(frames) == whole()[metadata_bytes(whole()) :]
    assert [header.number for header in headers if header is not None] == list(range(len(frames)))
    assert len(frames) == -(-2 * 44_100 // 4_608)


@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=40))
def test_how_the_bytes_come_changes_no_frame(cuts: list[int]) -> None:
    assert framed(whole(), cuts) == framed(whole(), [])


def test_a_frame_comes_out_when_the_next_begins() -> None:
    data, frames = whole(), framed(whole(), [])
    info = StreamInfo.find(data[:FIRST_BYTES])
    assert info is not None
    end_of_second = metadata_bytes(data) + len(frames[0]) + len(frames[1])

    assert FlacFramer(info).feed(data[:end_of_second]) == frames[:1]
    assert FlacFramer(info).feed(data[: end_of_second + 16]) == frames[:2]


def test_the_stream_information_is_read() -> None:
    info = StreamInfo.find(whole()[:FIRST_BYTES])

    assert info is not None
    assert info.n_samples == 2 * 44_100
    assert max(map(len, framed(whole(), []))) < info.max_frame_bytes < 2 * 4_608 * 4


@pytest.mark.parametrize("head", [b"", b"fLaC", b"fLaC\x04\x00\x00\x22" + bytes(34), b"fLaC\x00\x00\x00\x21" + bytes(34)])
def test_another_beginning_has_none(head: bytes) -> None:
    assert StreamInfo.find(head) is None


def test_another_flac_may_follow_and_its_metadata_are_dropped() -> None:
    frames = framed(whole(), [])

    assert framed(whole() + whole(), []) == frames + frames


def test_what_is_no_frame_for_too_long_is_given_out() -> None:
    data = whole()
    n_metadata = metadata_bytes(data)

    frames = framed(data[:n_metadata] + bytes(100_000) + data[n_metadata:], [1_000 * n for n in range(100)])

    assert b"".join(frames) == bytes(100_000) + data[n_metadata:]
    assert len(frames[0]) < 30_000
    assert frames[-3:] == framed(data, [])[-3:]


def test_a_number_out_of_turn_begins_no_frame() -> None:
    data, frames = whole(), framed(whole(), [])
    n_metadata = metadata_bytes(data)

    heard = framed(data[:n_metadata] + frames[0] + frames[2] + frames[1], [])

    assert heard == [frames[0] + frames[2], frames[1]]


@pytest.mark.parametrize("flipped", range(40))
def test_a_header_with_a_flipped_bit_is_none(flipped: int) -> None:
    header = bytearray(framed(whole(), [])[0][:16])
    header[flipped // 8] ^= 1 << flipped % 8

    assert read_frame_header(bytes(header)) is None


@pytest.mark.parametrize("rate_hz", [8_000, 12_345, 16_000, 48_000, 96_000, 65_530])
def test_every_rate_has_frames(rate_hz: int) -> None:
    data = encode(Recipe("flac", "flac", rate_hz), sweep(1.0, rate_hz))

    assert len(framed(data, [])) > 1


@pytest.mark.parametrize(
    ("coded", "number"),
    [(b"\x00", 0), (b"\x7f", 127), (b"\xc2\x80", 128), (b"\xdf\xbf", 2047), (b"\xfe\xbf\xbf\xbf\xbf\xbf\xbf", (1 << 36) - 1)],
)
def test_numbers_of_samples_count_on_by_the_frames_length(coded: bytes, number: int) -> None:
    header = b"\xff\xf9\xc9\x08" + coded  # of varying length: 4,096 samples at 44.1 kHz, of 16 bits
    checksum = 0
    for byte in header:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x07) & 0xFF if checksum & 0x80 else checksum << 1

    read = read_frame_header(header + bytes([checksum]))

    assert read is not None
    assert (read.number, read.next_number) == (number, number + 4_096)
    assert read_frame_header(header) is None
