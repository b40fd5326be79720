"""The operations between the projections of a decode step: in plain torch, or fused for a GPU.

They are written for graphs: no shape depends on how long a sequence is; lengths are read from a tensor on the device.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from asr_service.model.config import TextConfig
from asr_service.model.decoder import rotate
from asr_service.model.layers import RmsNorm, activation

Rotation = tuple[torch.Tensor, torch.Tensor]


class DecodeOps(Protocol):
    """One row per sequence: R rows. `keys`, `values`: one layer's cache, (kv_heads, places, head_dim)."""

    def add_norm(self, x: torch.Tensor, update: torch.Tensor | None, norm: RmsNorm) -> tuple[torch.Tensor, torch.Tensor]:
        """x + update, and its norm: both (R, hidden)."""
        ...

    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        norm: RmsNorm,
        rotation: Rotation,
        places: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """(R, (heads + 2 kv_heads) head_dim): queries and keys are normed and rotated, keys and values go to `places` (R,).
        Gives the queries, (R, heads, head_dim)."""
        ...

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, begins: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Row r over the places begins[r] .. begins[r] + positions[r]. Gives (R, heads, head_dim)."""
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(R, 2 ffn): the activation of the first half times the second half."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PlainOps:
    """torch's own operations. Attention looks at `n_keys` places of every row, of which those beyond its length are masked."""

    config: TextConfig
    n_keys: int

    def add_norm(self, x: torch.Tensor, update: torch.Tensor | None, norm: RmsNorm) -> tuple[torch.Tensor, torch.Tensor]:
        x = x if update is None else x + update
        return x, norm(x)

    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        norm: RmsNorm,
        rotation: Rotation,
        places: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        heads, kv_heads = self.config.n_heads, self.config.n_kv_heads
        split = qkv.unflatten(-1, (heads + 2 * kv_heads, self.config.head_dim))
        qk = rotate(norm(split[:, : heads + kv_heads]), rotation)
        keys.index_copy_(1, places, qk[:, heads:].transpose(0, 1))
        values.index_copy_(1, places, split[:, heads + kv_heads :].transpose(0, 1))
        return qk[:, :heads]

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, begins: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        offsets = torch.arange(self.n_keys, device=q.device)
        places = (begins[:, None] + offsets).clamp(max=keys.shape[1] - 1)  # (R, n_keys)
        seen = (offsets <= positions[:, None])[:, None, None]  # (R, 1, 1, n_keys)
        # What lies beyond a sequence may be anything, also not a number, which a mask on the scores alone would let through.
        k, v = (
            torch.where(seen.mT, x[:, places].transpose(0, 1), 0) for x in (keys, values)
        )  # (R, kv_heads, n_keys, head_dim)
        mixed = functional.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=seen, enable_gqa=True)
        return mixed[:, :, 0]

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return activation(self.config.activation)(gate) * up


def has_fused_ops(config: TextConfig, device: torch.device) -> bool:
    """Whether the fused operations can run here: Triton is installed (it comes with torch for CUDA) and the sizes suit it."""
    is_power = config.head_dim & (config.head_dim - 1) == 0
    is_fit = is_power and config.head_dim >= 16 and config.activation == "silu"
    return device.type == "cuda" and is_fit and importlib.util.find_spec("triton") is not None


def fused_ops(config: TextConfig, max_rows: int) -> DecodeOps:
    """Raises ImportError where Triton is not installed."""
    from asr_service.model.kernels import FusedOps

    return FusedOps(config.n_heads, config.n_kv_heads, config.head_dim, max_rows)
