"""Windows of a stretch that grows are those of the whole, and the same version always looks the same."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.model.config import AudioConfig
from asr_service.model.features import Window, windows_of
from asr_service.model.growing import GrowingSpeech, Grown
from asr_service.model.mel import MelExtractor
from asr_service.request import Samples

# Windows of half a second, so that short sounds have many.
CONFIG = AudioConfig(
    n_mels=128,
    n_layers=1,
    n_heads=1,
    d_model=8,
    ffn_dim=8,
    conv_channels=2,
    out_dim=8,
    chunk_frames=25,
    window_chunks=2,
    activation="gelu",
    max_positions=100,
)
EXTRACTOR = MelExtractor()
LONGEST = 40_000
BEFORE = (1, 2)


def sound(loud_from: int, gain: float) -> Samples:
    samples = np.random.default_rng(0).standard_normal(LONGEST) * 0.001
    samples[:3000] = 0.0
    samples[loud_from:] *= gain
    return samples.astype(np.float32)


def take(speech: GrowingSpeech, samples: Samples, *, is_exact: bool = True, before: tuple[int, ...] = BEFORE) -> Grown:
    return speech.take(samples, before, EXTRACTOR, CONFIG, is_exact=is_exact)


def assert_alike(ours: tuple[Window, ...], expected: tuple[Window, ...]) -> None:
    assert [(one.n_frames, one.fills_chunk) for one in ours] == [(one.n_frames, one.fills_chunk) for one in expected]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.mel, other.mel, atol=2e-6, rtol=0)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.tuples(st.integers(0, LONGEST), st.booleans()), min_size=1, max_size=8),
    loud_from=st.integers(0, LONGEST),
    gain=st.sampled_from((1.0, 30.0, 900.0)),
    grows=st.booleans(),
)
def test_an_exact_round_has_the_windows_of_the_whole(
    lengths: list[tuple[int, bool]], loud_from: int, gain: float, grows: bool
) -> None:
    samples, speech = sound(loud_from, gain), GrowingSpeech()
    looks: dict[int, torch.Tensor] = {}

    for length, is_exact in sorted(lengths) if grows else lengths:
        grown = take(speech, samples[:length], is_exact=is_exact)

        if is_exact:
            assert_alike(grown.windows, windows_of(samples[:length], EXTRACTOR, CONFIG))
        for version, window in zip(grown.versions, grown.windows, strict=False):
            assert torch.equal(looks.setdefault(version, window.mel), window.mel)
        assert all(window.n_frames == CONFIG.window_frames for window in grown.windows[: len(grown.versions)])


def test_louder_speech_renews_closed_windows_in_exact_rounds_only() -> None:
    samples, speech = sound(20_000, 900.0), GrowingSpeech()

    quiet = take(speech, samples[:20_000])
    guessed = take(speech, samples, is_exact=False)
    exact = take(speech, samples)

    assert len(quiet.versions) == 2
    assert guessed.versions[:2] == quiet.versions
    assert (guessed.n_renewed, exact.n_renewed) == (0, 2)
    assert not set(exact.versions[:2]) & set(quiet.versions)
    assert exact.versions[2:] == guessed.versions[2:]
    assert take(speech, samples).n_renewed == 0


def test_a_stretch_that_ends_earlier_keeps_the_windows_before_its_end() -> None:
    samples, speech = sound(0, 1.0), GrowingSpeech()

    whole = take(speech, samples)
    shorter = take(speech, samples[:30_000])

    assert len(whole.versions) == 4
    assert shorter.versions == whole.versions[:3]
    assert (whole.goes_on, shorter.goes_on) == (False, False)
    assert take(speech, samples[:31_000]).goes_on


def test_another_stretch_or_another_prompt_begins_anew() -> None:
    samples, speech = sound(0, 1.0), GrowingSpeech()
    first = take(speech, samples)

    other = take(speech, samples[::-1].copy())
    behind_another = take(speech, samples[::-1].copy(), before=(3,))

    assert not set(first.versions) & set(other.versions)
    assert not set(other.versions) & set(behind_another.versions)
    assert not behind_another.goes_on
