"""Greedy tokens against the stock package's own `generate`: always the same, however the work is cut up.

A choice by a margin that float32 sums in another order may turn round is no difference; such near-ties are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from asr_service.engine.step_model import Token
from asr_service.model.screened_head import ScreenedHead
from asr_service.request import Samples, Work
from tests.model.conftest import N_TOKENS, Pair
from tests.model.driving import make_work
from tests.model.sounds import lively
from tests.model.stock import Decoded, NearTies

UP_TO_A_WINDOW = [
    8000,
    8039,
    9600,
    13_333,
    15_920,
    15_999,
    16_000,
    16_039,
    16_040,
    16_485,
    31_999,
    41_234,
    64_000,
    127_999,
    128_000,
]
LONGER = [128_160, 136_000, 150_007, 200_020, 256_000, 300_001]


def clip(n_samples: int) -> Samples:
    return lively(n_samples, seed=n_samples)


@pytest.fixture(scope="module")
def mid_oracle(mid: Pair) -> dict[int, Decoded]:
    return {n: mid.stock.greedy(clip(n), N_TOKENS) for n in (*UP_TO_A_WINDOW, *LONGER)}


def works(lengths: Sequence[int]) -> list[Work]:
    return [make_work(clip(n), uid) for uid, n in enumerate(lengths)]


@pytest.mark.parametrize("n_samples", UP_TO_A_WINDOW)
def test_a_clip_of_up_to_8_s_has_the_tokens_of_the_stock_package_as_shipped(
    mid: Pair, near_ties: NearTies, n_samples: int
) -> None:
    stock = mid.stock.greedy(clip(n_samples), N_TOKENS, block_mask=False)

    near_ties.compare(mid.driver.alone(make_work(clip(n_samples))), stock)

    assert len(stock.ids) == N_TOKENS
    assert len(set(stock.ids)) > N_TOKENS / 2


@pytest.mark.parametrize("n_samples", LONGER)
def test_a_longer_clip_has_those_of_the_stock_package_with_its_mask(
    mid: Pair, mid_oracle: dict[int, Decoded], near_ties: NearTies, n_samples: int
) -> None:
    near_ties.compare(mid.driver.alone(make_work(clip(n_samples))), mid_oracle[n_samples])


def test_strangers_in_the_batch_change_nothing(mid: Pair, mid_oracle: dict[int, Decoded], near_ties: NearTies) -> None:
    lengths = [*UP_TO_A_WINDOW, *LONGER]

    replies = mid.driver.replies(works(lengths))

    for n, reply in zip(lengths, replies, strict=True):
        near_ties.compare(reply.ids, mid_oracle[n])


@pytest.mark.parametrize("seed", range(4))
def test_neither_do_chunks_pauses_and_evictions(
    mid: Pair, mid_oracle: dict[int, Decoded], near_ties: NearTies, seed: int
) -> None:
    lengths = [*UP_TO_A_WINDOW[seed::3], *LONGER[seed % 2 :: 2]]
    before = mid.model.counters

    replies = mid.driver.in_any_order(works(lengths), seed)

    for n, reply in zip(lengths, replies, strict=True):
        near_ties.compare(reply.ids, mid_oracle[n])
    assert mid.model.counters.encoder_windows - before.encoder_windows == sum(-(-(n // 160) // 800) for n in lengths)


def test_a_tied_head_and_other_sizes_do_as_well(tied: Pair, near_ties: NearTies) -> None:
    lengths = [8000, 15_999, 20_000, 64_039, 140_000]
    stock = [tied.stock.greedy(clip(n), N_TOKENS) for n in lengths]

    for seed in range(2):
        for reply, expected in zip(tied.driver.in_any_order(works(lengths), seed), stock, strict=True):
            near_ties.compare(reply.ids, expected)

    assert sum(len(set(expected.ids)) for expected in stock) > len(stock) * N_TOKENS / 2


def test_a_vocabulary_that_is_screened_does_as_well(wide: Pair, near_ties: NearTies, monkeypatch: pytest.MonkeyPatch) -> None:
    n_screened = 0
    screen = ScreenedHead.likeliest

    def likeliest(head: ScreenedHead, x: torch.Tensor) -> list[Token] | None:
        nonlocal n_screened
        tokens = screen(head, x)
        n_screened += 0 if tokens is None else len(tokens)
        return tokens

    monkeypatch.setattr(ScreenedHead, "likeliest", likeliest)
    lengths = [8000, 20_000, 64_039, 140_000]
    stock = [wide.stock.greedy(clip(n), N_TOKENS) for n in lengths]

    for seed in range(2):
        for reply, expected in zip(wide.driver.in_any_order(works(lengths), seed), stock, strict=True):
            near_ties.compare(reply.ids, expected)

    assert n_screened == 2 * len(lengths) * N_TOKENS
    assert sum(len(set(expected.ids)) for expected in stock) > len(stock) * N_TOKENS / 2
