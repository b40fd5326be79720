"""A recorder at work: the bytes of a container as an encoder gives them out, and what was spoken by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from tests.synth import Recipe, sweep

SPOKEN = {
    "ogg-opus": Recipe("ogg", "libopus", 48_000, options={"page_duration": "20000"}),
    "ogg-flac": Recipe("ogg", "flac", 16_000, options={"page_duration": "20000"}),
    "webm-opus": Recipe("webm", "libopus", 48_000, options={"live": "1", "cluster_time_limit": "100"}),
    "m4a-fragmented": Recipe("mp4", "aac", 44_100, options={"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
    "flac-16k": Recipe("flac", "flac", 16_000),
    "flac-48k": Recipe("flac", "flac", 48_000, "stereo"),
    "mp3": Recipe("mp3", "libmp3lame", 44_100, "stereo", {"write_xing": "0"}),
    "aac-adts": Recipe("adts", "aac", 44_100),
    "wav-16k": Recipe("wav", "pcm_s16le", 16_000),
    "wav-44k": Recipe("wav", "pcm_s16le", 44_100, "stereo"),
    "wav-float": Recipe("wav", "pcm_f32le", 16_000),
    "au": Recipe("au", "pcm_s16be", 16_000),
}


@dataclass(frozen=True)
class Chunk:
    """Bytes, and the second of speech with which they came; None for what comes when the recorder is stopped."""

    data: bytes
    spoken_s: float | None


class _Pipe:
    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def spoken(name: str, seconds: float) -> list[Chunk]:
    """A sweep, encoded a frame at a time; no chunk is empty."""
    recipe, pipe, chunks = SPOKEN[name], _Pipe(), list[Chunk]()
    with av.open(pipe, "w", format=recipe.muxer, options={"flush_packets": "1", **recipe.options}) as container:
        stream: Any = container.add_stream(recipe.codec, rate=recipe.rate_hz)
        stream.codec_context.layout = recipe.layout
        container.start_encoding()
        n = stream.codec_context.frame_size or recipe.rate_hz // 50
        resampler = av.AudioResampler(stream.codec_context.format, recipe.layout, recipe.rate_hz, n)
        samples = sweep(seconds, recipe.rate_hz)
        for at in range(0, len(samples), n):
            n_channels = stream.codec_context.layout.nb_channels
            interleaved = np.repeat(samples[at : at + n], n_channels).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, "flt", recipe.layout)
            frame.sample_rate, frame.pts = recipe.rate_hz, at
            for converted in resampler.resample(frame):
                container.mux(stream.encode(converted))
            chunks.append(Chunk(pipe.take(), (at + n) / recipe.rate_hz))
        container.mux(stream.encode(None))
    return [chunk for chunk in [*chunks, Chunk(pipe.take(), None)] if chunk.data]
