"""The key-value cache: one buffer for all sequences, of which each has a contiguous extent that the scheduler gives it."""

from __future__ import annotations

import torch

from asr_service.model.config import TextConfig


def bytes_per_token(config: TextConfig, dtype: torch.dtype) -> int:
    """What one token's keys and values take, over all layers."""
    return config.n_layers * 2 * config.n_kv_heads * config.head_dim * dtype.itemsize


class KvCache:
    """Keys and values by absolute place: a sequence's token at position p is at place extent.start + p.

    Nothing is ever cleared: what lies beyond a sequence's known tokens is garbage, and nobody looks there, because reads are
    by length.
    """

    def __init__(self, config: TextConfig, n_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (config.n_layers, 2, config.n_kv_heads, n_tokens, config.head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=device)

    @property
    def n_tokens(self) -> int:
        return self._buffer.shape[3]

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Rows (R, kv_heads, head_dim) to places (R,)."""
        self._buffer[layer, 0].index_copy_(1, places, keys.transpose(0, 1))
        self._buffer[layer, 1].index_copy_(1, places, values.transpose(0, 1))

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer: each (kv_heads, n_tokens, head_dim), the buffer itself."""
        return self._buffer[layer, 0], self._buffer[layer, 1]
