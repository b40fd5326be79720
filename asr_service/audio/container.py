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

from collections.abc import Iterator
from contextlib import closing

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
from asr_service.audio.sniff import SNIFF_BYTES, sniff
from asr_service.audio.source import SourceFormat
from asr_service.audio.walk_chunks import Mp4Walk
from asr_service.errors import AudioEmpty, AudioTooLarge, AudioTruncated, AudioUndecodable

_INDEX_SEARCH_BYTES = 1 << 20
_MP3_SLACK_SAMPLES = 3 * 1152
"""By how much an MP3 may fall short of its stated frames: encoder delay is cut off, and the first may lack their reservoir."""

_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def read_container(intake: Intake, fmt: SourceFormat, limits: AudioLimits) -> Iterator[Piece]:
    """The pieces of the container's best audio stream; pictures and video are passed over. Raises as `decode` says."""
    _skip_id3(intake)
    head = intake.peek(SNIFF_BYTES)
    name = sniff(head)
    kind = CONTAINERS.get(name)
    if kind is None:
        said = f" (sent as {fmt.content_type[:100]})" if fmt.content_type else ""
        raise AudioUndecodable(f"the bytes look like {name}{said}, which is not audio that can be read")
    intake.walk = kind.walk() if kind.walk is not None else None
    if _must_spool(kind, intake):
        why = f"{kind.sniffed} with its index at the end is stored before it is read"
        with closing(intake.spool(max_bytes=limits.spool_bytes, why=why)) as file:
            yield from _Reading(kind, intake, limits).pieces(file)
    else:
        declared = declared_samples(head) if kind.sniffed == "MP3" else None
        yield from _Reading(kind, intake, limits, declared).pieces(intake)


def _skip_id3(intake: Intake) -> None:
    """Tags in front (they may hold megabytes of cover art) say nothing about what follows, which may be MP3, AAC or FLAC."""
    while (head := intake.peek(10)).startswith(b"ID3") and len(head) == 10:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        n_bytes = 10 + size + (10 if head[5] & 0x10 else 0)
        if intake.skip(n_bytes) < n_bytes or not intake.peek(1):
            raise AudioTruncated(f"the audio ends with or inside its ID3 tag of {n_bytes} bytes")


def _must_spool(kind: Container, intake: Intake) -> bool:
    if kind.must_seek:
        return True
    if kind.sniffed != "MP4":
        return False
    n_bytes, needs_seek = SNIFF_BYTES, None
    while needs_seek is None and n_bytes <= _INDEX_SEARCH_BYTES:
        head = intake.peek(n_bytes)
        walk = Mp4Walk()
        walk.feed(head)
        needs_seek = walk.needs_seek
        if len(head) < n_bytes:
            break
        n_bytes *= 2
    return needs_seek is not False


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

    def pieces(self, file: Intake | Spooled) -> Iterator[Piece]:
        with self._open(file) as container:
            stream = self._pick_stream(container)
            packets = container.demux(stream)
            while (frames := self._step(packets, container, stream)) is not None:
                for frame in frames:
                    self._check_channels(frame.layout.nb_channels)
                    self._n_samples += frame.samples
                    yield Piece(frame.sample_rate, mix_down(to_float(frame)))
        self._judge()

    def _open(self, file: Intake | Spooled) -> InputContainer:
        av.logging.set_level(av.logging.ERROR)  # without a level PyAV captures nothing
        av.logging.set_skip_repeated(False)  # the same error in the next source is news
        with av.logging.Capture() as logs:
            try:
                return av.open(
                    file, "r", format=self._kind.demuxer, container_options=dict(self._kind.options), metadata_errors="replace"
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

    def _step(
        self, packets: Iterator[Packet[AudioStream]], container: InputContainer, stream: AudioStream
    ) -> list[AudioFrame] | None:
        """The frames of the next packet; None after the last."""
        frames: list[AudioFrame] | None = None
        failure: str | None = None
        with av.logging.Capture() as logs:
            try:
                packet = next(packets, None)
                if packet is not None:
                    frames = []
                    frames = [] if self._is_tag(packet) else packet.decode()
            except av.error.FFmpegError as error:
                failure = error.strerror
        by = (container.format.name, stream.codec_context.name)  # a video stream's trouble is none of ours
        trouble = _first_error([log for log in logs if log[1] in by]) or failure
        self._complaint = self._complaint or trouble
        if trouble is None and frames:
            self._note_clean_audio()
        return frames

    def _is_tag(self, packet: Packet[AudioStream]) -> bool:
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
