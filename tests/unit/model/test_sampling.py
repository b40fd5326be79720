"""The next token of each row."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from asr_service.model.sampling import Rule, choose, draw_seed

LOGITS = torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 0.0, 0.0, 4.0]])


def test_the_likeliest_token_is_taken_with_its_log_probability() -> None:
    first, second = choose(LOGITS, [Rule(), Rule()])

    assert (first.id, second.id) == (1, 0)
    assert first.logprob == pytest.approx(3 - math.log(1 + math.e + math.e**2 + math.e**3), abs=1e-6)


def test_a_row_with_allowed_tokens_takes_one_of_them_and_the_others_are_free() -> None:
    first, second = choose(LOGITS.clone(), [Rule(allowed=(0, 2)), Rule()])

    assert (first.id, second.id) == (2, 0)
    assert first.logprob == pytest.approx(1 - math.log(1 + math.e), abs=1e-6)


def test_a_drawn_token_depends_on_its_seed_and_not_on_its_row() -> None:
    rule = Rule(temperature=1.0, seed=draw_seed(7, 30))

    alone = choose(LOGITS[:1], [rule])[0]
    beside = choose(LOGITS[[1, 0]], [Rule(temperature=1.0, seed=3), rule])[1]

    assert alone == beside


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    drawn = Counter(choose(LOGITS[:1], [Rule(temperature=2.0, seed=draw_seed(1, position))])[0].id for position in range(2000))

    expected = (LOGITS[0] / 2).softmax(0).tolist()
    for token, probability in enumerate(expected):
        assert drawn[token] / 2000 == pytest.approx(probability, abs=0.04)


def test_a_token_that_is_not_allowed_is_never_drawn() -> None:
    drawn = {choose(LOGITS[:1], [Rule((1, 3), 5.0, seed)])[0].id for seed in range(60)}

    assert drawn == {1, 3}


def test_half_precision_logits_are_compared_in_float32() -> None:
    token = choose(LOGITS[:1].bfloat16(), [Rule()])[0]

    assert token.id == 1
    assert token.logprob == pytest.approx(LOGITS[0].log_softmax(0)[1].item(), abs=1e-6)


def test_an_output_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="not a number"):
        choose(torch.tensor([[float("nan"), 1.0]]), [Rule()])
