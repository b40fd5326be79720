"""Clips become windows."""

from __future__ import annotations

import numpy as np
import pytest

from asr_service.model.config import AudioConfig
from asr_service.model.features import MIN_SAMPLES, cut_windows, model_samples, n_tokens, windows_of
from asr_service.model.mel import MelExtractor

CONFIG = AudioConfig(
    n_mels=128, n_layers=1, n_heads=1, d_model=8, ffn_dim=8, conv_channels=4, out_dim=8, chunk_frames=100, window_chunks=8,
    activation="gelu", max_positions=1500,
)  # fmt: skip
EXTRACTOR = MelExtractor()


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [(0, 0), (1, 1), (8, 1), (9, 2), (50, 7), (90, 12), (99, 13), (100, 13), (101, 14), (237, 31), (800, 104), (1000, 130)],
)
def test_a_second_gives_13_tokens_and_a_rest_one_for_every_8_frames(n_frames: int, expected: int) -> None:
    assert n_tokens(n_frames, CONFIG) == expected


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.5, [50]), (0.99, [99]), (1.0, [100]), (8.0, [800]), (8.01, [800, 1]), (20.5, [800, 800, 450])]
)
def test_a_clip_is_cut_into_windows_of_8_seconds(seconds: float, frames: list[int]) -> None:
    windows = windows_of(np.zeros(round(seconds * 16_000), np.float32), EXTRACTOR, CONFIG)

    assert [window.n_frames for window in windows] == frames


def test_only_a_clip_below_one_second_keeps_its_chunk_short() -> None:
    short = windows_of(np.zeros(15_999, np.float32), EXTRACTOR, CONFIG)
    longer = windows_of(np.zeros(8 * 16_000 + 800, np.float32), EXTRACTOR, CONFIG)

    assert [window.fills_chunk for window in short] == [False]
    assert [window.fills_chunk for window in longer] == [True, True]


@pytest.mark.parametrize("n_samples", [0, 1, 200, 201, 7999])
def test_a_very_short_clip_is_continued_with_silence(n_samples: int) -> None:
    samples = model_samples(np.full(n_samples, 0.25, np.float32))

    assert len(samples) == MIN_SAMPLES
    assert samples[:n_samples].tolist() == [0.25] * n_samples
    assert not samples[n_samples:].any()


def test_too_loud_samples_are_clipped_and_the_others_left_alone() -> None:
    loud = np.zeros(MIN_SAMPLES, np.float32)
    loud[:3] = [1.5, -2.0, 0.5]

    assert model_samples(loud)[:3].tolist() == [1.0, -1.0, 0.5]
    assert loud[0] == 1.5


def test_the_floor_is_that_of_the_whole_clip() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal(12 * 16_000) * 1e-5).astype(np.float32)
    quiet = windows_of(samples, EXTRACTOR, CONFIG)[0].mel
    samples[-16_000:] *= 1e5

    lifted = windows_of(samples, EXTRACTOR, CONFIG)[0].mel

    assert lifted.min() > quiet.min()
    assert len(cut_windows(lifted, CONFIG)) == 1
