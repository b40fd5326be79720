"""Writes a transcript in the response formats of OpenAI's endpoint. Pure."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable

from asr_service.pb.asr.v1 import transcript_pb2
from asr_service.subtitles import Cue, SubtitleSegment, SubtitleWord, make_cues, to_srt, to_vtt
from rest_bridge.errors import form_name
from rest_bridge.parameters import Parameters
from rest_bridge.transcription import Transcription

_MAX_NOTICES_CHARS = 2000
_LEAST_CONFIDENCE = 1e-6  # its logarithm is still a number


def render(wanted: Parameters, said: Transcription) -> tuple[str, str]:
    """Content type and body."""
    match wanted.response_format:
        case "text":
            return "text/plain", said.completed.text + "\n"
        case "srt":
            return "text/plain", to_srt(_cues(said))
        case "vtt":
            return "text/vtt", to_vtt(_cues(said))
        case "verbose_json":
            return "application/json", json.dumps(_verbose(wanted, said), ensure_ascii=False)
        case _:
            return "application/json", json.dumps(_plain(wanted, said), ensure_ascii=False)


def render_notices(notices: Iterable[str], warnings: Iterable[transcript_pb2.Warning]) -> str:
    """What was ignored or adjusted, as the value of one header: `field: what`, separated by commas."""
    spoken = (f"{form_name(w.field)}: {w.message}" if w.field else w.message for w in warnings)
    clean = (_ascii(notice) for notice in (*notices, *spoken))
    return ", ".join(dict.fromkeys(clean))[:_MAX_NOTICES_CHARS]


def _plain(wanted: Parameters, said: Transcription) -> dict[str, object]:
    body: dict[str, object] = {"text": said.completed.text}
    if not wanted.has_model:
        body["language"] = said.completed.language.name
    if wanted.wants_words:
        body["words"] = _words(said)
    return {**body, "usage": _usage(said)}


def _verbose(wanted: Parameters, said: Transcription) -> dict[str, object]:
    body: dict[str, object] = {
        "task": "transcribe",
        "language": said.completed.language.name.lower(),
        "duration": said.completed.duration_ms / 1000,
        "text": said.completed.text,
    }
    if wanted.wants_segments:
        body["segments"] = [_segment(segment, wanted.temperature) for segment in said.segments]
    if wanted.wants_words:
        body["words"] = _words(said)
    return {**body, "usage": _usage(said)}


def _segment(segment: transcript_pb2.Segment, temperature: float) -> dict[str, object]:
    silence = 1.0 - segment.speech_probability if segment.HasField("speech_probability") else 0.0
    return {
        "id": segment.index,
        "seek": segment.start_ms // 10,
        "start": segment.start_ms / 1000,
        "end": segment.end_ms / 1000,
        "text": segment.text,
        "tokens": [],
        "temperature": round(temperature, 4),
        "avg_logprob": _mean_log_confidence(segment),
        "compression_ratio": _compression_ratio(segment.text),
        "no_speech_prob": round(silence, 4),
    }


def _mean_log_confidence(segment: transcript_pb2.Segment) -> float:
    """Mean logarithm of the words' confidences, else of the segment's; 0.0 where the engine has none."""
    known = [word.confidence for word in segment.words if word.HasField("confidence")]
    if not known and segment.HasField("confidence"):
        known = [segment.confidence]
    return round(sum(math.log(max(c, _LEAST_CONFIDENCE)) for c in known) / len(known), 4) if known else 0.0


def _compression_ratio(text: str) -> float:
    """How much repetition there is: bytes over compressed bytes."""
    data = text.encode()
    return round(len(data) / len(zlib.compress(data)), 4)


def _words(said: Transcription) -> list[dict[str, object]]:
    return [
        {"word": word.text, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
        for segment in said.segments
        for word in segment.words
    ]


def _usage(said: Transcription) -> dict[str, object]:
    return {"type": "duration", "seconds": said.completed.duration_ms / 1000}


def _cues(said: Transcription) -> list[Cue]:
    return make_cues(
        SubtitleSegment(
            segment.text,
            segment.start_ms,
            segment.end_ms,
            tuple(SubtitleWord(word.text, word.start_ms, word.end_ms) for word in segment.words),
            segment.language.code,
        )
        for segment in said.segments
    )


def _ascii(notice: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in notice.replace(",", ";"))
