"""Log-mel frames against the extractor of the stock package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asr_service.model.mel import MelExtractor, MelStream, normalise
from tests.model.conftest import Pair
from tests.model.sounds import lively

LENGTHS = [8000, 8001, 15_999, 16_000, 16_039, 16_040, 47_777, 160_000, 160_159]


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_frames_are_those_of_the_stock_extractor(mid: Pair, n_samples: int) -> None:
    samples = lively(n_samples)

    ours = MelExtractor().log_mel(samples)

    assert ours.shape == (128, n_samples // 160)
    torch.testing.assert_close(ours, mid.stock.mel(samples), atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_frames_of_a_stream_are_those_of_the_stock_extractor(mid: Pair, n_samples: int) -> None:
    samples = lively(n_samples, seed=1)
    stream = MelStream(MelExtractor())

    parts = [stream.push(part) for part in np.split(samples, range(1234, n_samples, 1234))]
    raw = torch.cat([*parts, stream.finish()], dim=1)

    torch.testing.assert_close(normalise(raw, stream.greatest), mid.stock.mel(samples), atol=1e-6, rtol=0)


def test_digital_silence_has_the_stock_frames(mid: Pair) -> None:
    silence = np.zeros(16_000, np.float32)

    assert torch.equal(MelExtractor().log_mel(silence), mid.stock.mel(silence))
