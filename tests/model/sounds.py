"""Sounds for networks with random weights, and the clips that the trained one was made for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from asr_service.request import SAMPLE_RATE, Samples
from tests.real_audio import word_errors

SPEECH = Path(__file__).parents[1] / "data/qwen3/speech"


def lively(n_samples: int, seed: int = 0) -> Samples:
    """Noise whose colour and level change every tenth of a second, with pauses; within full scale."""
    rng = np.random.default_rng(seed)
    block = SAMPLE_RATE // 10
    blocks = []
    for _ in range(-(-n_samples // block)):
        tone_hz, level = rng.uniform(100, 4000), rng.choice([0.0, 0.001, 0.05, 0.2, 0.4])
        tone = np.sin(2 * np.pi * tone_hz * np.arange(block) / SAMPLE_RATE)
        blocks.append(level * (tone + 0.3 * rng.standard_normal(block)))
    return np.asarray(np.clip(np.concatenate(blocks)[:n_samples], -1, 1), np.float32)


@dataclass(frozen=True)
class Spoken:
    """A clip of the trained checkpoint's languages. `language`: its English name."""

    samples: Samples
    text: str
    language: str
    kind: str


def spoken_clips(*kinds: str) -> list[Spoken]:
    """Clips of these kinds, in the manifest's order."""
    return [
        Spoken(soundfile.read(SPEECH / entry["file"], dtype="float32")[0], entry["text"], entry["language_name"], entry["kind"])
        for entry in json.loads((SPEECH / "manifest.json").read_text("utf-8"))
        if entry["kind"] in kinds
    ]


def joined(clips: list[Spoken], pause_s: float = 0.4) -> Samples:
    """The clips one after the other, with pauses."""
    pause = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
    return np.concatenate([part for clip in clips for part in (clip.samples, pause)])


def units(text: str, language: str) -> str:
    """What errors are counted in: words, or in Chinese characters."""
    return " ".join(text) if language == "Chinese" else text


def error_rate(clips: list[Spoken], heard: list[str]) -> float:
    """Errors per word (per character in Chinese) over all clips; above 1 where much was made up."""
    errors = n_units = 0
    for clip, text in zip(clips, heard, strict=True):
        more, n_more = word_errors(units(clip.text, clip.language), units(text, clip.language))
        errors, n_units = errors + more, n_units + n_more
    return errors / n_units
