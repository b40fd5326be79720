"""Committed speech whose words have known times, and how far an answer is from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from asr_service.request import SAMPLE_RATE, Samples

FOLDER = Path(__file__).parents[1] / "data/qwen3/timed"
ALIGNER = Path(__file__).parents[1] / "data/qwen3/aligner"


@dataclass(frozen=True)
class TimedClip:
    """`spans_ms`: begin and end of each unit."""

    samples: Samples
    text: str
    language: str  # its English name
    units: tuple[str, ...]
    spans_ms: tuple[tuple[int, int], ...]


def timed_clips() -> list[TimedClip]:
    return [
        TimedClip(
            soundfile.read(FOLDER / entry["file"], dtype="float32")[0],
            entry["text"],
            entry["language_name"],
            tuple(entry["units"]),
            tuple((begin, end) for begin, end in entry["spans_ms"]),
        )
        for entry in json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    ]


def chained(clips: Sequence[TimedClip], pause_ms: int) -> TimedClip:
    """Clips of one language one after the other, with pauses."""
    pause = np.zeros(pause_ms * SAMPLE_RATE // 1000, np.float32)
    parts: list[Samples] = []
    spans: list[tuple[int, int]] = []
    for clip in clips:
        at_ms = sum(len(part) for part in parts) * 1000 // SAMPLE_RATE
        spans += [(begin + at_ms, end + at_ms) for begin, end in clip.spans_ms]
        parts += [clip.samples, pause]
    joiner = "" if clips[0].language == "Chinese" else " "
    units = tuple(unit for clip in clips for unit in clip.units)
    return TimedClip(np.concatenate(parts), joiner.join(clip.text for clip in clips), clips[0].language, units, tuple(spans))


def errors_ms(found: Sequence[tuple[float, float]], known: Sequence[tuple[int, int]]) -> list[float]:
    """How far each begin and each end is off."""
    pairs = zip(found, known, strict=True)
    return [abs(a - b) for found_span, known_span in pairs for a, b in zip(found_span, known_span, strict=True)]
