"""bench/streaming.py: what it makes of what it sees, and the whole program at small size."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.pb.asr.v1 import audio_pb2, stream_pb2, transcript_pb2
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeResponse as Hear
from tests.stack.processes import ROOT

sys.path.append(str(ROOT / "bench"))

_chart: Any = importlib.import_module("measuring.chart")
_growing: Any = importlib.import_module("measuring.growing_cost")
_talks: Any = importlib.import_module("measuring.live_talks")
_packets: Any = importlib.import_module("measuring.packet_cost")
_scripted: Any = importlib.import_module("measuring.scripted_model")
_spoken: Any = importlib.import_module("measuring.spoken")
_fixed: Any = importlib.import_module("measuring.fixed_replies")


def test_quick_runs_parts_and_writes_rows_and_a_chart(tmp_path: Path) -> None:
    out = tmp_path / "streaming.json"
    command = [sys.executable, "bench/streaming.py", "C5", "C7", "C16", "--quick", "--out", str(out)]
    environ = {**os.environ, "PYTHONPATH": ""}

    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(out.read_text())
    assert {row["id"] for row in rows} == {"C5", "C6", "C7", "C16"}
    assert all(math.isfinite(row["value"]) for row in rows)
    assert all(row["met"] is None for row in rows)  # nothing was measured
    assert all("commit" in row["conditions"] for row in rows)
    assert ElementTree.parse(out.with_suffix(".svg")).getroot().tag.endswith("svg")  # noqa: S314 - our own


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, "bench/streaming.py", "C99"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 2
    assert "unknown: C99; known: C5 C6" in result.stderr


class TestLedger:
    """One session's events, in the order of the wire."""

    def test_times_count_from_the_end_of_speech_and_of_words(self) -> None:
        heard = _talks.Heard()
        ledger = _talks.Ledger(heard)
        ledger.take(_speech(stream_pb2.SPEECH_EVENT_TYPE_START, 1000), 1.2)
        ledger.take(_partial("", "", " a b", decoded_ms=2000), 2.1)
        ledger.take(_partial(" a", " a", " b", decoded_ms=2900), 3.0)
        ledger.take(_speech(stream_pb2.SPEECH_EVENT_TYPE_STOP, 3000), 3.2)
        ledger.take(_speech(stream_pb2.SPEECH_EVENT_TYPE_END, 3200), 3.6)
        ledger.take(_final(" a b"), 3.7)

        assert heard.final_ms == [pytest.approx(700)]
        assert heard.first_ms == [pytest.approx(1100)]
        assert heard.behind_ms == [pytest.approx(100), pytest.approx(100)]
        assert heard.commit_ms == [pytest.approx(1000), pytest.approx(700)]  # " a" ends at 2000, " b" at 3000
        assert (heard.n_finals, heard.n_revised, heard.n_retracted, heard.n_early_words) == (1, 0, 0, 1)

    def test_words_with_times_are_taken_at_their_word(self) -> None:
        heard = _talks.Heard()
        ledger = _talks.Ledger(heard)
        ledger.take(_speech(stream_pb2.SPEECH_EVENT_TYPE_START, 0), 0.1)
        ledger.take(_speech(stream_pb2.SPEECH_EVENT_TYPE_STOP, 900), 1.0)
        words = [transcript_pb2.Word(text=text, end_ms=ms) for text, ms in (("a", 300), ("b", 900))]
        ledger.take(_final("a b", words=words), 1.5)

        assert heard.commit_ms == [pytest.approx(1200), pytest.approx(600)]
        assert heard.n_exact_words == 2

    def test_committed_text_that_does_not_grow_as_told_is_a_retraction(self) -> None:
        heard = _talks.Heard()
        ledger = _talks.Ledger(heard)
        ledger.take(_partial("a", "a", ""), 1.0)
        ledger.take(_partial("c", "b", ""), 2.0)
        ledger.take(_final("b", revised=True), 3.0)

        assert (heard.n_retracted, heard.n_revised) == (1, 1)


@given(st.floats(1e-3, 1e6))
def test_ticks_reach_the_greatest_value_in_few_even_steps(most: float) -> None:
    ticks = _chart.ticks(most)

    assert ticks[0] == 0
    assert ticks[-1] >= most * (1 - 1e-6)
    assert 2 <= len(ticks) <= 8


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 100))
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float) -> None:
    found = _packets.percentile(values, percent)

    assert found in values
    assert _packets.percentile(values, 0) <= found <= _packets.percentile(values, 100)


@given(st.floats(0.1, 2), st.floats(0, 0.1), st.floats(0, 1e-4))
def test_a_smooth_cost_is_found_again_from_samples(fixed: float, linear: float, square: float) -> None:
    def cost(seconds: float) -> float:
        return fixed + linear * seconds + square * seconds**2

    points = _growing.sample_points(300, 5)
    fitted = _growing.Parabola.through([(at, cost(at)) for at in points])

    assert fitted.until(300) == pytest.approx(sum(map(cost, range(1, 301))), rel=1e-6)
    assert fitted.worst_miss < 1e-6


def test_speech_without_pauses_and_talks_are_as_long_as_asked() -> None:
    clips = _spoken.own_clips().clips

    assert len(_spoken.talk(clips, 7.5, breath_s=0.3)) == 7.5 * 16000
    for clip in clips:
        dense = _spoken.without_pauses(clip)
        assert 0 < len(dense) <= len(clip)
        assert np.abs(dense).max() == np.abs(clip[: len(clip) // 320 * 320]).max()


def test_replies_are_as_long_as_their_audio() -> None:
    replies = _scripted.PacedReplies()

    assert [replies.n_tokens(seconds) for seconds in (0.1, 1, 30)] == [1, 4, 120]
    reply = _fixed.FixedReply(2)
    reply.accept(7, -0.1)
    assert (reply.ids, reply.logprobs, reply.allowed((7,))) == ([7], [-0.1], None)


def _speech(type_: stream_pb2.SpeechEventType.ValueType, at_ms: int) -> Hear:
    return Hear(speech=stream_pb2.SpeechEvent(type=type_, at_ms=at_ms))


def _partial(delta: str, committed: str, tail: str, decoded_ms: int = 0) -> Hear:
    partial = stream_pb2.Partial(committed_delta=delta, committed=committed, tail=tail)
    return Hear(partial=partial, cursors=audio_pb2.AudioCursors(decoded_ms=decoded_ms))


def _final(text: str, *, revised: bool = False, words: list[transcript_pb2.Word] | None = None) -> Hear:
    segment = transcript_pb2.Segment(text=text, words=words or [])
    return Hear(final=stream_pb2.Final(segment=segment, revised=revised))
