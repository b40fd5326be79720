"""The small pieces that the encoder and the decoder are made of, and how their weights are taken out of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """x W^T + b; W as stored: (out, in), or a convolution's kernel."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer norm over the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class RmsNorm:
    """Root-mean-square norm over the last axis, taken in float32 and scaled in the model's own type.

    `weight` may have more axes: (heads, head_dim) scales each head on its own.
    """

    weight: torch.Tensor
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            return self.weight * functional.rms_norm(x, x.shape[-1:], None, self.eps)
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class TensorSource:
    """A checkpoint's tensors by name. Each is taken out once, so that joining weights does not hold them twice."""

    tensors: dict[str, torch.Tensor]
    device: torch.device
    dtype: torch.dtype
    prefix: str = ""

    def within(self, prefix: str) -> TensorSource:
        return TensorSource(self.tensors, self.device, self.dtype, self.prefix + prefix)

    def take(self, name: str) -> torch.Tensor:
        return self.tensors.pop(self.prefix + name)

    def affine(self, name: str) -> Affine:
        return Affine(self.take(f"{name}.weight"), self._bias(name))

    def joined(self, *names: str) -> Affine:
        """Several projections of the same input as one."""
        biases = [bias for name in names if (bias := self._bias(name)) is not None]
        return Affine(
            torch.cat([self.take(f"{name}.weight") for name in names]),
            torch.cat(biases) if biases else None,
        )

    def norm(self, name: str) -> Norm:
        return Norm(self.take(f"{name}.weight"), self.take(f"{name}.bias"))

    def rms_norm(self, name: str, eps: float) -> RmsNorm:
        return RmsNorm(self.take(f"{name}.weight"), eps)

    def _bias(self, name: str) -> torch.Tensor | None:
        return self.tensors.pop(f"{self.prefix}{name}.bias", None)


def activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """An activation by its name in config files. Raises KeyError for one that these models do not use."""
    activations: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": functional.gelu, "silu": functional.silu}
    return activations[name]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host tensor on the device; the copy to a GPU goes through page-locked memory and is not waited for."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
