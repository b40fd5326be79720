"""The likeliest token of a large vocabulary without reading all of it in full precision.

The head is most of what a decoding step reads: 151 936 rows of which one is wanted. So it is kept a second time in 8 bits, a
quarter of the bytes and a fast product, and decides what is left to decide:

    approximate     every row's logit in 8 bits, with a bound on how far it can be off
    screen          only rows whose upper bound reaches the greatest lower bound can be the likeliest; mostly a few dozen
    decide          those few in full precision

The token is the one that the whole head would have chosen, always: the bound holds for any input. How far a logit can be off:
a weight by half its row's step, times the sum of |x|; and x, which is taken to 16 bits, by half of its own last step, times the
sum of the rounded weights.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from asr_service.engine.step_model import Token
from asr_service.model.quantized import LEVELS, Int8Weight, can_quantize

WORTHWHILE = 1 << 20
"""Weights from which a head is screened. Smaller ones are read faster than they are screened."""

_MOST = 8  # where more than one row in so many is left, the whole head is read
_ROUNDING = 1e-3  # of the bound: far more than what sums in float32 may be off


class ScreenedHead:
    """A head (vocabulary, hidden), on the CPU, with its copy in 8 bits."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight
        self._approximate = Int8Weight.of(weight)
        self._widest = float(self._approximate.scales.max()) / 2
        longest = float(torch.linalg.vector_norm(weight, 1, dim=1, dtype=torch.float32).max())
        self._longest = longest + weight.shape[1] * self._widest  # after rounding
        # In 16 bits the head's own logits are rounded, and equal ones must all be left.
        self._coarseness = 0.0 if weight.dtype == torch.float32 else 2 * torch.finfo(weight.dtype).eps

    def likeliest(self, x: torch.Tensor) -> list[Token] | None:
        """Each row's likeliest token, of rows (Y, hidden) that the final norm has left; of equal ones the first.

        The log-probability is that of full precision but for the 8 bits of the tokens that were screened out. None where
        screening does not help: the rows are not finite, or too much is left.
        """
        scores, margins = self._approximations(x.float())
        greatest = scores.amax(dim=1)
        if not bool(torch.isfinite(greatest).all()):
            return None
        # Twice the bound: the best may be overestimated and the others underestimated.
        floors = greatest - 2 * (margins * (1 + _ROUNDING) + self._coarseness * greatest.abs())
        left = (scores >= floors[:, None]).any(dim=0).nonzero()[:, 0]
        if len(left) * _MOST > len(self._weight):
            return None
        exact = functional.linear(x, self._weight[left]).float()
        scores[:, left] = exact
        logits, places = exact.max(dim=1)
        logprobs = (logits - scores.logsumexp(dim=1)).tolist()
        return [Token(id_, logprob) for id_, logprob in zip(left[places].tolist(), logprobs, strict=True)]

    def _approximations(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (Y, vocabulary) float32, and how far those of a row can be off at most, (Y,)."""
        step = x.abs().amax(dim=1, keepdim=True) / LEVELS
        coarse = torch.round(x / step)
        fine = torch.round((x / step - coarse) * (2 * LEVELS))
        both = torch.cat((coarse, fine)).to(torch.int8)
        high, low = self._approximate.product(both).chunk(2)
        scores = high.add_(low, alpha=1 / (2 * LEVELS)).mul_(step)
        error = step[:, 0] / (4 * LEVELS)
        return scores, self._widest * torch.linalg.vector_norm(x, 1, dim=1) + self._longest * error


def is_worthwhile(weight: torch.Tensor) -> bool:
    """Whether a head is large enough to be screened, and where it can be."""
    return weight.device.type == "cpu" and weight.numel() >= WORTHWHILE and can_quantize()
