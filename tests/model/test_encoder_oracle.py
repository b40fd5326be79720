"""Audio tokens against the stock encoder, with the mask of the windows that it forgets to pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from asr_service.model.attention import FlashWindows, WindowAttention, sdpa_windows
from asr_service.model.checkpoint import Checkpoint
from asr_service.model.encoder import AudioEncoder
from asr_service.model.features import Window, windows_of
from asr_service.model.layers import TensorSource
from asr_service.model.mel import MelExtractor
from asr_service.request import Samples
from tests.model.conftest import Pair
from tests.model.sounds import lively
from tests.unit.model.test_attention import varlen_by_hand

CPU = torch.device("cpu")
SECONDS = [0.5, 0.61, 0.9, 0.995, 1.0, 1.01, 1.37, 2.0, 5.55, 7.99, 8.0, 8.01, 9.5, 12.34, 16.0, 20.2]


def make_encoder(pair: Pair, attention: WindowAttention = sdpa_windows) -> AudioEncoder:
    checkpoint = Checkpoint.open(pair.folder)
    source = TensorSource(checkpoint.tensors(torch.float32, CPU), CPU, torch.float32)
    return AudioEncoder(checkpoint.config.audio, source, attention)


@pytest.fixture(scope="module", params=[sdpa_windows, FlashWindows(varlen_by_hand)], ids=["sdpa", "flash"])
def encoder(mid: Pair, request: pytest.FixtureRequest) -> AudioEncoder:
    return make_encoder(mid, request.param)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def cut(pair: Pair, samples: Samples) -> tuple[Window, ...]:
    return windows_of(samples, MelExtractor(), Checkpoint.open(pair.folder).config.audio)


def clip(seconds: float) -> Samples:
    return lively(round(seconds * 16_000), seed=round(seconds * 100))


def assert_alike(ours: torch.Tensor, stock: torch.Tensor) -> None:
    """Within float32 rounding of values of about 2."""
    torch.testing.assert_close(ours, stock, atol=3e-5, rtol=0)


@pytest.mark.parametrize("seconds", SECONDS)
def test_tokens_are_those_of_the_stock_encoder(mid: Pair, encoder: AudioEncoder, seconds: float) -> None:
    assert_alike(torch.cat(encoder.encode(cut(mid, clip(seconds)))), mid.stock.encode(clip(seconds)))


def test_windows_of_many_clips_in_one_batch_are_those_of_each_alone(mid: Pair, encoder: AudioEncoder) -> None:
    clips = [cut(mid, clip(seconds)) for seconds in SECONDS]

    together = encoder.encode([window for windows in clips for window in windows])

    alone = [tokens for windows in clips for window in windows for tokens in encoder.encode([window])]
    for batched, single in zip(together, alone, strict=True):
        assert_alike(batched, single)


def test_so_are_they_padded_to_one_dense_batch_as_on_a_gpu(
    mid: Pair, encoder: AudioEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = [window for seconds in SECONDS for window in cut(mid, clip(seconds))]
    grouped = encoder.encode(windows)
    monkeypatch.setattr(encoder, "_batches", lambda windows: [list(range(len(windows)))])

    dense = encoder.encode(windows)

    for padded, exact in zip(dense, grouped, strict=True):
        assert_alike(padded, exact)


def test_a_window_does_not_hear_what_happens_in_another(mid: Pair, encoder: AudioEncoder) -> None:
    before = clip(20.2)
    after = before.copy()
    after[16_000:32_000] = lively(16_000, seed=5)

    tokens, changed = (encoder.encode(cut(mid, samples)) for samples in (before, after))

    assert [torch.equal(a, b) for a, b in zip(tokens, changed, strict=True)] == [False, True, True]


def test_these_weights_would_show_a_missing_mask(mid: Pair) -> None:
    """Else the tests above would prove nothing."""
    samples = clip(12.34)

    masked, unmasked = (mid.stock.encode(samples, block_mask=mask) for mask in (True, False))

    assert (masked - unmasked).abs().max() > 0.1


def test_up_to_eight_seconds_the_mask_changes_nothing(mid: Pair) -> None:
    masked, unmasked = (mid.stock.encode(clip(8.0), block_mask=mask) for mask in (True, False))

    assert_alike(masked, unmasked)


@pytest.mark.parametrize("seconds", [0.7, 0.9])
def test_filling_the_chunk_of_a_clip_below_one_second_would_change_its_tokens(
    mid: Pair, encoder: AudioEncoder, seconds: float
) -> None:
    window = cut(mid, clip(seconds))[0]

    kept, filled = encoder.encode([window, Window(window.mel, fills_chunk=True)])

    assert not window.fills_chunk
    assert (kept - filled).abs().max() > 1e-3


def test_other_sizes_and_the_trained_weights_agree_too(tied: Pair, small: Pair) -> None:
    for pair in (tied, small):
        for seconds in (0.7, 3.21, 12.34):
            ours = torch.cat(make_encoder(pair).encode(cut(pair, clip(seconds))))
            assert_alike(ours, pair.stock.encode(clip(seconds)))


def test_a_loud_end_changes_the_floor_of_the_first_window_as_in_the_stock_package(mid: Pair, encoder: AudioEncoder) -> None:
    samples = clip(12.34) * np.float32(1e-4)
    samples[-16_000:] *= 1e4

    assert_alike(torch.cat(encoder.encode(cut(mid, samples))), mid.stock.encode(samples))
