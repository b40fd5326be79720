"""The speech that tests use: clips with texts that were never trained on, and a manifest that says what is in them."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from tests.training.espeak import SAMPLE_RATE_HZ
from tests.training.speech import DEFAULT_MANNER, UNSEEN_MANNER, Manner, Samples, Speaker, no_speech, worsen
from tests.training.vocabulary import CHINESE, ENGLISH, LANGUAGES, NO_LANGUAGE, SPANISH, Language, is_held_out, random_words

CLEAN_CLIPS = {"en": 12, "de": 8, "es": 8, "zh": 8}
REPEATS = (
    (ENGLISH, ("zero", "zero", "zero", "zero", "zero", "zero")),
    (SPANISH, ("tres", "tres", "tres", "tres", "luz")),
    (CHINESE, ("八", "八", "八", "八", "八")),
)
NO_SPEECH_SECONDS = (2.0, 4.0, 6.0)
SHORTEST_S, LONGEST_S = 1.5, 6.0
LEVEL = 0.5
"""Peak of the clean clips."""


@dataclass(frozen=True)
class Clip:
    """One entry of the manifest."""

    file: str
    text: str
    language: str | None
    """A language code; none where nobody speaks."""
    language_name: str
    """As the model writes it."""
    duration_s: float
    kind: str


@dataclass(frozen=True)
class SpokenText:
    """Samples at 16 kHz, shape (n,), and what is said in them."""

    samples: Samples
    language: Language
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return self.language.text(self.words)


def held_out_words(rng: random.Random, language: Language) -> tuple[str, ...]:
    """A text that training leaves out, and that says no word three times in a row."""
    while True:
        words = random_words(rng, language)
        thrice = any(len({*words[at : at + 3]}) == 1 for at in range(len(words) - 2))
        if is_held_out(language, words) and not thrice:
            return words


def say_held_out(rng: random.Random, speaker: Speaker, language: Language, manner: Manner) -> SpokenText:
    """A text that training leaves out, spoken cleanly for 1.5 to 6 seconds, with a peak of `LEVEL`."""
    while True:
        words = held_out_words(rng, language)
        samples = speaker.say(language, words, manner) * np.float32(LEVEL)
        if SHORTEST_S <= len(samples) / SAMPLE_RATE_HZ <= LONGEST_S:
            return SpokenText(samples, language, words)


def join(rng: random.Random, parts: list[SpokenText], pause_s: tuple[float, float] = (0.3, 0.6)) -> SpokenText:
    """The parts, of one language, one after the other with pauses between them."""
    pieces: list[Samples] = []
    for part in parts:
        pieces += [part.samples, np.zeros(round(rng.uniform(*pause_s) * SAMPLE_RATE_HZ), np.float32)]
    return SpokenText(np.concatenate(pieces[:-1]), parts[0].language, tuple(word for part in parts for word in part.words))


def write_clips(folder: Path) -> None:
    """Speaks all clips and writes them as FLAC files with manifest.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(2_024)  # noqa: S311 - the same clips each time
    speaker, clips = Speaker(rng), list[Clip]()

    def add(kind: str, samples: Samples, language: Language | None = None, words: tuple[str, ...] = ()) -> None:
        code, name, text = (language.code, language.name, language.text(words)) if language else (None, NO_LANGUAGE, "")
        number = sum(clip.kind == kind and clip.language == code for clip in clips)
        file = "-".join(part for part in (kind, code, f"{number:02d}") if part) + ".flac"
        soundfile.write(folder / file, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        clips.append(Clip(file, text, code, name, round(len(samples) / SAMPLE_RATE_HZ, 3), kind))

    for code, count in CLEAN_CLIPS.items():
        for _ in range(count):
            spoken = say_held_out(rng, speaker, LANGUAGES[code], DEFAULT_MANNER)
            while spoken.text in {clip.text for clip in clips}:
                spoken = say_held_out(rng, speaker, LANGUAGES[code], DEFAULT_MANNER)
            add("clean", spoken.samples, spoken.language, spoken.words)
    for language in LANGUAGES.values():
        spoken = say_held_out(rng, speaker, language, UNSEEN_MANNER)
        add("unseen", worsen(rng, spoken.samples, (15, 25)), language, spoken.words)
    for language, words in REPEATS:
        add("repeats", speaker.say(language, words, DEFAULT_MANNER) * np.float32(LEVEL), language, words)
    for seconds in NO_SPEECH_SECONDS:
        add("no-speech", _quiet(rng, seconds, digital=seconds == NO_SPEECH_SECONDS[0]))
    manifest = json.dumps([asdict(clip) for clip in clips], indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")


def _quiet(rng: random.Random, seconds: float, digital: bool) -> Samples:
    """Digital silence, or noise that can be heard but compresses: at most -30 dB of full scale."""
    if digital:
        return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    while True:
        samples = no_speech(rng, seconds)
        level = float(np.sqrt((samples**2).mean()))
        if 0.001 < level < 0.03:
            return samples


def read_clips(folder: Path) -> list[tuple[Clip, Samples]]:
    """All clips of a manifest with their samples."""
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return [(Clip(**entry), soundfile.read(folder / entry["file"], dtype="float32")[0]) for entry in entries]
