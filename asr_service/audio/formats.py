"""The containers that are read: which demuxer reads each, how its structure is followed, and what it may be forgiven.

Only these demuxers are ever opened, each by name. ffmpeg's own guess would also try playlists, image sequences and network
formats, which make a server fetch what a client names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from asr_service.audio.walk import Walk
from asr_service.audio.walk_chunks import AiffWalk, AuWalk, CafWalk, FlacWalk, Mp4Walk, WavWalk
from asr_service.audio.walk_streams import AdtsWalk, MatroskaWalk, OggWalk

_LIVE_OPTIONS: Mapping[str, str] = {"analyzeduration": "100000"}
"""ffmpeg looks at no more than a tenth of a second (in microseconds) before it decodes.

Otherwise it looks at seconds of sound, and of a video for its frame rate. What it looks at is decoded all the same.
"""


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file. `sniffed` is the name that `sniff` gives it."""

    sniffed: str
    demuxer: str
    walk: Callable[[], Walk] | None
    has_exact_duration: bool = False  # its header's length is a sample count, not an estimate
    forgives_ends: bool = False  # a bare run of frames: junk before the first and after the last is no damage
    error_detection: str = "crccheck+bitstream+buffer+explode"  # ffmpeg's `err_detect`
    must_seek: bool = False  # whatever its layout
    options: Mapping[str, str] = field(default_factory=dict)
    live_options: Mapping[str, str] = field(
        default_factory=lambda: _LIVE_OPTIONS
    )  # on top, where bytes come as they are spoken


_LENIENT = "explode"
"""MP3 frames borrow bits from those before them, so joined files fail the stricter checks at every joint."""

_PCM_OPTIONS = {"probesize": "4096"}
"""The header says all; without this ffmpeg looks for other codecs in up to 5 MB of samples, for tens of milliseconds."""

CONTAINERS = {
    container.sniffed: container
    for container in (
        Container(
            *("WAV", "wav", WavWalk),
            options=_PCM_OPTIONS | {"max_size": "65536"},
            live_options={**_LIVE_OPTIONS, "max_size": "1024"},
        ),
        Container("MP3", "mp3", None, forgives_ends=True, error_detection=_LENIENT),
        Container("AAC", "aac", AdtsWalk, forgives_ends=True),
        Container("FLAC", "flac", FlacWalk, has_exact_duration=True),
        Container("Ogg", "ogg", OggWalk),
        Container("MP4", "mov", Mp4Walk),
        Container("Matroska/WebM", "matroska", MatroskaWalk),
        Container("AIFF", "aiff", AiffWalk, options=_PCM_OPTIONS),
        Container("AU", "au", AuWalk, options=_PCM_OPTIONS),
        Container("CAF", "caf", CafWalk, must_seek=True),
    )
}

AUDIO_FORMATS = (
    "wav",
    "mp3",
    "m4a",
    "mp4",
    "aac",
    "flac",
    "ogg",
    "opus",
    "webm",
    "mkv",
    "aiff",
    "au",
    "caf",
    "pcm_s16le",
    "pcm_f32le",
    "mulaw",
    "alaw",
)
"""What GetServerInfo lists: containers by their usual file ending, then raw encodings."""
