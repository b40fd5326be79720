"""Speech to measure with: people's, where the folder with it is at hand, else the project's own clips; and talks made of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from asr_service.request import SAMPLE_RATE, Samples

ROOT = Path(__file__).parents[2]
PEOPLE = Path(os.environ.get("ASR_REAL_AUDIO_DIR", ROOT / "../shared/audio"))
OWN = ROOT / "tests/data"


@dataclass(frozen=True)
class Speakers:
    """Clips of speech at 16 kHz, and in words whose they are."""

    clips: tuple[Samples, ...]
    whose: str


def people() -> Speakers:
    """Real people; the project's own clips where their folder is absent."""
    files = sorted((*PEOPLE.glob("*.wav"), *PEOPLE.glob("*.flac"))) if PEOPLE.is_dir() else []
    if files:
        return Speakers(tuple(map(read_clip, files)), f"{len(files)} clips of real people")
    return own_clips()


def own_clips() -> Speakers:
    """Synthetic voices, from the project's tests."""
    files = [*sorted((OWN / "speech").glob("*.flac")), OWN / "sample.flac"]
    return Speakers(
        tuple(map(read_clip, files)), f"{len(files)} clips of synthetic voices (no folder {PEOPLE.name} with people)"
    )


def trained_voices() -> Speakers:
    """Clips as the small checkpoint was trained for, in four languages: what it hears is what was said."""
    files = sorted((OWN / "qwen3/speech").glob("clean-*.flac"))
    return Speakers(tuple(map(read_clip, files)), f"{len(files)} clips in the checkpoint's voices")


def read_clip(path: Path) -> Samples:
    """Mono at 16 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate_hz != SAMPLE_RATE:
        shared = gcd(rate_hz, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // shared, rate_hz // shared)
    return np.asarray(np.clip(mono, -1, 1), np.float32)


def talk(clips: Sequence[Samples], seconds: float, *, breath_s: float, first: int = 0) -> Samples:
    """The clips in turn from the `first` on, with so much silence behind each, until it is that long."""
    n_samples, parts, n = round(seconds * SAMPLE_RATE), [], 0
    breath = np.zeros(round(breath_s * SAMPLE_RATE), np.float32)
    for clip in cycle([*clips[first % len(clips) :], *clips[: first % len(clips)]]):
        if n >= n_samples:
            break
        parts += [clip, breath]
        n += len(clip) + len(breath)
    return np.concatenate(parts)[:n_samples]


def without_pauses(clip: Samples, least: float = 0.01) -> Samples:
    """What of a clip is louder than that, by blocks of 20 ms and a block on each side: speech that never pauses."""
    block = SAMPLE_RATE // 50
    blocks = clip[: len(clip) // block * block].reshape(-1, block)
    loud = np.abs(blocks).max(axis=1) >= least
    loud[1:] |= loud[:-1].copy()
    loud[:-1] |= loud[1:].copy()
    return np.ascontiguousarray(blocks[loud].reshape(-1))


def pcm(samples: Samples) -> bytes:
    """As 16-bit little-endian."""
    return (samples * 32767).astype("<i2").tobytes()
