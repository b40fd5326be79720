"""Where the audio of `asr stream` comes from: a file, standard input or a microphone; as fast as it goes, or at its own speed.

What has a speed is raw samples, so that every moment of the audio is known to the millisecond: a file that is paced is decoded
here, otherwise its bytes go out as they are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from asr_service.cli.stdin import descriptor_chunks
from asr_service.client import AudioEncoding, AudioFormat
from asr_service.client.upload import file_chunks

RATE_HZ = 16_000
_PIECE_MS = 100
_SAMPLE_BYTES = 2


class NotAudio(OSError):
    """The file cannot be decoded."""


class AudioClock:
    """When the audio's first sample was spoken, of the monotonic clock; None where it has no speed, or has not begun."""

    began_s: float | None = None

    def start(self, ago_s: float = 0.0) -> None:
        """The first sample was that long ago. Later calls change nothing."""
        if self.began_s is None:
            self.began_s = monotonic() - ago_s


@dataclass(frozen=True, slots=True)
class LiveAudio:
    """`format`: None for a container."""

    chunks: AsyncGenerator[bytes]
    format: AudioFormat | None
    clock: AudioClock


def raw_audio(rate_hz: int) -> AudioFormat:
    """16-bit samples, mono."""
    return AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=rate_hz)


def from_file(path: Path, *, at_own_speed: bool) -> LiveAudio:
    """Iterating raises OSError, NotAudio included."""
    clock = AudioClock()
    if at_own_speed:
        return LiveAudio(paced(decoded(path), RATE_HZ, clock), raw_audio(RATE_HZ), clock)
    return LiveAudio(file_chunks(path), None, clock)


def from_stdin(rate_hz: int, *, at_own_speed: bool) -> LiveAudio:
    """Raw 16-bit samples, mono. Iterating raises OSError."""
    clock, chunks = AudioClock(), descriptor_chunks(sys.stdin.fileno())
    return LiveAudio(paced(chunks, rate_hz, clock) if at_own_speed else chunks, raw_audio(rate_hz), clock)


async def paced(chunks: AsyncGenerator[bytes], rate_hz: int, clock: AudioClock) -> AsyncGenerator[bytes]:
    """The same bytes in pieces of 100 ms, each when its last sample would have been spoken."""
    piece_bytes = rate_hz * _PIECE_MS // 1000 * _SAMPLE_BYTES
    n_bytes, rest = 0, b""
    async with aclosing(chunks):
        async for chunk in chunks:
            clock.start()
            rest += chunk
            while len(rest) >= piece_bytes:
                n_bytes += piece_bytes
                await _until(clock, n_bytes / _SAMPLE_BYTES / rate_hz)
                yield rest[:piece_bytes]
                rest = rest[piece_bytes:]
    if rest:
        await _until(clock, (n_bytes + len(rest)) / _SAMPLE_BYTES / rate_hz)
        yield rest


async def _until(clock: AudioClock, at_s: float) -> None:
    if clock.began_s is not None:
        await asyncio.sleep(max(0.0, clock.began_s + at_s - monotonic()))


async def decoded(path: Path) -> AsyncGenerator[bytes]:
    """A file of any common format as 16-bit samples at 16 kHz, mono. Raises OSError, NotAudio included."""
    pieces = _decode(path)
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    finally:
        pieces.close()


def _decode(path: Path) -> Generator[bytes]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise NotAudio("not audio: the file has no audio stream")
            resampler = av.AudioResampler("s16", "mono", RATE_HZ)
            for frame in container.decode(audio=0):
                for out in resampler.resample(frame):
                    yield out.to_ndarray().astype("<i2").tobytes()
            for out in resampler.resample(None):
                yield out.to_ndarray().astype("<i2").tobytes()
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise NotAudio(f"not audio: {error.strerror}") from None
