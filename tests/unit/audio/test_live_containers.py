"""Containers whose bytes come as they are spoken: the same samples as of a file, and as early as their bytes allow."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_service.audio.decode import decode
from asr_service.audio.limits import AudioLimits
from asr_service.audio.mp3 import declared_samples
from asr_service.audio.sniff import SNIFF_BYTES, is_settled, sniff
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import AudioTooLarge, AudioTruncated, AudioUndecodable
from asr_service.request import Samples
from tests.synth import RECIPES, Recipe, encode, make, sweep
from tests.unit.audio.spoken import SPOKEN, Chunk, spoken

LIMITS = AudioLimits(max_bytes=50_000_000, max_seconds=600.0, max_channels=8, spool_bytes=10_000_000)
SECONDS = 2.0
SPOOLED = ("m4a", "mp4-video", "caf")  # nothing of them can be decoded before their end
STREAMED = tuple(name for name in RECIPES if name not in SPOOLED)


@functools.cache
def made(name: str, seconds: float = SECONDS) -> bytes:
    return make(name, seconds)


class Chunks:
    """A source that brings its bytes in chunks of the given sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._file = io.BytesIO(data)
        self._sizes = itertools.cycle(sizes)

    def read(self, n: int, /) -> bytes:
        return self._file.read(min(n, next(self._sizes)))

    @property
    def n_read(self) -> int:
        return self._file.tell()


def decoded_live(data: bytes, sizes: Iterable[int]) -> Samples:
    return np.concatenate(list(decode(Chunks(data, list(sizes)), SourceFormat(), LIMITS, live=True)))


def decoded(data: bytes) -> Samples:
    return np.concatenate(list(decode(io.BytesIO(data), SourceFormat(), LIMITS)))


decoded_made = functools.cache(lambda name: decoded(made(name)))


@pytest.mark.parametrize("name", STREAMED)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=8))
def test_however_the_bytes_come_the_samples_are_those_of_the_file(name: str, sizes: list[int]) -> None:
    assert np.array_equal(decoded_live(made(name), sizes), decoded_made(name))


@pytest.mark.parametrize("name", SPOKEN)
def test_a_recording_in_the_making_gives_the_samples_of_the_recording(name: str) -> None:
    data = b"".join(chunk.data for chunk in spoken(name, 2.0))

    assert np.array_equal(decoded_live(data, [300]), decoded(data))


class Recorder:
    """Brings the chunks; notes how much had come out when each was asked for."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = iter(chunks)
        self._chunk = Chunk(b"", 0.0)
        self._at = 0
        self.n_heard = 0
        self.held_s: list[float] = []  # spoken and not heard, when the decoder cannot go on without more

    def read(self, n: int, /) -> bytes:
        if self._at == len(self._chunk.data):
            if self._chunk.spoken_s is not None:
                self.held_s.append(self._chunk.spoken_s - self.n_heard / 16_000)
            self._chunk, self._at = next(self._chunks, Chunk(b"", None)), 0
        data = self._chunk.data[self._at : self._at + n]
        self._at += len(data)
        return data


@pytest.mark.parametrize("name", SPOKEN)
def test_what_was_spoken_comes_out_without_waiting_for_more(name: str) -> None:
    recorder = Recorder(spoken(name, 3.0))

    for block in decode(recorder, SourceFormat(), LIMITS, live=True):
        recorder.n_heard += len(block)

    assert max(recorder.held_s) < 0.3
    assert max(recorder.held_s[len(recorder.held_s) // 2 :]) < 0.2


@pytest.mark.parametrize("name", [*STREAMED, "live-mp3"])
def test_a_few_bytes_settle_what_it_is(name: str) -> None:
    data = b"".join(chunk.data for chunk in spoken("mp3", 1.0))[45:] if name == "live-mp3" else made(name)
    head = data[:SNIFF_BYTES]
    name_of_all, n_declared = sniff(head), declared_samples(head)

    settled = [n for n in range(len(head)) if is_settled(head[:n])]

    assert settled[0] < (2_000 if name_of_all in ("MP3", "AAC") else 20)
    assert {sniff(head[:n]) for n in settled} == {name_of_all}
    if name_of_all == "MP3":
        assert {declared_samples(head[:n]) for n in settled} == {n_declared}


@given(
    head=st.lists(st.sampled_from([b"\xff", b"\xfb\x90\x64", b"\xff\xf1\x50\x80\x02\x1f\xfc", b"a", bytes(413)]), max_size=40),
    n=st.integers(0, SNIFF_BYTES),
)
def test_what_is_settled_no_byte_changes(head: list[bytes], n: int) -> None:
    data = b"".join(head)[:SNIFF_BYTES]

    if is_settled(data[:n]):
        assert sniff(data[:n]) == sniff(data)


@pytest.mark.parametrize(("name", "what"), [("m4a", "MP4 without its index in front"), ("caf", "CAF")])
def test_what_cannot_be_decoded_before_its_end_is_refused_at_its_beginning(name: str, what: str) -> None:
    source = Chunks(made(name), [200])

    with pytest.raises(AudioUndecodable, match=f"^{what}.* cannot be decoded while it comes in"):
        list(decode(source, SourceFormat(), LIMITS, live=True))
    assert source.n_read < 1_000


def test_an_mp4_that_ends_before_its_samples_is_cut_short_live_too() -> None:
    with pytest.raises(AudioTruncated):
        decoded_live(made("m4a")[:40], [10])


@pytest.mark.parametrize("name", ["ogg-opus", "webm-opus", "m4a-fragmented", "flac", "wav-44k-stereo"])
def test_all_that_came_is_heard_before_it_is_told_that_the_rest_is_missing(name: str) -> None:
    data = made(name)
    source = Chunks(data[: len(data) * 3 // 4], [500])
    heard: list[Samples] = []

    with contextlib.suppress(AudioTruncated):
        for block in decode(source, SourceFormat(), LIMITS, live=True):
            heard.append(block)  # noqa: PERF402 - what came before the error counts
        pytest.fail("nothing was said to be missing")

    n_heard = sum(map(len, heard))
    assert n_heard > 0.45 * SECONDS * 16_000  # an Ogg page may hold a second
    assert np.array_equal(np.concatenate(heard)[: n_heard - 800], decoded_made(name)[: n_heard - 800])


def test_a_live_flac_may_be_followed_by_another() -> None:
    data = made("flac", 1.0)

    assert np.array_equal(decoded_live(data + data, [700]), decoded(data + data))


def test_a_live_flac_with_a_broken_frame_is_told_of_long_before_its_end() -> None:
    data = bytearray(make("flac", 20.0))
    data[len(data) // 4 : len(data) // 4 + 3_000] = bytes(3_000)
    source = Chunks(bytes(data), [500])

    with pytest.raises(AudioUndecodable, match="FLAC"):
        list(decode(source, SourceFormat(), LIMITS, live=True))
    assert source.n_read < len(data) / 2


def test_live_samples_are_as_loud_and_as_long_as_raw_ones() -> None:
    raw = (sweep(1.0) * 32767).astype("<i2").tobytes()
    blocks = list(decode(Chunks(raw, [333]), SourceFormat(Encoding.PCM_S16LE, 16_000), LIMITS, live=True))

    assert np.array_equal(np.concatenate(blocks), np.frombuffer(raw, "<i2").astype(np.float32) / 32768)
    assert len(blocks) > 50


def test_a_live_wav_may_have_no_more_channels_than_another() -> None:
    data = encode(Recipe("wav", "pcm_s16le", 16_000, "7.1"), sweep(0.5))
    limits = AudioLimits(max_bytes=50_000_000, max_seconds=600.0, max_channels=2, spool_bytes=0)

    with pytest.raises(AudioTooLarge, match=r"8 channels \(limit 2\)"):
        list(decode(Chunks(data, [100]), SourceFormat(), limits, live=True))
