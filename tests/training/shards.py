"""Shards of training utterances on disk: one array of features and one JSON list of what is said in it."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tests.training.speech import Manner, Speaker, log_mel, no_speech, worsen
from tests.training.vocabulary import LANGUAGES, is_held_out, random_words

NO_SPEECH_SHARE = 0.05


@dataclass(frozen=True)
class Utterance:
    """One training item: its features and what is said."""

    mel: NDArray[np.float16]
    """Shape (128, frames)."""
    language: str | None
    """A language code; none where nobody speaks."""
    words: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Length in mel frames of 10 ms."""
        return int(self.mel.shape[1])


def make_shard(folder: Path, index: int, utterances: int, manner: Manner) -> Path:
    """Speaks one shard; the same arguments always give the same shard. Returns the path of its JSON file."""
    torch.set_num_threads(1)
    rng = random.Random(index)  # noqa: S311 - a reproducible data set, not a secret
    speaker = Speaker(rng)
    made = [_make_utterance(rng, speaker, manner) for _ in range(utterances)]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{index:04d}.npy", np.concatenate([utterance.mel for utterance in made], axis=1))
    listing = [{"language": u.language, "words": u.words, "frames": u.frames} for u in made]
    partial, complete = folder / f"{index:04d}.partial", folder / f"{index:04d}.json"
    partial.write_text(json.dumps(listing, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, complete)  # a training run that is already going takes only shards with this file
    return complete


def _make_utterance(rng: random.Random, speaker: Speaker, manner: Manner) -> Utterance:
    if rng.random() < NO_SPEECH_SHARE:
        return Utterance(_features(no_speech(rng, rng.uniform(0.5, 5))), None, ())
    (language,) = rng.choices(list(LANGUAGES.values()), weights=[language.share for language in LANGUAGES.values()])
    words = random_words(rng, language)
    while is_held_out(language, words):
        words = random_words(rng, language)
    return Utterance(_features(worsen(rng, speaker.say(language, words, manner))), language.code, words)


def _features(samples: NDArray[np.float32]) -> NDArray[np.float16]:
    return log_mel(samples).to(torch.float16).numpy()


class ShardReader:
    """Reads shards as they appear in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[Path] = set()

    def new_utterances(self, limit: int | None = None) -> list[Utterance]:
        """The utterances of the shards completed since the last call, of at most `limit` shards."""
        utterances: list[Utterance] = []
        for path in sorted(set(self._folder.glob("*.json")) - self._read)[:limit]:
            self._read.add(path)
            mel, first = np.load(path.with_suffix(".npy")), 0
            for entry in json.loads(path.read_text(encoding="utf-8")):
                last = first + entry["frames"]
                utterances.append(Utterance(mel[:, first:last], entry["language"], tuple(entry["words"])))
                first = last
        return utterances
