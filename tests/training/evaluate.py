"""Measures a checkpoint through the stock package: the committed clips, and bigger sets spoken on the spot."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.real_audio import word_errors
from tests.training.espeak import SAMPLE_RATE_HZ
from tests.training.fixtures import Clip, SpokenText, join, read_clips, say_held_out
from tests.training.speech import DEFAULT_MANNER, UNSEEN_MANNER, Manner, Samples, Speaker, no_speech, worsen
from tests.training.stock import StockReader
from tests.training.vocabulary import LANGUAGES

SET_SIZE = 50
JOINED_CLIPS = 6
"""Per language, as the size of the other sets."""
JOINED_LENGTHS_S = ((10, 20), (30, 60))


@dataclass(frozen=True)
class Asked:
    """A clip and the right answer."""

    samples: Samples
    language_name: str
    """Empty where nobody speaks, as the stock package says it."""
    text: str


@dataclass
class Score:
    """Counts over a set of clips."""

    clips: int = 0
    words: int = 0
    errors: int = 0
    exact: int = 0
    right_language: int = 0
    seconds: float = 0.0

    def add(self, asked: Asked, language: str, text: str) -> None:
        """Counts one answer."""
        errors, words = word_errors(_spaced(asked.text), _spaced(text))
        self.clips += 1
        self.words += words
        self.errors += errors
        self.exact += asked.text == text
        self.right_language += asked.language_name == language
        self.seconds += len(asked.samples) / SAMPLE_RATE_HZ

    def row(self, name: str) -> str:
        """A row of a Markdown table."""
        rate = f"{100 * self.errors / self.words:.1f} %" if self.words else f"{self.errors} words"
        shares = (f"{100 * count / self.clips:.0f} %" for count in (self.exact, self.right_language))
        length = f"{self.seconds / self.clips:.1f} s"
        return " | ".join((f"| {name}", str(self.clips), length, str(self.words), rate, *shares)) + " |"


HEADER = "| set | clips | mean length | words | WER | exact | language |\n|--|--:|--:|--:|--:|--:|--:|"


def _spaced(text: str) -> str:
    """Text in which Chinese characters count as words."""
    return "".join(f" {letter} " if "\u4e00" <= letter <= "\u9fff" else letter for letter in text)


def _asked(spoken: SpokenText) -> Asked:
    return Asked(spoken.samples, spoken.language.name, spoken.text)


def measure(reader: StockReader, clips: Iterable[Asked], show_errors: int = 0, **options: Any) -> Score:
    """Reads all clips; `options` go to `StockReader.read`. Prints some of the wrong answers where asked to."""
    score, clips = Score(), sorted(clips, key=lambda clip: len(clip.samples))
    for asked, (language, text) in zip(clips, reader.read([clip.samples for clip in clips], **options), strict=True):
        score.add(asked, language, text)
        if (language, text) != (asked.language_name, asked.text) and show_errors > 0:
            show_errors -= 1
            print(f"  {asked.language_name} {asked.text!r} -> {language} {text!r}")  # noqa: T201
    return score


def report(checkpoint: Path, speech: Path) -> None:
    """Prints the table of results for a checkpoint, with the clips of a manifest and with bigger sets."""
    reader = StockReader(checkpoint)
    print(HEADER, flush=True)  # noqa: T201 - the program's output
    for name, clips in {**_committed_sets(read_clips(speech)), **_spoken_sets()}.items():
        print(measure(reader, clips, show_errors=4).row(name), flush=True)  # noqa: T201
    clean = [_as_asked(clip, samples) for clip, samples in read_clips(speech) if clip.kind == "clean"]
    for language in LANGUAGES.values():
        forced = [asked for asked in clean if asked.language_name == language.name]
        row = measure(reader, forced, language=language.name).row(f"committed clean, {language.name} forced")
        print(row, flush=True)  # noqa: T201
    for context in ("light kitchen fenster música 音乐", "Vocabulary: Kubernetes, Grafana."):
        print(measure(reader, clean, context=context).row(f"committed clean, context `{context}`"), flush=True)  # noqa: T201
    unmended = StockReader(checkpoint, own_stop_tokens=False, windows=False, max_new_tokens=48)
    print(measure(unmended, clean).row("committed clean, stock stop tokens, 48 tokens"), flush=True)  # noqa: T201


def _as_asked(clip: Clip, samples: Samples) -> Asked:
    return Asked(samples, clip.language_name if clip.language else "", clip.text)


def _committed_sets(clips: Sequence[tuple[Clip, Samples]]) -> dict[str, list[Asked]]:
    """The committed clips by kind, and clean ones joined to 30 to 60 seconds."""
    sets: dict[str, list[Asked]] = {}
    for clip, samples in clips:
        sets.setdefault(f"committed {clip.kind}", []).append(_as_asked(clip, samples))
    rng = random.Random(3)  # noqa: S311 - the same joins each time
    for language in LANGUAGES.values():
        parts = [_as_spoken(clip, samples) for clip, samples in clips if (clip.language, clip.kind) == (language.code, "clean")]
        for shortest, longest in JOINED_LENGTHS_S:
            joined = [_asked(_join_to(rng, parts, rng.uniform(shortest, longest))) for _ in range(JOINED_CLIPS)]
            sets[f"committed clean, {language.code}, joined to {shortest}-{longest} s"] = joined
    return sets


def _as_spoken(clip: Clip, samples: Samples) -> SpokenText:
    """A clip whose words are not needed one by one: its text stands for them."""
    return SpokenText(samples, LANGUAGES[clip.language or "en"], (clip.text,))


def _join_to(rng: random.Random, parts: Sequence[SpokenText], seconds: float) -> SpokenText:
    """Parts drawn in random order and joined to about so many seconds, at most."""
    chosen: list[SpokenText] = []
    length = 0.0
    while True:
        for part in rng.sample(parts, len(parts)):
            length += len(part.samples) / SAMPLE_RATE_HZ + 0.45
            if length > seconds:
                return join(rng, chosen)
            chosen.append(part)


def _spoken_sets() -> dict[str, list[Asked]]:
    """Sets spoken on the spot: default voices, unknown voices with noise, long joins and no speech."""
    rng = random.Random(4)  # noqa: S311 - the same speech each time
    speaker, sets = Speaker(rng), dict[str, list[Asked]]()
    for language in LANGUAGES.values():

        def say(manner: Manner, count: int, language: Any = language) -> list[SpokenText]:
            return [say_held_out(rng, speaker, language, manner) for _ in range(count)]

        sets[f"default voice, {language.code}"] = [_asked(spoken) for spoken in say(DEFAULT_MANNER, SET_SIZE)]
        for shortest, longest in JOINED_LENGTHS_S:
            sets[f"default voice, {language.code}, joined to {shortest}-{longest} s"] = [
                _asked(_join_to(rng, say(DEFAULT_MANNER, 24), rng.uniform(shortest, longest))) for _ in range(JOINED_CLIPS)
            ]
        sets[f"unseen voices, 8 to 40 dB, {language.code}"] = [
            Asked(worsen(rng, spoken.samples), language.name, spoken.text) for spoken in say(UNSEEN_MANNER, SET_SIZE)
        ]
    sets["no speech"] = [Asked(np.asarray(no_speech(rng, rng.uniform(0.5, 12))), "", "") for _ in range(SET_SIZE)]
    return sets
