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
from asr_service.audio.resample import Blocks, Resampler
from asr_service.audio.source import SourceFormat
from asr_service.errors import AudioEmpty, AudioTooLarge
from asr_service.request import Samples


def decode(source: Readable, fmt: SourceFormat, limits: AudioLimits) -> Iterator[Samples]:
    """Yields mono float32 blocks at 16 kHz, shape (n,), n <= 16000; the samples of a source are joined without a seam.

    Raises InvalidValue (a format that can never be right), AudioEmpty (no bytes or no samples), AudioUndecodable (not audio, or
    damaged), AudioTruncated (ends before its own header says), AudioTooLarge (past a limit) - blocks yielded before may be
    thrown away then. What `source.read` raises passes through.
    """
    fmt.check(max_channels=limits.max_channels)
    intake = Intake(source, max_bytes=limits.max_bytes)
    if not intake.peek(1):
        raise AudioEmpty("the audio is empty (0 bytes)")
    if fmt.sample_rate_hz is None:  # a container: `check` has made sure that raw sources state theirs
        pieces = read_container(intake, fmt, limits)
    else:
        pieces = read_raw(intake, fmt.encoding, fmt.sample_rate_hz, fmt.channels or 1)
    yield from _to_blocks(_within_seconds(pieces, limits.max_seconds))


def _within_seconds(pieces: Iterator[Piece], max_seconds: float) -> Iterator[Piece]:
    seconds = 0.0
    for piece in pieces:
        seconds += len(piece.samples) / piece.rate_hz
        if seconds > max_seconds:
            raise AudioTooLarge(f"the audio lasts {seconds:.1f} s or more (limit {max_seconds:g} s)")
        yield piece


def _to_blocks(pieces: Iterator[Piece]) -> Iterator[Samples]:
    blocks = Blocks()
    resampler: Resampler | None = None
    has_samples = False
    for piece in pieces:
        check_finite(piece.samples)
        has_samples = has_samples or len(piece.samples) > 0
        if resampler is None or resampler.rate_hz != piece.rate_hz:  # chained Ogg may change its rate on the way
            if resampler is not None:
                yield from blocks.push(resampler.finish())
            resampler = Resampler(piece.rate_hz)
        yield from blocks.push(resampler.push(piece.samples))
    if resampler is None or not has_samples:
        raise AudioEmpty("the audio has no samples")
    yield from blocks.push(resampler.finish())
    yield from blocks.finish()
