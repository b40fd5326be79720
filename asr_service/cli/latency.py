"""How long a live session's text took, as a client that knows when its audio was spoken can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from asr_service.cli.live_audio import AudioClock
from asr_service.client import SpeechEventType, StreamTranscribeResponse, Word


class Latency:
    """Feed it every event and when it came. Without a clock that runs there is nothing to measure against."""

    def __init__(self, clock: AudioClock) -> None:
        self._clock = clock
        self._starts_ms: dict[int, int] = {}  # of utterances without text yet
        self._ends_ms: dict[int, int] = {}  # of utterances without a final yet
        self._n_words: dict[int, int] = {}  # that are committed
        self._firsts_s: list[float] = []
        self._commits_s: list[float] = []
        self._finals_s: list[float] = []
        self._audio_ms = 0
        self._n_finals = 0
        self._first_event_s: float | None = None
        self._last_event_s = 0.0

    def feed(self, event: StreamTranscribeResponse, now_s: float) -> None:
        """`now_s` of the monotonic clock."""
        self._first_event_s = self._first_event_s or now_s
        self._last_event_s = now_s
        match event.WhichOneof("event"):
            case "speech":
                self._hear_speech(event)
            case "partial":
                partial = event.partial
                self._note(self._firsts_s, self._starts_ms.pop(partial.utterance, None), now_s)
                self._commit(partial.utterance, partial.words, n_committed(partial.words, partial.committed), now_s)
            case "final":
                final = event.final
                self._n_finals += 1
                self._starts_ms.pop(final.utterance, None)
                self._note(self._finals_s, self._ends_ms.pop(final.utterance, None), now_s)
                self._commit(final.utterance, final.segment.words, len(final.segment.words), now_s)
            case "end":
                self._audio_ms = event.end.usage.audio_ms

    def _hear_speech(self, event: StreamTranscribeResponse) -> None:
        speech = event.speech
        if speech.type == SpeechEventType.SPEECH_EVENT_TYPE_START:
            self._starts_ms[speech.utterance] = speech.at_ms
        elif speech.type == SpeechEventType.SPEECH_EVENT_TYPE_END:
            self._ends_ms[speech.utterance] = speech.at_ms

    def _commit(self, utterance: int, words: Sequence[Word], n: int, now_s: float) -> None:
        was = self._n_words.get(utterance, 0)
        for word in words[was:n]:
            self._note(self._commits_s, word.end_ms, now_s)
        self._n_words[utterance] = max(was, n)

    def _note(self, into: list[float], spoken_ms: int | None, now_s: float) -> None:
        if spoken_ms is not None and self._clock.began_s is not None:
            into.append(now_s - self._clock.began_s - spoken_ms / 1000)

    def lines(self) -> list[str]:
        """What was measured, for people."""
        took_s = self._last_event_s - (self._first_event_s or 0.0)
        named = (
            ("first text after the start of speech", self._firsts_s),
            ("words committed after their end", self._commits_s),
            ("final after the end of speech", self._finals_s),
        )
        lines = [f"{name}: {_summary(times_s)}" for name, times_s in named if times_s]
        utterances = "1 utterance" if self._n_finals == 1 else f"{self._n_finals} utterances"
        return [*lines, f"{utterances} in {self._audio_ms / 1000:.1f} s of audio, which took {took_s:.1f} s"]


def n_committed(words: Sequence[Word], committed: str) -> int:
    """How many of the words the committed text covers, in languages without spaces too."""
    n_left = len("".join(committed.split()))
    for index, word in enumerate(words):
        n_left -= len("".join(word.text.split()))
        if n_left < 0:
            return index
    return len(words)


def _summary(times_s: list[float]) -> str:
    ranked = sorted(times_s)
    p95_s = ranked[math.ceil(0.95 * len(ranked)) - 1]
    return f"median {median(ranked) * 1000:.0f} ms, p95 {p95_s * 1000:.0f} ms of {len(ranked)}"
