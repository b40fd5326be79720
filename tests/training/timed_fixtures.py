"""The speech that tests of aligning use: clips with texts that were never trained on, and when each unit is said in them."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from tests.training.espeak import SAMPLE_RATE_HZ
from tests.training.fixtures import LEVEL, LONGEST_S, SHORTEST_S, held_out_words
from tests.training.speech import DEFAULT_MANNER, Manner
from tests.training.timed import TimedSpeaker, units_of
from tests.training.vocabulary import LANGUAGES, Language

CLIPS = {"en": 5, "de": 3, "es": 3, "zh": 3}


@dataclass(frozen=True)
class TimedClip:
    """One entry of the manifest."""

    file: str
    text: str
    language: str
    """A language code."""
    language_name: str
    units: tuple[str, ...]
    spans_ms: tuple[tuple[int, int], ...]
    """Begin and end of each unit."""


def write_timed_clips(folder: Path) -> None:
    """Speaks all clips and writes them as FLAC files with manifest.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(2_025)  # noqa: S311 - the same clips each time
    speaker, clips = TimedSpeaker(rng), list[TimedClip]()
    manner = Manner(**{**vars(DEFAULT_MANNER), "word_by_word_share": 0.3})
    for code, count in CLIPS.items():
        for number in range(count):
            file = f"timed-{code}-{number:02d}.flac"
            taken = {clip.text for clip in clips}
            clips.append(_write(rng, speaker, LANGUAGES[code], manner, folder / file, taken))
    manifest = json.dumps([asdict(clip) for clip in clips], indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")


def _write(
    rng: random.Random, speaker: TimedSpeaker, language: Language, manner: Manner, path: Path, taken: set[str]
) -> TimedClip:
    while True:
        words = held_out_words(rng, language)
        if language.text(words) in taken:
            continue
        samples, spans = speaker.say_timed(language, words, manner)
        is_known = not any(math.isnan(edge) for span in spans for edge in span)
        if is_known and SHORTEST_S <= len(samples) / SAMPLE_RATE_HZ <= LONGEST_S:
            break
    soundfile.write(path, samples * np.float32(LEVEL), SAMPLE_RATE_HZ, subtype="PCM_16")
    spans_ms = tuple((round(begin * 1000), round(end * 1000)) for begin, end in spans)
    return TimedClip(path.name, language.text(words), language.code, language.name, units_of(language, words), spans_ms)
