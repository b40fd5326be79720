"""One source, from bytes to samples: synchronous, streaming, in bounded memory.

    bytes -> Intake -> container or raw samples -> Piece (mono, own rate) -> Resampler -> Blocks -> float32 at 16 kHz

Nothing here knows processes or sockets; `worker.py` runs it and `pool.py` owns the workers.
"""

from __future__ import annotations

from collections.abc import Iterator

from asr_service.audio.container import read_container
from asr_service.audio.intake import Intake, Readable
from asr_service.audio.limits import AudioLimits
from asr_service.audio.piece import Piece, check_finite
from asr_service.audio.raw import read_raw
from asr_service.audio.resample import BLOCK_SAMPLES, Blocks, Resampler
from asr_service.audio.source import SourceFormat
from asr_service.errors import AudioEmpty, AudioTooLarge, AudioTruncated
from asr_service.request import Samples


def decode(source: Readable, fmt: SourceFormat, limits: AudioLimits, *, live: bool = False) -> Iterator[Samples]:
    """Yields mono float32 blocks at 16 kHz, shape (n,), n <= 16000; the samples of a source are joined without a seam.

    live: the same samples, but nothing waits for a block to fill up, and what cannot be decoded before its end has come is
    refused with AudioUndecodable at its beginning. What is held back then is what the format and the resampler need:

    Ogg             an unfinished page; senders choose how much one holds
    Matroska/WebM   an unfinished block
    fragmented MP4  an unfinished sample; senders choose how much a fragment holds
    FLAC            a frame, until the next one begins
    ADTS            a frame
    MP3             1 KiB of its bytes, and a frame
    WAV             nothing of plain PCM, else up to 1 KiB of its bytes
    AIFF, AU        up to 4 KiB of their bytes
    resampling      at most 40 ms from 22 to 48 kHz, 115 ms from 8 kHz

    Raises InvalidValue (a format that can never be right), AudioEmpty (no bytes or no samples), AudioUndecodable (not audio, or
    damaged), AudioTruncated (ends before its own header says), AudioTooLarge (past a limit) - blocks yielded before may be
    thrown away then. What `source.read` raises passes through.
    """
    fmt.check(max_channels=limits.max_channels)
    intake = Intake(source, max_bytes=limits.max_bytes)
    if not intake.peek(1):
        raise AudioEmpty("the audio is empty (0 bytes)")
    if fmt.sample_rate_hz is None:  # a container: `check` has made sure that raw sources state theirs
        pieces = read_container(intake, fmt, limits, live=live)
    else:
        pieces = read_raw(intake, fmt.encoding, fmt.sample_rate_hz, fmt.channels or 1)
    runs = _to_16_khz(_within_seconds(pieces, limits.max_seconds))
    yield from _cut(runs) if live else _gather(runs)


def _within_seconds(pieces: Iterator[Piece], max_seconds: float) -> Iterator[Piece]:
    seconds = 0.0
    for piece in pieces:
        seconds += len(piece.samples) / piece.rate_hz
        if seconds > max_seconds:
            raise AudioTooLarge(f"the audio lasts {seconds:.1f} s or more (limit {max_seconds:g} s)")
        yield piece


def _to_16_khz(pieces: Iterator[Piece]) -> Iterator[Samples]:
    """Runs of any length; some are empty. What ends early is told after all that came of it."""
    resampler: Resampler | None = None
    has_samples = False
    try:
        for piece in pieces:
            check_finite(piece.samples)
            has_samples = has_samples or len(piece.samples) > 0
            if resampler is None or resampler.rate_hz != piece.rate_hz:  # chained Ogg may change its rate on the way
                if resampler is not None:
                    yield resampler.finish()
                resampler = Resampler(piece.rate_hz)
            yield resampler.push(piece.samples)
    except AudioTruncated:
        if resampler is not None:
            yield resampler.finish()
        raise
    if resampler is None or not has_samples:
        raise AudioEmpty("the audio has no samples")
    yield resampler.finish()


def _gather(runs: Iterator[Samples]) -> Iterator[Samples]:
    blocks = Blocks()
    for run in runs:
        yield from blocks.push(run)
    yield from blocks.finish()


def _cut(runs: Iterator[Samples]) -> Iterator[Samples]:
    for run in runs:
        for at in range(0, len(run), BLOCK_SAMPLES):
            yield run[at : at + BLOCK_SAMPLES]
