"""Reading a container with PyAV, and judging whether what came out is all of it.

ffmpeg conceals damage: it logs, skips and goes on. A transcript with a hole that nobody told of is worse than an error, so
every step (a packet read and decoded) in which ffmpeg raises or logs an error counts against the source:

step                                   verdict
error, a clean step with audio later   AudioUndecodable: damaged in the middle
error, no clean step later             AudioTruncated if the walk or the header misses something, else AudioUndecodable
no error at all                        AudioTruncated if the walk or the header misses something, else whole

MP3 and ADTS are bare runs of frames that get cut anywhere and tagged at both ends, so for them errors before the first clean
step and after the last are forgiven, as is an unfinished last frame of an MP3 that does not state its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import av
import av.error
import av.logging
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from asr_service.audio.formats import CONTAINERS, Container
from asr_service.audio.frame import to_float
from asr_service.audio.intake import Intake, Spooled
from asr_service.audio.limits import AudioLimits
from asr_service.audio.mp3 import declared_samples
from asr_service.audio.piece import Piece, mix_down
from asr_service.audio.sniff import SNIFF_BYTES, is_settled, sniff
from asr_service.audio.source import SourceFormat
from asr_service.audio.track import Track, direct_track
from asr_service.audio.walk_chunks import Mp4Walk
from asr_service.errors import AudioEmpty, AudioTooLarge, AudioTruncated, AudioUndecodable

_INDEX_SEARCH_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 18
"""What ffmpeg takes at once, and can go back in without seeking. Of 32 KiB it would keep what it took last, however little."""
_MP3_SLACK_SAMPLES = 3 * 1152
"""By how much an MP3 may fall short of its stated frames: encoder delay is cut off, and the first may lack their reservoir."""

_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def read_container(intake: Intake, fmt: SourceFormat, limits: AudioLimits, *, live: bool = False) -> Iterator[Piece]:
    """The pieces of the container's best audio stream; pictures and video are passed over. Raises as `decode` says.

    live: the pieces are as small as the decoder makes them and come as early as their bytes allow.
    """
    _skip_id3(intake)
    head = _peek_until_settled(intake)
    name = sniff(head)
    kind = CONTAINERS.get(name)
    if kind is None:
        said = f" (sent as {fmt.content_type[:100]})" if fmt.content_type else ""
        raise AudioUndecodable(f"the bytes look like {name}{said}, which is not audio that can be read")
    intake.walk = kind.walk() if kind.walk is not None else None
    index = _find_index(intake, head) if kind.sniffed == "MP4" else None
    if kind.must_seek or (index is not None and index.needs_seek is not False):
        if live and not intake.is_at_end:
            raise AudioUndecodable(f"{_without_index(kind)} cannot be decoded while it comes in; send it as an upload")
        why = f"{kind.sniffed} with its index at the end is stored before it is read"
        with closing(intake.spool(max_bytes=limits.spool_bytes, why=why)) as file:
            yield from _Reading(kind, intake, limits).pieces(file)
    elif live and (track := direct_track(kind, intake, head)) is not None:
        yield from _Reading(kind, intake, limits, track.n_declared_samples).track_pieces(track)
    else:
        declared = declared_samples(head) if kind.sniffed == "MP3" else None
        reading = _Reading(kind, intake, limits, declared)
        options = {**kind.options, **(kind.live_options if live else {})}
        yield from reading.pieces(intake, options, _peek_index(intake, index))


def _without_index(kind: Container) -> str:
    return "MP4 without its index in front of its samples" if kind.sniffed == "MP4" else kind.sniffed


def _skip_id3(intake: Intake) -> None:
    """Tags in front (they may hold megabytes of cover art) say nothing about what follows, which may be MP3, AAC or FLAC."""
    while (head := intake.peek(10)).startswith(b"ID3") and len(head) == 10:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        n_bytes = 10 + size + (10 if head[5] & 0x10 else 0)
        if intake.skip(n_bytes) < n_bytes or not intake.peek(1):
            raise AudioTruncated(f"the audio ends with or inside its ID3 tag of {n_bytes} bytes")


def _peek_until_settled(intake: Intake) -> bytes:
    head = intake.peek_on(SNIFF_BYTES)
    while not is_settled(head) and len(more := intake.peek_on(SNIFF_BYTES)) > len(head):
        head = more
    return head


def _find_index(intake: Intake, head: bytes) -> Mp4Walk:
    """Follows an MP4 until it is known whether its index is in front, but not for long."""
    walk = Mp4Walk()
    walk.feed(head)
    while walk.needs_seek is None and not walk.is_lost and len(more := intake.peek_on(_INDEX_SEARCH_BYTES)) > len(head):
        walk.feed(more[len(head) :])
        head = more
    return walk


def _peek_index(intake: Intake, index: Mp4Walk | None) -> int:
    """Waits for all of an MP4's index, in which ffmpeg goes back a little; returns how many bytes it must take at once."""
    if index is None or index.index_end is None or index.index_end > _INDEX_SEARCH_BYTES:
        return _BUFFER_BYTES
    intake.peek(index.index_end)
    return max(_BUFFER_BYTES, index.index_end)


class _Reading:
    """One container being read, and the evidence against it."""

    def __init__(self, kind: Container, intake: Intake, limits: AudioLimits, declared_samples: int | None = None) -> None:
        self._kind = kind
        self._intake = intake
        self._max_channels = limits.max_channels
        self._declared_samples = declared_samples  # per channel, at the source's rate
        self._n_samples = 0  # likewise, decoded
        self._has_clean_audio = False
        self._complaint: str | None = None

    def pieces(
        self, file: Intake | Spooled, options: Mapping[str, str] | None = None, buffer_bytes: int = _BUFFER_BYTES
    ) -> Iterator[Piece]:
        """`options`: of the demuxer, in place of the kind's own."""
        with self._open(file, self._kind.options if options is None else options, buffer_bytes) as container:
            stream = self._pick_stream(container)
            yield from self._decode(Track(container.demux(stream), stream.codec_context, container.format.name))
        self._judge()

    def track_pieces(self, track: Track) -> Iterator[Piece]:
        yield from self._decode(track)
        self._judge()

    def _decode(self, track: Track) -> Iterator[Piece]:
        while (frames := self._step(track)) is not None:
            for frame in frames:
                self._check_channels(frame.layout.nb_channels)
                self._n_samples += frame.samples
                yield Piece(frame.sample_rate, mix_down(to_float(frame)))

    def _open(self, file: Intake | Spooled, options: Mapping[str, str], buffer_bytes: int) -> InputContainer:
        av.logging.set_level(av.logging.ERROR)  # without a level PyAV captures nothing
        av.logging.set_skip_repeated(False)  # the same error in the next source is news
        with av.logging.Capture() as logs:
            try:
                return av.open(
                    *(file, "r"),
                    format=self._kind.demuxer,
                    container_options=dict(options),
                    metadata_errors="replace",
                    buffer_size=buffer_bytes,
                )
            except av.error.FFmpegError as error:
                failure: av.error.FFmpegError = error
        self._intake.drain()
        self._raise_if_missing()
        if isinstance(failure, av.error.EOFError) or self._declared_samples == 0:
            raise AudioEmpty(f"the audio is {self._kind.sniffed} without any samples") from failure
        raise self._undecodable(_first_error(logs) or str(failure.strerror)) from failure

    def _pick_stream(self, container: InputContainer) -> AudioStream:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            self._intake.drain()
            self._raise_if_missing()
            if not container.streams:
                raise AudioEmpty(f"the audio is {self._kind.sniffed} without any samples")
            raise AudioUndecodable(f"the {self._kind.sniffed} has no audio track")
        if stream.codec_context is None:  # PyAV's types do not tell, but a codec that ffmpeg does not know leaves none
            raise self._undecodable("its codec is unknown")
        self._check_channels(stream.codec_context.channels)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": self._kind.error_detection}
        if self._kind.has_exact_duration and stream.duration and stream.time_base:
            self._declared_samples = round(stream.duration * stream.time_base * stream.codec_context.sample_rate)
        return stream

    def _step(self, track: Track) -> list[AudioFrame] | None:
        """The frames of the next packet; None after the last."""
        frames: list[AudioFrame] | None = None
        failure: str | None = None
        with av.logging.Capture() as logs:
            try:
                packet = next(track.packets, None)
                if packet is not None:
                    frames = []
                    frames = [] if self._is_tag(packet) else track.codec.decode(packet)
            except av.error.FFmpegError as error:
                failure = error.strerror
        by = (track.source_name, track.codec.name)  # a video stream's trouble is none of ours
        trouble = _first_error([log for log in logs if log[1] in by]) or failure
        self._complaint = self._complaint or trouble
        if trouble is None and frames:
            self._note_clean_audio()
        return frames

    def _is_tag(self, packet: Packet[Any]) -> bool:
        """Whether this is a tag between the frames of a bare run, which some programs join together as they are."""
        return self._kind.forgives_ends and packet.size > 0 and bytes(memoryview(packet)[:11]).startswith(_TAGS)

    def _note_clean_audio(self) -> None:
        if self._complaint is not None and (self._has_clean_audio or not self._kind.forgives_ends):
            raise self._undecodable(self._complaint)
        self._complaint = None
        self._has_clean_audio = True

    def _check_channels(self, n_channels: int) -> None:
        if n_channels > self._max_channels:
            raise AudioTooLarge(f"the audio has {n_channels} channels (limit {self._max_channels})")

    def _judge(self) -> None:
        """After the last packet: is this all?"""
        self._intake.drain()
        walk = self._intake.walk
        if walk is not None and walk.is_broken:
            raise self._undecodable(self._complaint or "its structure breaks off")
        self._raise_if_missing()
        is_known_whole = self._declared_samples is not None and self._n_samples >= self._declared_samples
        is_forgiven = is_known_whole or (self._kind.forgives_ends and self._has_clean_audio)
        if self._complaint is not None and not is_forgiven:  # what fails behind a whole FLAC is a tag, too
            raise self._undecodable(self._complaint)

    def _raise_if_missing(self) -> None:
        walk = self._intake.walk
        if walk is not None and walk.missing is not None:
            raise self._truncated(f"after {self._intake.n_bytes} bytes: {walk.missing} missing")
        slack = _MP3_SLACK_SAMPLES if self._kind.sniffed == "MP3" else 0
        if self._declared_samples is not None and self._n_samples + slack < self._declared_samples:
            raise self._truncated(f"after {self._n_samples} samples: its header states {self._declared_samples}")

    def _truncated(self, detail: str) -> AudioTruncated:
        return AudioTruncated(f"the {self._kind.sniffed} ends early, {detail}")

    def _undecodable(self, detail: str) -> AudioUndecodable:
        return AudioUndecodable(f"the bytes look like {self._kind.sniffed} but cannot be decoded: {detail}")


def _first_error(logs: list[tuple[int, str, str]]) -> str | None:
    return next((message.strip() for level, _, message in logs if level <= av.logging.ERROR), None)
