"""Mel frames of a stream are those of the whole clip."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.model.mel import HOP, MIN_SAMPLES, FloorWatch, MelExtractor, MelStream, mel_filters, normalise
from asr_service.request import Samples

EXTRACTOR = MelExtractor()


def noise(n_samples: int, seed: int = 0) -> Samples:
    return (np.random.default_rng(seed).standard_normal(n_samples) * 0.1).astype(np.float32)


@settings(deadline=None)  # the first call starts torch's threads
@given(
    n_samples=st.integers(MIN_SAMPLES, 9000), cuts=st.lists(st.integers(0, 9000), max_size=8), loud_from=st.integers(0, 9000)
)
def test_a_stream_has_the_frames_of_the_whole_clip_however_it_is_cut(n_samples: int, cuts: list[int], loud_from: int) -> None:
    samples = noise(n_samples)
    samples[loud_from:] *= 8
    stream = MelStream(EXTRACTOR)

    edges = [0, *sorted(min(cut, n_samples) for cut in cuts), n_samples]
    parts = [stream.push(samples[start:end]) for start, end in pairwise(edges)]
    raw = torch.cat([*parts, stream.finish()], dim=1)

    whole = EXTRACTOR.raw(samples)
    assert raw.shape == whole.shape == (128, n_samples // HOP)
    torch.testing.assert_close(raw, whole, atol=2e-6, rtol=0)
    assert stream.greatest == pytest.approx(float(whole.max()), abs=2e-6)


@settings(deadline=None)  # the first call starts torch's threads
@given(n_samples=st.integers(MIN_SAMPLES, 5000))
def test_frames_come_as_soon_as_nothing_can_change_them(n_samples: int) -> None:
    stream = MelStream(EXTRACTOR)

    n_frames = stream.push(noise(n_samples)).shape[1]

    assert n_frames == (n_samples - 200) // HOP + 1
    assert n_samples // HOP - n_frames == (1 if n_samples % HOP < 40 else 0)  # the mirrored one comes at the end


def test_a_clip_too_short_to_be_mirrored_has_no_frames() -> None:
    stream = MelStream(EXTRACTOR)

    assert stream.push(noise(MIN_SAMPLES - 1)).shape == (128, 0)
    assert stream.finish().shape == (128, 0)


def test_a_long_stream_keeps_no_more_than_a_frame_of_samples() -> None:
    stream = MelStream(EXTRACTOR)

    for _ in range(20):
        stream.push(noise(1600))

    assert len(stream._buffer) < 600


def test_only_windows_below_the_raised_floor_are_stale() -> None:
    watch = FloorWatch()
    quiet, loud = torch.tensor([[-6.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    watch.add(quiet, greatest=0.0)
    watch.add(loud, greatest=0.0)

    assert list(watch.stale(1.9)) == []
    assert list(watch.stale(2.5)) == [0]
    watch.renew(0, 2.5)
    assert list(watch.stale(2.5)) == []


@settings(deadline=None)  # the first call starts torch's threads
@given(st.floats(-8, 2), st.floats(0, 4))
def test_a_window_that_is_not_stale_looks_the_same_under_the_new_floor(smallest: float, rise: float) -> None:
    raw = torch.tensor([[smallest, 0.0]])
    watch = FloorWatch()
    watch.add(raw, greatest=0.0)

    is_same = torch.equal(normalise(raw, 0.0), normalise(raw, rise))

    assert is_same or list(watch.stale(rise)) == [0]


def test_every_mel_filter_hears_something_and_overlaps_its_neighbours_only() -> None:
    filters = mel_filters(128)

    assert (filters.max(axis=1) > 0).all()
    assert filters.shape == (128, 201)
    assert (filters[:-2] * filters[2:]).max() == 0
