"""Real human speech with its texts, from a folder outside the repository: checks on it are skipped where that is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ASR_REAL_AUDIO_DIR", Path(__file__).parents[1] / "../shared/audio"))

CLIPS = {
    "jfk.flac": "and so my fellow americans ask not what your country can do for you ask what you can do for your country",
    "librivox-0870.wav": "and mister john dashwood had then leisure to consider how much there might be prudently in his power "
    "to do for them",
    "librivox-0880.wav": "he was not an ill disposed young man",
    "librivox-0890.wav": "unless to be rather cold hearted and rather selfish is to be ill disposed",
}
"""File name to what is said in it."""


def real_clip(name: str) -> Path:
    """The path of a clip; skips the test, saying so, where the folder is absent."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"no real clip {name} in {FOLDER} (set ASR_REAL_AUDIO_DIR)")
    return FOLDER / name


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Words to insert, delete or replace to get from `said` to `heard` (Levenshtein 1966), and how many were said."""
    reference, hypothesis = said.split(), heard.split()
    row = list(range(len(hypothesis) + 1))
    for index, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(hypothesis, 1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other))
    return row[-1], len(reference)
