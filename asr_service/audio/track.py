"""One audio track as packets and what decodes them; and, for live sources, tracks that do without ffmpeg's demuxers.

Two of those wait for much more than they need: WAV's for 64 KiB, FLAC's for ten frames. What they do besides is little, so the
packets are cut here; the decoders, and with them the samples, are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from av.audio.codeccontext import AudioCodecContext
from av.packet import Packet

from asr_service.audio.flac import FIRST_BYTES, FlacFramer, StreamInfo
from asr_service.audio.formats import Container
from asr_service.audio.intake import Intake
from asr_service.audio.wav import MAX_HEADER_BYTES, PlainPcm, plain_pcm, wav_header_bytes

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Track:
    """`source_name` is under what name the packets' source logs."""

    packets: Iterator[Packet[Any]]
    codec: AudioCodecContext
    source_name: str
    n_declared_samples: int | None = None  # per channel, at the track's rate


def direct_track(kind: Container, intake: Intake, head: bytes) -> Track | None:
    """The track of a source, of which `head` was peeked at; None where ffmpeg's demuxer serves as well, or better."""
    if kind.sniffed == "FLAC" and (info := StreamInfo.find(intake.peek(FIRST_BYTES))) is not None:
        codec = _codec("flac", kind)
        codec.extradata = info.data
        return Track(_flac_packets(intake, info), codec, kind.demuxer, info.n_samples)
    if kind.sniffed == "WAV" and (pcm := _peek_pcm(intake, head)) is not None:
        codec = _codec(pcm.codec, kind)
        codec.sample_rate = pcm.rate_hz
        codec.layout = f"{pcm.n_channels}c"
        return Track(_pcm_packets(intake, pcm), codec, kind.demuxer)
    return None


def _codec(name: str, kind: Container) -> AudioCodecContext:
    codec = cast("AudioCodecContext", AudioCodecContext.create(name, "r"))
    codec.thread_count = 1
    codec.options = {"err_detect": kind.error_detection}
    return codec


def _flac_packets(intake: Intake, info: StreamInfo) -> Iterator[Packet[Any]]:
    framer = FlacFramer(info)
    while data := intake.read(_READ_BYTES):
        yield from map(Packet, framer.feed(data))
    yield from map(Packet, framer.finish())


def _peek_pcm(intake: Intake, head: bytes) -> PlainPcm | None:
    while (n_bytes := wav_header_bytes(head)) is None and len(more := intake.peek_on(MAX_HEADER_BYTES)) > len(head):
        head = more
    return plain_pcm(head[:n_bytes]) if n_bytes is not None else None


def _pcm_packets(intake: Intake, pcm: PlainPcm) -> Iterator[Packet[Any]]:
    """Whole frames as they come; what may be left of one at the end is no sample."""
    n_header_left = pcm.header_bytes
    while n_header_left > 0:
        n_header_left -= len(intake.read(n_header_left))  # all of it was peeked at, so it is there
    frames, n_left = b"", pcm.n_bytes
    while data := intake.read(_READ_BYTES if n_left is None else min(n_left, _READ_BYTES)):
        n_left = None if n_left is None else n_left - len(data)
        frames += data
        n_whole = len(frames) - len(frames) % pcm.frame_bytes
        if n_whole:
            yield Packet(frames[:n_whole])
        frames = frames[n_whole:]
