"""Audio made on the spot: tones as samples, and any samples as the bytes of a container. No file is committed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def tone(seconds: float, rate_hz: int = 16_000, frequency_hz: float = 440.0, amplitude: float = 0.5) -> FloatArray:
    """A sine, shape (n,)."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


def sweep(seconds: float, rate_hz: int = 16_000) -> FloatArray:
    """A sine that climbs from 200 Hz to 3 kHz, so that every moment is different; shape (n,)."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * (200 * t + 1400 * t * t / max(seconds, 1e-9)))).astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """How to make a file: muxer, codec, rate, layout and what the muxer wants to know."""

    muxer: str
    codec: str
    rate_hz: int = 16_000
    layout: str = "mono"
    options: dict[str, str] = field(default_factory=dict)
    with_video: bool = False


RECIPES = {
    "wav-s16": Recipe("wav", "pcm_s16le"),
    "wav-s24": Recipe("wav", "pcm_s24le", 48_000),
    "wav-f32": Recipe("wav", "pcm_f32le"),
    "wav-u8": Recipe("wav", "pcm_u8", 8_000),
    "wav-44k-stereo": Recipe("wav", "pcm_s16le", 44_100, "stereo"),
    "wav-5.1": Recipe("wav", "pcm_s16le", 48_000, "5.1"),
    "mp3": Recipe("mp3", "libmp3lame", 44_100, "stereo"),
    "m4a": Recipe("ipod", "aac", 44_100, "stereo"),
    "m4a-faststart": Recipe("ipod", "aac", 44_100, "stereo", {"movflags": "faststart"}),
    "m4a-fragmented": Recipe("mp4", "aac", 44_100, "stereo", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mp4-video": Recipe("mp4", "aac", 48_000, "stereo", {}, with_video=True),
    "aac-adts": Recipe("adts", "aac", 44_100, "stereo"),
    "flac": Recipe("flac", "flac", 44_100, "stereo"),
    "ogg-vorbis": Recipe("ogg", "vorbis", 44_100, "stereo"),
    "ogg-opus": Recipe("ogg", "libopus", 48_000, "mono"),
    "webm-opus": Recipe("webm", "libopus", 48_000, "mono"),
    "aiff": Recipe("aiff", "pcm_s16be", 44_100, "stereo"),
    "au": Recipe("au", "pcm_s16be", 44_100, "mono"),
    "caf": Recipe("caf", "pcm_s16le", 44_100, "mono"),
}


def encode(recipe: Recipe, channels: FloatArray) -> bytes:
    """`channels` of shape (n,) (copied to every channel) or (channels, n), at recipe.rate_hz, as a file's bytes."""
    n_channels = av.AudioLayout(recipe.layout).nb_channels
    planar = np.broadcast_to(channels, (n_channels, channels.shape[-1])) if channels.ndim == 1 else channels
    with tempfile.TemporaryDirectory() as folder:  # a real file, because `faststart` opens it again to move its index
        path = Path(folder, "made")
        _write(path, recipe, planar)
        return path.read_bytes()


def _write(path: Path, recipe: Recipe, planar: FloatArray) -> None:
    with av.open(str(path), "w", format=recipe.muxer, options=recipe.options) as container:
        video = _add_video(container) if recipe.with_video else None
        stream: Any = container.add_stream(recipe.codec, rate=recipe.rate_hz)
        stream.codec_context.layout = recipe.layout
        stream.codec_context.options = {"strict": "experimental"}  # for ffmpeg's own Vorbis encoder
        if video is not None:
            _mux_video(container, video, seconds=planar.shape[-1] / recipe.rate_hz)
        _mux_audio(container, stream, planar, recipe)


def _mux_audio(container: Any, stream: Any, planar: FloatArray, recipe: Recipe) -> None:
    fifo = av.AudioFifo()
    position = 0
    step = 32_768
    container.start_encoding()
    resampler = av.AudioResampler(stream.codec_context.format, recipe.layout, recipe.rate_hz)
    while position < planar.shape[-1]:
        interleaved = np.ascontiguousarray(planar[:, position : position + step].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, "flt", recipe.layout)
        frame.sample_rate = recipe.rate_hz
        frame.pts = position
        position += step
        for converted in resampler.resample(frame):
            fifo.write(converted)
    frame_size = stream.codec_context.frame_size or 1024
    encoded = 0
    while fifo.samples > 0:
        chunk = fifo.read(frame_size, partial=True)
        assert chunk is not None
        chunk.pts, chunk.time_base = encoded, Fraction(1, recipe.rate_hz)
        encoded += chunk.samples
        container.mux(stream.encode(chunk))
    container.mux(stream.encode(None))


def _add_video(container: Any) -> Any:
    video = container.add_stream("mpeg4", rate=5)
    video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
    return video


def _mux_video(container: Any, video: Any, seconds: float) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    for i in range(max(1, int(seconds * 5))):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts = i
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def make(name: str, seconds: float = 2.0) -> bytes:
    """The bytes of a sweep in the named format."""
    recipe = RECIPES[name]
    return encode(recipe, sweep(seconds, recipe.rate_hz))
