"""Utterances for training and testing: a voice is drawn, the text spoken, and the sound made worse in everyday ways."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve  # type: ignore[import-untyped, unused-ignore]
from transformers import WhisperFeatureExtractor

from tests.training.espeak import SAMPLE_RATE_HZ, Synthesizer, UnknownVoice, trim
from tests.training.vocabulary import Language, words_of

Samples = NDArray[np.float32]

HELD_OUT_VARIANTS = ("m4", "m7", "f3", "Andy", "david", "Lee")
"""Never trained on, so that a test can ask about an unknown speaker."""

# What is left out of espeak-ng 1.51 are the whispering, shouting and robot voices.
VARIANTS = words_of(
    """m1 m2 m3 m5 m6 m8 f1 f2 f4 f5 klatt klatt2 klatt3 klatt4 klatt5 klatt6 Alex Alicia Andrea Annie AnxiousAndy Denis
    Diogo Gene Gene2 Henrique Hugo Jacky Marco Mario Michael Mike Nguyen RicishayMax RicishayMax2 RicishayMax3 Storm
    Tweaky adam anika antonio aunty belinda benjamin boris caleb croak ed edward edward2 fast grandma grandpa gustave
    iven iven2 iven3 iven4 john kaukovalta linda marcelo max michel miguel norbert pablo paul pedro quincy rob robert
    sandro shelby steph steph2 steph3 travis victor zac"""
)
CLEAR_VARIANTS = ("m1", "m2", "m3", "m8", "f1", "f2", "f4", "klatt", "Alex", "Andrea", "Annie", "adam", "Michael", "Mike")
"""Drawn more often than the rest, whose vowels espeak-ng distorts."""

DEFAULT_VOICES = {"en": "en-us", "de": "de", "es": "es", "zh": "cmn-latn-pinyin"}
"""The plain `cmn` voice of espeak-ng 1.51 reads tone numbers aloud in English; the pinyin one reads Han characters well."""
ACCENTS = {
    "en": ("en-us",) * 5 + ("en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"),
    "de": ("de",),
    "es": ("es", "es", "es-419"),
    "zh": ("cmn-latn-pinyin",),
}

_FEATURES = WhisperFeatureExtractor(feature_size=128)  # type: ignore[no-untyped-call, unused-ignore]
_MEL_FILTERS = torch.tensor(_FEATURES.mel_filters, dtype=torch.float32).T.contiguous()
_WINDOW = torch.hann_window(400)
MEL_RANGE = 2.0
"""How far the log-mel of a clip reaches below its loudest bin: eight decades, divided by four."""


def log_mel(samples: Samples) -> torch.Tensor:
    """The features that the stock processor computes, shape (128, frames) with a frame every 10 ms."""
    spectrum = torch.stft(torch.from_numpy(samples), 400, 160, window=_WINDOW, return_complex=True)[:, :-1].abs() ** 2
    mel = torch.clamp(_MEL_FILTERS @ spectrum, min=1e-10).log10()
    return (torch.maximum(mel, mel.max() - 4 * MEL_RANGE) + 4) / 4


@dataclass(frozen=True)
class Manner:
    """How a text is said: ranges to draw from."""

    variants: tuple[str, ...] = VARIANTS
    default_variant_share: float = 0.2
    clear_variant_share: float = 0.3
    accents: dict[str, tuple[str, ...]] = field(default_factory=lambda: ACCENTS)
    rates_wpm: tuple[int, int] = (120, 215)
    pitches: tuple[int, int] = (25, 75)
    ranges: tuple[int, int] = (20, 80)
    word_by_word_share: float = 0.25
    """Utterances put together from words spoken alone, with pauses between them."""


CLEAR_MANNER = Manner(default_variant_share=0.5, clear_variant_share=0.4)
"""Mostly the voices that tests use."""
DEFAULT_MANNER = Manner(
    default_variant_share=1.0,
    accents={code: (voice,) for code, voice in DEFAULT_VOICES.items()},
    rates_wpm=(150, 175),
    pitches=(40, 60),
    ranges=(40, 60),
    word_by_word_share=0.0,
)
"""The voices as they come, at an everyday speed."""

UNSEEN_MANNER = Manner(
    variants=HELD_OUT_VARIANTS,
    default_variant_share=0.0,
    clear_variant_share=0.0,
    accents={code: (voice,) for code, voice in DEFAULT_VOICES.items()},
    rates_wpm=(140, 190),
    word_by_word_share=0.0,
)


class Speaker:
    """Says word sequences, each in a voice drawn at random."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._synthesizer = Synthesizer()
        self._missing_voices: set[str] = set()

    def say(self, language: Language, words: tuple[str, ...], manner: Manner) -> Samples:
        """One clean utterance with some silence around it, shape (n,), at least half a second long, peak 1."""
        while True:
            voice = self._draw_voice(language, manner)
            try:
                speech = self._speak(words, voice, manner)
                break
            except UnknownVoice:
                self._missing_voices.add(voice)
        lead, tail = (np.zeros(round(_silence_s(self._rng) * SAMPLE_RATE_HZ), np.float32) for _ in range(2))
        samples = np.concatenate([lead, speech / max(1e-3, float(np.abs(speech).max(initial=0.0))), tail])
        return np.pad(samples, (0, max(0, SAMPLE_RATE_HZ // 2 - len(samples))))

    def _draw_voice(self, language: Language, manner: Manner) -> str:
        while True:
            accent, kind = self._rng.choice(manner.accents[language.code]), self._rng.random()
            if kind < manner.default_variant_share:
                return accent
            clear = kind < manner.default_variant_share + manner.clear_variant_share
            voice = f"{accent}+{self._rng.choice(CLEAR_VARIANTS if clear else manner.variants)}"
            if voice not in self._missing_voices:
                return voice

    def _speak(self, words: tuple[str, ...], voice: str, manner: Manner) -> Samples:
        rate, pitch, pitch_range = (self._rng.randint(*limits) for limits in (manner.rates_wpm, manner.pitches, manner.ranges))
        if self._rng.random() >= manner.word_by_word_share:
            gap = self._rng.choice((0, 0, 0, 2, 5))
            return trim(self._synthesizer.speak(" ".join(words), voice, rate, pitch, pitch_range, gap))
        pieces: list[Samples] = []
        for word in words:
            gap_s = self._rng.uniform(0, self._rng.choice((0.08, 0.35))) if pieces else 0.0
            pieces.append(np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.float32))
            pieces.append(trim(self._synthesizer.speak(word, voice, rate, pitch, pitch_range)))
        return np.concatenate(pieces)


def _silence_s(rng: random.Random) -> float:
    return rng.uniform(0, rng.choice((0.15, 0.6)))


def noise(rng: random.Random, length: int) -> Samples:
    """White, pink or brown noise of unit power, shape (length,)."""
    color = rng.randint(0, 2)
    samples = np.random.default_rng(rng.getrandbits(32)).standard_normal(length).astype(np.float32)
    if color:
        spectrum = np.fft.rfft(samples)
        samples = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** (0.5 * color), length).astype(np.float32)
    return np.asarray(samples / (np.sqrt((samples**2).mean()) + 1e-9), dtype=np.float32)


def worsen(rng: random.Random, samples: Samples, snr_db: tuple[float, float] = (8, 40)) -> Samples:
    """The samples with an echo, noise and a gain, each at times; shape (n,) to (n,), peak at most 0.94."""
    if rng.random() < 0.25:
        samples = _reverberate(rng, samples)
    if rng.random() < 0.6:
        level = np.sqrt((samples**2).mean()) * 10 ** (-rng.uniform(*snr_db) / 20)
        samples = samples + noise(rng, len(samples)) * level
    gain = 10 ** (rng.uniform(-22, -0.5) / 20)
    return np.asarray(samples / max(1e-3, float(np.abs(samples).max())) * gain, dtype=np.float32)


def _reverberate(rng: random.Random, samples: Samples) -> Samples:
    length = round(rng.uniform(0.05, 0.3) * SAMPLE_RATE_HZ)
    decay = np.exp(-np.arange(length) / length * rng.uniform(4, 8)) * rng.uniform(0.02, 0.12)
    response = np.random.default_rng(rng.getrandbits(32)).standard_normal(length) * decay
    response[0] = 1
    return np.asarray(fftconvolve(samples, response)[: len(samples)], dtype=np.float32)


def no_speech(rng: random.Random, seconds: float) -> Samples:
    """Digital silence or steady noise at any everyday level, shape (n,)."""
    length = round(seconds * SAMPLE_RATE_HZ)
    if rng.random() < 0.3:
        return np.zeros(length, np.float32)
    return np.asarray((noise(rng, length) * 10 ** (rng.uniform(-60, -12) / 20)).clip(-1, 1), dtype=np.float32)
