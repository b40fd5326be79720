"""Weights in 8 bits on a CPU: a quarter of the bytes, and the processor's integer units.

A row of weights has one scale, greatest / 127; inputs are quantised when they come, each row by its own greatest value, so that
a row's result depends on itself alone and not on who else is in the batch. Products are summed exactly, in 32-bit integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LEVELS = 127
_ZERO = 128


def can_quantize() -> bool:
    """Whether this build of torch has the kernels."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_prepack")


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """(out, in) weights for `product`. `scales`: (out,) float32, the value of one step."""

    packed: torch.Tensor  # in the layout of the integer kernel
    scales: torch.Tensor
    zeros: torch.Tensor  # (out,) the kernel wants them

    @classmethod
    def of(cls, weight: torch.Tensor) -> Int8Weight:
        """Rounds each weight to the nearest step: it is off by half a step at most."""
        scales = weight.abs().amax(dim=1).float().clamp_(min=torch.finfo(torch.float32).tiny * LEVELS) / LEVELS
        steps = torch.round(weight / scales[:, None]).to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(steps, None)
        return cls(packed, scales, torch.zeros(len(scales), dtype=torch.int64))

    def product(self, steps: torch.Tensor, step: float = 1.0) -> torch.Tensor:
        """Rows of int8 (R, in), of the value `step` each, times the weights: (R, out) float32."""
        # As uint8 around 128: the integer sums are the same, and CPUs without AMX have no fast kernel for two signed sides
        # (VNNI multiplies unsigned by signed; the fallback takes a thousand times as long).
        shifted = steps.view(torch.uint8).bitwise_xor(_ZERO)
        y: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            shifted, step, _ZERO, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y


@dataclass(frozen=True, slots=True, eq=False)
class Int8Affine:
    """x W^T + b with W in 8 bits; the place of layers.Affine. x: (R, in), of any float type; so is the result."""

    weight: Int8Weight
    bias: torch.Tensor | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Int8Affine:
        return cls(Int8Weight.of(weight), bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        step = x.abs().amax(dim=-1, keepdim=True).float().div_(LEVELS)
        steps = torch.round(x / step.clamp_(min=torch.finfo(torch.float32).tiny)).to(torch.int8)
        y = self.weight.product(steps).mul_(step).to(x.dtype)
        return y if self.bias is None else y.add_(self.bias)
