"""The screened head chooses what the whole head would, whatever the weights and the rows are like."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from asr_service.model.sampling import Rule, choose
from asr_service.model.screened_head import ScreenedHead

VOCABULARY, HIDDEN = 6000, 96


def rows(n: int, seed: int, outlier: float = 1.0) -> torch.Tensor:
    x = torch.randn(n, HIDDEN, generator=torch.Generator().manual_seed(seed))
    x[:, seed % HIDDEN] *= outlier
    return x


def weights(seed: int, spread: float) -> torch.Tensor:
    """`spread`: how unlike each other the rows' sizes are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, HIDDEN, generator=generator) * torch.rand(VOCABULARY, 1, generator=generator) ** spread


@pytest.mark.parametrize("outlier", [1.0, 40.0])
@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("n", [1, 3, 16])
def test_it_chooses_what_the_whole_head_does(n: int, spread: float, outlier: float) -> None:
    for seed in range(6):
        weight, x = weights(seed, spread), rows(n, seed, outlier)
        whole = choose(functional.linear(x, weight), [Rule()] * n)

        screened = ScreenedHead(weight).likeliest(x)

        assert screened is not None
        assert [token.id for token in screened] == [token.id for token in whole]
        assert [token.logprob for token in screened] == pytest.approx([token.logprob for token in whole], abs=0.01)


def test_between_rows_that_8_bits_cannot_tell_apart_it_decides_in_full_precision() -> None:
    weight, x = weights(1, 0.0), rows(1, 1)
    best = int(functional.linear(x, weight).argmax())
    for other in range(0, 400, 2):
        if other != best:
            weight[other] = weight[best] * (1 - 1e-5)
    weight[4001] = weight[best] * (1 + 1e-5)

    screened = ScreenedHead(weight).likeliest(x)

    assert screened is not None
    assert screened[0].id == 4001


def test_of_equal_ones_the_first_is_taken() -> None:
    weight, x = weights(2, 0.0), rows(1, 2)
    weight[17] = weight[5000] = 3 * weight[int(functional.linear(x, weight).argmax())]

    screened = ScreenedHead(weight).likeliest(x)

    assert screened is not None
    assert screened[0].id == 17


def test_weights_in_16_bits_are_screened_too() -> None:
    weight, x = weights(3, 1.0).bfloat16(), rows(5, 3).bfloat16()

    screened = ScreenedHead(weight).likeliest(x)

    assert screened is not None
    whole = choose(functional.linear(x, weight), [Rule()] * 5)
    assert [token.id for token in screened] == [token.id for token in whole]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_rows_that_tell_nothing_are_left_to_the_whole_head(value: float) -> None:
    x = rows(2, 4)
    x[1] = value

    assert ScreenedHead(weights(4, 0.0)).likeliest(x) is None


def test_a_head_of_which_too_much_is_left_is_read_whole() -> None:
    weight = weights(5, 0.0)[:1].expand(VOCABULARY, -1).contiguous()

    assert ScreenedHead(weight).likeliest(rows(1, 5)) is None
