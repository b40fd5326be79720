"""From logits to the next token of each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr_service.engine.step_model import Token


@dataclass(frozen=True, slots=True)
class Rule:
    """How one row's token is chosen. `allowed`: the only tokens that may be; None: any. `temperature` 0 takes the likeliest;
    above it `seed` draws the token, so that a row always draws the same one, whoever is beside it."""

    allowed: tuple[int, ...] | None = None
    temperature: float = 0.0
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """The likeliest of all tokens is taken."""
        return self.allowed is None and self.temperature <= 0


def draw_seed(uid: int, position: int) -> int:
    """A seed of its own for every token of every sequence; a step that is run again draws the same."""
    return (uid << 20 ^ position) & 0x7FFF_FFFF_FFFF_FFFF


def choose(logits: torch.Tensor, rules: Sequence[Rule]) -> list[Token]:
    """A token per row of logits (Y, vocabulary), with its log-probability among those allowed, at temperature 1.

    Raises FloatingPointError when a row holds a NaN.
    """
    scores = _restrict(logits.float(), rules)
    chosen = scores.argmax(dim=-1)
    for row, rule in enumerate(rules):
        if rule.temperature > 0:
            chosen[row] = _draw(scores[row] / rule.temperature, rule.seed)
    logprobs = (scores.gather(1, chosen[:, None])[:, 0] - scores.logsumexp(dim=-1)).tolist()
    if any(map(math.isnan, logprobs)):
        raise FloatingPointError("the model's output is not a number")
    return [Token(id_, logprob) for id_, logprob in zip(chosen.tolist(), logprobs, strict=True)]


def _restrict(scores: torch.Tensor, rules: Sequence[Rule]) -> torch.Tensor:
    restricted = {row: list(rule.allowed) for row, rule in enumerate(rules) if rule.allowed is not None}
    if not restricted:
        return scores
    scores = scores.clone()
    for row, allowed in restricted.items():
        kept = scores[row, allowed]
        scores[row] = float("-inf")
        scores[row, allowed] = kept
    return scores


def _draw(scores: torch.Tensor, seed: int) -> torch.Tensor:
    """One of (vocabulary,), by its softmax; a scalar on the scores' device."""
    uniform = torch.rand((), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).item()
    mass = scores.double().softmax(dim=0).cumsum(dim=0)
    return torch.searchsorted(mass, mass[-1:] * uniform, right=True)[0].clamp(max=len(scores) - 1)
