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
    by length. `n_scratch` places behind those of the sequences are for rows that stand for nobody.
    """

    def __init__(
        self, config: TextConfig, n_tokens: int, dtype: torch.dtype, device: torch.device, *, n_scratch: int = 0
    ) -> None:
        shape = (config.n_layers, 2, config.n_kv_heads, n_tokens + n_scratch, config.head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=device)
        self._n_tokens = n_tokens

    @property
    def n_tokens(self) -> int:
        """Places for sequences."""
        return self._n_tokens

    @property
    def scratch(self) -> int:
        """The first of the scratch places."""
        return self._n_tokens

    def scribble(self, n_tokens: int) -> None:
        """Random keys and values in the first places, for checks while nobody's are there."""
        self._buffer[:, :, :, :n_tokens].normal_()

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Rows (R, kv_heads, head_dim) to places (R,)."""
        self._buffer[layer, 0].index_copy_(1, places, keys.transpose(0, 1))
        self._buffer[layer, 1].index_copy_(1, places, values.transpose(0, 1))

    def copy(self, start: int, to: int, n_tokens: int) -> None:
        """All layers' keys and values of so many tokens, from the places from `start` on to those from `to` on. The two may not
        overlap."""
        self._buffer[:, :, :, to : to + n_tokens] = self._buffer[:, :, :, start : start + n_tokens]

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer: each (kv_heads, places, head_dim), the buffer itself, scratch included."""
        return self._buffer[layer, 0], self._buffer[layer, 1]
