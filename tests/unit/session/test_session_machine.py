"""The session's promises under any audio, any chunking and any recogniser."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st

from asr_service.audio.segment import Segmenter
from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.session.endpoint import SpeechEndpointer, segmenter_config
from asr_service.session.events import (
    Decided,
    Ended,
    Final,
    MarkerReached,
    Partial,
    SpeechEventType,
    SpeechNoticed,
)
from asr_service.session.settings import EndpointMode, EndpointSettings
from tests.unit.session.rooms import Room, settings

_pattern = st.lists(st.tuples(st.sampled_from("##..?"), st.integers(1, 60)), min_size=1, max_size=12).map(
    lambda runs: "".join(char * n for char, n in runs)
)
_endpointing = st.fixed_dictionaries(
    {
        "mode": st.sampled_from([EndpointMode.SERVER_VAD, EndpointMode.SERVER_VAD, EndpointMode.EXTERNAL, EndpointMode.OFF]),
        "silence_ms": st.sampled_from([100, 300, 500, 1500]),
        "min_speech_ms": st.sampled_from([0, 100, 250]),
        "max_utterance_ms": st.sampled_from([5000, 6000, 30_000]),
        "prefix_padding_ms": st.sampled_from([0, 300, 1000]),
        "interval_ms": st.sampled_from([100, 500, 2000]),
    }
)


@given(st.data(), _pattern, _endpointing)
@run_settings(max_examples=150, deadline=None)
def test_every_promise_of_the_contract_holds(data: st.DataObject, pattern: str, endpointing: dict[str, object]) -> None:
    if endpointing["mode"] is EndpointMode.SERVER_VAD and data.draw(st.booleans()) and endpointing["silence_ms"] != 100:
        endpointing = {**endpointing, "eager_silence_ms": 192 if endpointing["silence_ms"] != 192 else None}
    texts = st.sampled_from(["", "a", "a b", "a b c", "b", "a b c d e", "a c"])
    room = Room(settings(**endpointing), text=lambda _: data.draw(texts), answers=False)  # type: ignore[arg-type]
    seen: list[tuple[int, int, int]] = []
    markers = 0
    while pattern:
        n = data.draw(st.integers(1, 80))
        room.hear(pattern[:n])
        pattern = pattern[n:]
        match data.draw(st.sampled_from(["nothing", "answer", "answer", "miss", "flush", "mark"])):
            case "answer" if room.waiting:
                room.answer(data.draw(st.sampled_from(sorted(room.waiting))))
            case "miss" if room.waiting:
                room.miss(data.draw(st.sampled_from(sorted(room.waiting))))
            case "flush":
                room.flush()
            case "mark":
                room.take(room.session.mark(f"m{markers}", room.now_s))
                markers += 1
        cursors = room.session.cursors
        seen.append((cursors.received_ms, cursors.decoded_ms, cursors.committed_ms))
    room.finish()
    while room.waiting:
        room.answer(next(iter(room.waiting)))

    assert room.session.is_over
    _check_cursors(seen)
    _check_utterances(room)
    reached = [event.id for event in room.events if isinstance(event, MarkerReached)]
    assert reached == [f"m{index}" for index in range(markers)]
    durable = [event.sample for event in room.events if isinstance(event, Decided)]
    assert durable == sorted(set(durable))
    assert [isinstance(event, Ended) for event in room.events] == [False] * (len(room.events) - 1) + [True]


def _check_cursors(seen: list[tuple[int, int, int]]) -> None:
    for received, decoded, committed in seen:
        assert received >= decoded >= committed
    for before, after in pairwise(seen):
        assert all(b <= a for b, a in zip(before, after, strict=True))


def _check_utterances(room: Room) -> None:
    starts = [e.utterance for e in room.events if isinstance(e, SpeechNoticed) and e.type is SpeechEventType.START]
    ends = [e.utterance for e in room.events if isinstance(e, SpeechNoticed) and e.type is SpeechEventType.END]
    assert starts == ends == [final.result.index for final in room.finals] == list(range(len(starts)))
    spoken = [event for event in room.events if isinstance(event, Partial | Final)]
    numbers = [event.utterance if isinstance(event, Partial) else event.result.index for event in spoken]
    assert numbers == sorted(numbers)
    committed: dict[int, str] = {}
    for event in spoken:
        if isinstance(event, Partial):
            before = committed.get(event.utterance, "")
            assert event.committed == before + event.committed_delta
            committed[event.utterance] = event.committed
            assert event.stable_chars <= len(event.tail)
        else:
            before = committed.get(event.result.index, "")
            assert event.revised is not event.result.hypothesis.text.startswith(before)
    speeches = [final.result.speech for final in room.finals]
    for one, other in pairwise(speeches):
        assert one.end_ms <= other.start_ms + 1
    _check_eager_ends(room)


def _check_eager_ends(room: Room) -> None:
    """The text at an EAGER_END is that of the END, unless there is a RESUMED between."""
    eager: dict[int, str] = {}
    shown: dict[int, str] = {}
    for event in room.events:
        if isinstance(event, Partial):
            shown[event.utterance] = event.committed + event.tail
        elif isinstance(event, SpeechNoticed) and event.type is SpeechEventType.EAGER_END:
            eager[event.utterance] = shown.get(event.utterance, "")
        elif isinstance(event, SpeechNoticed) and event.type is SpeechEventType.RESUMED:
            eager.pop(event.utterance)
        elif isinstance(event, Final) and event.result.index in eager and not event.revised:
            assert event.result.hypothesis.text == eager[event.result.index]


@given(st.data(), _pattern, _endpointing)
@run_settings(max_examples=100, deadline=None)
def test_the_stretches_are_those_of_the_segmenter_however_the_audio_is_cut(
    data: st.DataObject, pattern: str, endpointing: dict[str, object]
) -> None:
    values = {key: value for key, value in endpointing.items() if key not in ("interval_ms", "mode")}
    wanted = EndpointSettings(**values)  # type: ignore[arg-type]
    rng = np.random.default_rng(len(pattern))
    samples = rng.standard_normal(len(pattern) * FRAME_SAMPLES + data.draw(st.integers(0, 511))).astype(np.float32)
    probabilities = np.array([{"#": 0.9, ".": 0.01, "?": 0.4}[char] for char in pattern], np.float32)
    segmenter, endpointer = Segmenter(segmenter_config(wanted)), SpeechEndpointer(wanted)
    expected = segmenter.feed(samples, probabilities) + segmenter.finish()

    found, at = [], 0
    while at < len(samples):
        end = min(len(samples), at + data.draw(st.integers(1, 40_000)))
        notices = endpointer.feed(samples[at:end], probabilities[at // FRAME_SAMPLES : end // FRAME_SAMPLES])
        found += [notice.speech for notice in notices if notice.speech is not None]
        at = end
    found += [notice.speech for notice in endpointer.flush() if notice.speech is not None]

    assert [(one.start_ms, len(one.samples)) for one in found] == [(one.start_ms, len(one.samples)) for one in expected]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(found, expected, strict=True))
