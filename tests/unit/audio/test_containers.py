"""Every format, whole and with every kind of damage."""

from __future__ import annotations

import contextlib
import functools
import io
import struct

import numpy as np
import pytest

from asr_service.audio.decode import decode
from asr_service.audio.limits import AudioLimits
from asr_service.audio.mp3 import mp3_frame
from asr_service.audio.source import SourceFormat
from asr_service.errors import AudioEmpty, AudioTooLarge, AudioTruncated, AudioUndecodable, InvalidValue
from asr_service.request import Samples
from tests.synth import RECIPES, Recipe, encode, make, sweep, tone

LIMITS = AudioLimits(max_bytes=50_000_000, max_seconds=600.0, max_channels=8, spool_bytes=10_000_000)
SECONDS = 4.0
LOSSLESS = ("wav-s16", "wav-s24", "wav-f32", "wav-u8", "wav-44k-stereo", "wav-5.1", "flac", "aiff", "au", "caf")
CODED = tuple(name for name in RECIPES if not name.startswith(("wav", "aiff", "au", "caf")))  # random bytes are no valid code
PRIMED = ("mp3", "m4a", "m4a-faststart", "m4a-fragmented", "mp4-video", "aac-adts")  # codec delay is partly in the file


@functools.cache
def made(name: str, seconds: float = SECONDS) -> bytes:
    return make(name, seconds)


def decoded(data: bytes, limits: AudioLimits = LIMITS) -> Samples:
    return np.concatenate(list(decode(io.BytesIO(data), SourceFormat(), limits)))


def best_correlation(heard: Samples, wanted: Samples) -> float:
    """Of the best shift within 100 ms."""
    n = min(len(heard), len(wanted)) - 1600
    return max(float(np.corrcoef(heard[shift : shift + n], wanted[:n])[0, 1]) for shift in range(1600))


@pytest.mark.parametrize("name", RECIPES)
def test_a_whole_file_gives_the_sound_that_went_in(name: str) -> None:
    heard = decoded(made(name))

    slack = 0.06 * 16_000 if name in PRIMED else 32 if name == "ogg-vorbis" else 1
    assert abs(len(heard) - SECONDS * 16_000) <= slack
    assert heard.dtype == np.float32
    wanted = sweep(SECONDS)
    if name in LOSSLESS:
        assert np.abs(heard[800:-800] - wanted[800 : len(heard) - 800]).max() < 0.02
    else:
        assert best_correlation(heard[8_000:24_000], wanted[8_000 - 800 : 24_000]) > 0.95 or (
            best_correlation(heard[8_000:24_000], wanted[8_000:25_600]) > 0.95
        )


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_cut_short_is_truncated(name: str, share: float) -> None:
    data = made(name)

    with pytest.raises(AudioTruncated, match="ends early"):
        decoded(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", RECIPES)
def test_a_file_cut_in_its_header_is_truncated(name: str) -> None:
    with pytest.raises(AudioTruncated):
        decoded(made(name)[:40])


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "mp3"])
def test_a_garbled_beginning_is_no_audio(name: str) -> None:
    data = np.random.default_rng(1).bytes(64) + made(name)[64:]

    with pytest.raises(AudioUndecodable, match="unknown bytes 0x"):
        decoded(data)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
def test_a_garbled_middle_is_an_error_and_no_gap(name: str, place: float) -> None:
    data, rng = bytearray(made(name)), np.random.default_rng(2)
    at, n = int(len(data) * place), min(2_000, len(data) // 12)
    data[at : at + n] = rng.bytes(n)

    with pytest.raises(AudioUndecodable, match="cannot be decoded"):
        decoded(bytes(data))


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("ogg-vorbis", "mp4-video")])
def test_a_container_without_samples_is_empty(name: str) -> None:
    # ffmpeg's Vorbis encoder never returns from encoding nothing; with video in it, an MP4 without sound has no audio track.
    with pytest.raises(AudioEmpty):
        decoded(make(name, 0.0))


def test_a_container_with_pictures_only_says_that_it_has_no_audio() -> None:
    with pytest.raises(AudioUndecodable, match="no audio track"):
        decoded(make("mp4-video", 0.0))


def test_no_bytes_at_all_are_empty() -> None:
    with pytest.raises(AudioEmpty, match="0 bytes"):
        decoded(b"")


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "PNG image"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"just some words\n" * 100, "text"),
        (b"PK\x03\x04" + bytes(500), "ZIP archive"),
        (b"%PDF-1.7\n" + bytes(500), "PDF"),
        (np.random.default_rng(3).bytes(50_000), "unknown bytes 0x"),
        (b"#EXTM3U\nhttp://example.org/a.mp3\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
    ],
)
def test_what_is_not_audio_is_named(data: bytes, looks_like: str) -> None:
    with pytest.raises(AudioUndecodable, match=looks_like):
        decoded(data)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000])
def test_every_rate_gives_the_exact_length(rate_hz: int) -> None:
    n_samples = rate_hz * 2 + 137

    heard = decoded(encode(Recipe("wav", "pcm_f32le", rate_hz), tone(3.0, rate_hz)[:n_samples]))

    assert abs(len(heard) - n_samples * 16_000 / rate_hz) <= 1
    assert np.sqrt(np.mean(heard[1_000:-1_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@pytest.mark.parametrize("n_channels", LAYOUTS)
def test_every_channel_weighs_the_same(n_channels: int) -> None:
    levels = np.linspace(-0.9, 0.7, n_channels, dtype=np.float32)
    channels = np.repeat(levels[:, None], 16_000, axis=1)

    heard = decoded(encode(Recipe("wav", "pcm_f32le", 16_000, LAYOUTS[n_channels]), channels))

    assert heard == pytest.approx(levels.mean(), abs=1e-6)


@pytest.mark.parametrize(("muxer", "codec"), [("adts", "aac"), ("ogg", "libopus"), ("flac", "flac")])
def test_eight_coded_channels_do_not_crash(muxer: str, codec: str) -> None:
    heard = decoded(encode(Recipe(muxer, codec, 48_000, "7.1"), sweep(1.0, 48_000)))

    assert len(heard) == pytest.approx(16_000, abs=1_000)
    assert np.sqrt(np.mean(heard[2_000:-2_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.15)


def test_loud_floats_are_not_clipped() -> None:
    heard = decoded(encode(Recipe("wav", "pcm_f32le"), tone(1.0, amplitude=3.0)))

    assert heard.max() == pytest.approx(3.0, abs=0.01)


def test_a_float_that_is_not_a_number_is_refused() -> None:
    samples = tone(0.5)
    samples[100] = np.nan

    with pytest.raises(AudioUndecodable, match="not a number"):
        decoded(encode(Recipe("wav", "pcm_f32le"), samples))


@pytest.mark.parametrize("stated_bytes", [0, 0x7FFFFFFF, 0x7FFFFFD3, 0x80000000, 0xFFFFFFFF])
def test_a_streamed_wav_lasts_until_it_ends(stated_bytes: int) -> None:
    data = made("wav-s16")
    at = data.index(b"data") + 4

    heard = decoded(data[:at] + struct.pack("<I", stated_bytes) + data[at + 4 :])

    assert len(heard) == SECONDS * 16_000


def test_what_follows_the_samples_of_a_wav_does_not_matter() -> None:
    assert len(decoded(made("wav-s16") + b"LIST\xff\x00\x00\x00cut")) == SECONDS * 16_000


class TestMp3:
    """MP3s come out of radio dumps, joins and taggers; what is usual there is no damage."""

    @property
    def frames(self) -> bytes:
        """Without the ID3 tag and the frame with the stated length."""
        data = made("mp3")[45:]
        first = mp3_frame(data[:4])
        assert first is not None
        return data[first[0] :]

    @pytest.mark.parametrize("n_missing", [1, 5, 1_234, 5_000])
    def test_may_begin_anywhere(self, n_missing: int) -> None:
        assert len(decoded(self.frames[n_missing:])) == pytest.approx(SECONDS * 16_000, abs=6_000)

    @pytest.mark.parametrize("junk", [bytes(3_000), np.random.default_rng(4).bytes(500)])
    def test_may_have_junk_in_front(self, junk: bytes) -> None:
        assert len(decoded(junk + self.frames)) == pytest.approx(SECONDS * 16_000, abs=1_000)

    @pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(range(200)), bytes(4_000)])
    def test_may_have_tags_behind(self, tail: bytes) -> None:
        assert len(decoded(made("mp3") + tail)) == len(decoded(made("mp3")))

    def test_may_be_joined_from_tagged_files(self) -> None:
        tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0x10, 0]) + b"A" * 2_048

        assert len(decoded(self.frames + tag + self.frames)) == pytest.approx(2 * SECONDS * 16_000, abs=2_000)

    def test_without_a_stated_length_may_end_anywhere(self) -> None:
        assert len(decoded(self.frames[: len(self.frames) // 2])) == pytest.approx(SECONDS * 8_000, abs=2_000)


@pytest.mark.parametrize("name", ["mp3", "flac", "aac-adts"])
def test_a_large_tag_in_front_is_passed_over(name: str) -> None:
    n_bytes = 3 << 14
    tag = b"ID3\x04\x00\x00" + bytes([0, 3, 0, 0]) + b"\xff" * n_bytes

    assert len(decoded(tag + made(name))) == len(decoded(made(name)))


def test_a_tag_without_audio_is_truncated() -> None:
    with pytest.raises(AudioTruncated, match="ID3"):
        decoded(b"ID3\x04\x00\x00" + bytes([0, 1, 0, 0]) + b"x" * 100)


def test_a_tag_behind_a_flac_is_no_damage() -> None:
    assert len(decoded(made("flac") + b"TAG" + bytes(125))) == SECONDS * 16_000


def test_a_single_bit_flipped_in_a_flac_is_found() -> None:
    data = bytearray(made("flac"))
    data[len(data) // 2] ^= 4

    with pytest.raises(AudioUndecodable):
        decoded(bytes(data))


def test_chained_ogg_streams_are_one_source() -> None:
    assert len(decoded(made("ogg-opus") + made("ogg-opus"))) == 2 * SECONDS * 16_000


def test_the_audio_of_a_video_is_taken() -> None:
    assert np.sqrt(np.mean(decoded(made("mp4-video")) ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


class Dripping:
    """A source that says how far it has been read when a block comes out."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        return self._file.read(min(n, 4_096))

    @property
    def n_read(self) -> int:
        return self._file.tell()


@pytest.mark.parametrize("name", ["m4a-faststart", "m4a-fragmented", "webm-opus", "ogg-opus", "flac", "wav-s16"])
def test_what_can_be_streamed_is_not_read_to_the_end_first(name: str) -> None:
    data = make(name, 20.0)
    source = Dripping(data)

    block = next(decode(source, SourceFormat(), LIMITS))

    assert len(block) == 16_000
    assert source.n_read < len(data) / 2


def test_blocks_are_a_second_and_the_last_is_the_rest() -> None:
    blocks = list(decode(io.BytesIO(make("wav-s16", 2.5)), SourceFormat(), LIMITS))

    assert [len(block) for block in blocks] == [16_000, 16_000, 8_000]


def limits(**changes: float) -> AudioLimits:
    fields = {"max_bytes": 50_000_000, "max_seconds": 600.0, "max_channels": 8, "spool_bytes": 10_000_000} | changes
    return AudioLimits(int(fields["max_bytes"]), fields["max_seconds"], int(fields["max_channels"]), int(fields["spool_bytes"]))


def test_too_many_bytes_are_refused_as_soon_as_they_come() -> None:
    source = Dripping(made("wav-44k-stereo"))

    with pytest.raises(AudioTooLarge, match="limit 100000 bytes"):
        list(decode(source, SourceFormat(), limits(max_bytes=100_000)))
    assert source.n_read <= 100_000 + 4_096


def test_too_many_seconds_are_refused_as_soon_as_they_are_decoded() -> None:
    source = Dripping(make("flac", 30.0))

    with pytest.raises(AudioTooLarge, match=r"limit 2\.5 s"):
        list(decode(source, SourceFormat(), limits(max_seconds=2.5)))
    assert source.n_read < 200_000


def test_as_many_seconds_as_allowed_pass() -> None:
    assert len(decoded(made("wav-s16"), limits(max_seconds=SECONDS))) == SECONDS * 16_000


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(AudioTooLarge, match=r"6 channels \(limit 2\)"):
        decoded(made("wav-5.1"), limits(max_channels=2))


def test_an_mp4_with_its_index_at_the_end_must_fit_the_spool() -> None:
    with pytest.raises(AudioTooLarge, match=r"MP4 with its index at the end .*\(limit 20000 bytes\)"):
        decoded(made("m4a"), limits(spool_bytes=20_000))


def test_an_mp4_with_its_index_in_front_needs_no_spool() -> None:
    assert len(decoded(made("m4a-faststart"), limits(spool_bytes=0))) > 0


def test_the_content_type_is_quoted_and_not_believed() -> None:
    with pytest.raises(AudioUndecodable, match=r"look like text \(sent as audio/wav\)"):
        list(decode(io.BytesIO(b"hello"), SourceFormat(content_type="audio/wav"), LIMITS))
    assert list(decode(io.BytesIO(made("wav-s16")), SourceFormat(content_type="audio/mpeg"), LIMITS))


def test_what_the_source_raises_passes_through() -> None:
    class Failing:
        def read(self, n: int, /) -> bytes:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(decode(Failing(), SourceFormat(), LIMITS))


@pytest.mark.parametrize("name", RECIPES)
def test_any_damage_ends_in_samples_or_one_of_our_errors(name: str) -> None:
    rng, whole = np.random.default_rng(7), made(name, 0.5)
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 8)):
            data[rng.integers(0, min(len(data), 400))] = rng.integers(0, 256)
        if rng.integers(2):
            del data[rng.integers(0, len(data)) :]

        with contextlib.suppress(InvalidValue):
            decoded(bytes(data), limits(max_seconds=60.0))


def test_a_wav_of_an_unknown_codec_is_refused() -> None:
    data = bytearray(made("wav-s16"))
    data[20:22] = b"\x99\x99"

    with pytest.raises(AudioUndecodable):
        decoded(bytes(data))
