"""Transcripts in OpenAI's shapes: numbers are numbers, and always valid JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from rest_bridge.formats import render, render_notices
from rest_bridge.parameters import parse_parameters
from rest_bridge.transcription import Transcription


def rendered(said: Transcription, *fields: tuple[str, str]) -> tuple[str, str]:
    return render(parse_parameters(fields, aliases=(), is_complete=True), said)


def test_silence_is_an_empty_answer_in_every_format() -> None:
    said = Transcription(transcribe_pb2.UploadCompleted(duration_ms=2000))

    assert json.loads(rendered(said)[1]) == {"text": "", "language": "", "usage": {"type": "duration", "seconds": 2.0}}
    verbose = json.loads(rendered(said, ("response_format", "verbose_json"))[1])
    assert (verbose["text"], verbose["duration"], verbose["segments"]) == ("", 2.0, [])
    assert rendered(said, ("response_format", "text")) == ("text/plain", "\n")
    assert rendered(said, ("response_format", "srt")) == ("text/plain", "")
    assert rendered(said, ("response_format", "vtt")) == ("text/vtt", "WEBVTT\n\n")


confidences = st.none() | st.floats(0, 1, width=32)
words = st.builds(
    lambda text, c: transcript_pb2.Word(text=text, start_ms=0, end_ms=5, **({} if c is None else {"confidence": c})),
    st.text(max_size=5),
    confidences,
)
segments = st.builds(
    lambda text, w, c: transcript_pb2.Segment(text=text, words=w, end_ms=9, **({} if c is None else {"confidence": c})),
    st.text(max_size=30),
    st.lists(words, max_size=3),
    confidences,
)


@given(segments)
def test_the_figures_of_a_segment_are_finite(segment: transcript_pb2.Segment) -> None:
    said = Transcription(transcribe_pb2.UploadCompleted(text=segment.text), [segment])

    def refuse(name: str) -> None:
        raise AssertionError(name)

    body = json.loads(rendered(said, ("response_format", "verbose_json"))[1], parse_constant=refuse)

    (made,) = body["segments"]
    assert -14 < made["avg_logprob"] <= 0
    assert made["compression_ratio"] >= 0
    assert 0 <= made["no_speech_prob"] <= 1


def test_repetition_shows_in_the_compression_ratio() -> None:
    said = Transcription(segments=[transcript_pb2.Segment(text="no " * 100), transcript_pb2.Segment(text="a plain sentence")])

    repeated, plain = json.loads(rendered(said, ("response_format", "verbose_json"))[1])["segments"]

    assert repeated["compression_ratio"] > 2.4 > plain["compression_ratio"]


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=3))
def test_notices_always_fit_into_a_header(notices: list[str], messages: list[str]) -> None:
    value = render_notices(notices, [transcript_pb2.Warning(message=message) for message in messages])

    assert value.isascii()
    assert value.isprintable()
    assert len(value) <= 2000
