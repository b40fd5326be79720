"""Utterances with the times of their words, and shards of them: what the small aligner is trained and tested on.

Words spoken alone and put together have exact times. Of whole phrases espeak-ng tells where it begins a word; it ends where the
next one begins, and the last where the sound does. Some short words are spoken in one with their neighbour: their times are not
known, and neither is the end of the word before them.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tests.training.espeak import SAMPLE_RATE_HZ, Synthesizer, UnknownVoice, trim
from tests.training.shards import Utterance
from tests.training.speech import Manner, Samples, Speaker, log_mel, worsen
from tests.training.vocabulary import LANGUAGES, Language, is_held_out, random_words

_WORD_EVENT, _LAST_EVENT = 1, 0

Span = tuple[float, float]
"""Begin and end in seconds; NaN where it is not known."""


class _Event(ctypes.Structure):
    """espeak_EVENT, as far as it is read."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class TimedSynthesizer(Synthesizer):
    """Also tells where words begin."""

    def __init__(self) -> None:
        super().__init__()
        self.begins_s: dict[int, float] = {}
        """Of what was spoken last: by the word's first character in the text, counted from 0."""

    def speak(
        self, text: str, voice: str, rate_wpm: int = 170, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
    ) -> NDArray[np.float32]:
        """See Synthesizer."""
        self.begins_s = {}
        return super().speak(text, voice, rate_wpm, pitch, pitch_range, word_gap)

    def _receive(self, samples: object, count: int, events: int | None) -> int:
        address = events or 0
        while address and (event := _Event.from_address(address)).type != _LAST_EVENT:
            if event.type == _WORD_EVENT:
                self.begins_s.setdefault(event.text_position - 1, event.audio_ms / 1000)
            address += ctypes.sizeof(_Event)
        return super()._receive(samples, count, events)


def units_of(language: Language, words: Sequence[str]) -> tuple[str, ...]:
    """What an aligner gives times to: words, and in Chinese characters."""
    return tuple(words) if language.joiner else tuple("".join(words))


class TimedSpeaker(Speaker):
    """Says word sequences and tells when each unit was said."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._synthesizer: TimedSynthesizer = TimedSynthesizer()
        self._spans: list[Span] = []

    def say_timed(self, language: Language, words: tuple[str, ...], manner: Manner) -> tuple[Samples, list[Span]]:
        """As `say`, with a span for each of `units_of(language, words)`."""
        while True:
            voice = self._draw_voice(language, manner)
            try:
                speech, spans = self._speak_timed(language, words, voice, manner)
                break
            except UnknownVoice:
                self._missing_voices.add(voice)
        lead_s, tail_s = (self._rng.uniform(0, self._rng.choice((0.15, 0.6))) for _ in range(2))
        silences = (np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32) for seconds in (lead_s, tail_s))
        lead, tail = silences
        samples = np.concatenate([lead, speech / max(1e-3, float(np.abs(speech).max(initial=0.0))), tail])
        samples = np.pad(samples, (0, max(0, SAMPLE_RATE_HZ // 2 - len(samples))))
        shift_s = len(lead) / SAMPLE_RATE_HZ
        return samples, [(begin + shift_s, end + shift_s) for begin, end in spans]

    def _speak_timed(
        self, language: Language, words: tuple[str, ...], voice: str, manner: Manner
    ) -> tuple[Samples, list[Span]]:
        rate, pitch, pitch_range = (self._rng.randint(*limits) for limits in (manner.rates_wpm, manner.pitches, manner.ranges))
        how = (voice, rate, pitch, pitch_range)
        if self._rng.random() >= manner.word_by_word_share:
            return self._phrase(language, words, *how)
        pieces: list[Samples] = []
        spans: list[Span] = []
        at_s = 0.0
        for word in words:
            gap_s = self._rng.uniform(0, self._rng.choice((0.08, 0.35))) if pieces else 0.0
            gap = np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.float32)
            spoken, inner = self._phrase(language, (word,), *how)
            at_s += len(gap) / SAMPLE_RATE_HZ
            spans += [(at_s + begin, at_s + end) for begin, end in inner]
            at_s += len(spoken) / SAMPLE_RATE_HZ
            pieces += [gap, spoken]
        return np.concatenate(pieces), spans

    def _phrase(
        self, language: Language, words: tuple[str, ...], voice: str, rate: int, pitch: int, pitch_range: int
    ) -> tuple[Samples, list[Span]]:
        spoken = self._synthesizer.speak(" ".join(words), voice, rate, pitch, pitch_range)
        speech = trim(spoken)
        cut_s = _offset(spoken, speech) / SAMPLE_RATE_HZ
        end_s = len(speech) / SAMPLE_RATE_HZ
        begins_s = self._synthesizer.begins_s
        edges = [begins_s.get(place, float("nan")) - cut_s for place in _places(language, words)]
        edges[0] = 0.0
        edges = [min(max(0.0, edge), end_s) if edge == edge else edge for edge in edges]
        return speech, list(zip(edges, [*edges[1:], end_s], strict=True))


def _offset(whole: Samples, part: Samples) -> int:
    """Where a view begins in the array that it is of."""
    if len(part) == len(whole):
        return 0
    return int(part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // whole.itemsize


def _places(language: Language, words: Sequence[str]) -> list[int]:
    """The first character of each unit in the words with spaces between them."""
    places, at = list[int](), 0
    for word in words:
        places += [at] if language.joiner else range(at, at + len(word))
        at += len(word) + 1
    return places


@dataclass(frozen=True)
class TimedUtterance(Utterance):
    """One training item with the times of its units."""

    units: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()


def make_timed_shard(folder: Path, index: int, utterances: int, manner: Manner) -> Path:
    """Speaks one shard; the same arguments always give the same shard. Returns the path of its JSON file."""
    torch.set_num_threads(1)
    rng = random.Random(f"timed {index}")  # noqa: S311 - a reproducible data set, not a secret
    speaker = TimedSpeaker(rng)
    made = [_make(rng, speaker, manner) for _ in range(utterances)]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{index:04d}.npy", np.concatenate([utterance.mel for utterance in made], axis=1))
    listing = [{"language": u.language, "words": u.words, "units": u.units, "spans": u.spans, "frames": u.frames} for u in made]
    partial, complete = folder / f"{index:04d}.partial", folder / f"{index:04d}.json"
    partial.write_text(json.dumps(listing, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, complete)  # a training run that is already going takes only shards with this file
    return complete


def _make(rng: random.Random, speaker: TimedSpeaker, manner: Manner) -> TimedUtterance:
    (language,) = rng.choices(list(LANGUAGES.values()), weights=[language.share for language in LANGUAGES.values()])
    words = random_words(rng, language)
    while is_held_out(language, words):
        words = random_words(rng, language)
    samples, spans = speaker.say_timed(language, words, manner)
    mel = log_mel(worsen(rng, samples)).to(torch.float16).numpy()
    return TimedUtterance(mel, language.code, words, units_of(language, words), tuple(spans))


def read_timed_shard(path: Path) -> list[TimedUtterance]:
    """Of the JSON file that `make_timed_shard` gave."""
    mel, first, utterances = np.load(path.with_suffix(".npy")), 0, []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        last = first + entry["frames"]
        spans = tuple((float(begin), float(end)) for begin, end in entry["spans"])
        words, units = tuple(entry["words"]), tuple(entry["units"])
        utterances.append(TimedUtterance(mel[:, first:last], entry["language"], words, units, spans))
        first = last
    return utterances
