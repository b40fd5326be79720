"""Attention, behind one seam per use: the windows of the encoder, and the decoder's rows over their own stretch of cache.

Whatever the backend, a query sees the keys of its own window or sequence only, and padding is never a key.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from asr_service.model.layers import to_device


@dataclass(frozen=True, slots=True, eq=False)
class WindowLengths:
    """How much of each window of a dense batch (N, W) is real, made once for all layers of the encoder.

    `key_mask`: (N, 1, 1, W) bool, True where there is a token; None when all windows are full. `valid`: places of the real
    tokens in the flattened batch, (R,) int64; `cu_seqlens`: (N + 1,) int32, where each window begins among them.
    """

    longest: int
    key_mask: torch.Tensor | None
    valid: torch.Tensor
    cu_seqlens: torch.Tensor

    @classmethod
    def of(cls, counts: Sequence[int], width: int, device: torch.device) -> WindowLengths:
        """All from numbers the host knows, so nothing waits for the device."""
        mask = torch.arange(width) < torch.tensor(counts)[:, None]
        ends = torch.tensor([0, *counts]).cumsum(0, dtype=torch.int32)
        return cls(
            longest=max(counts),
            key_mask=None if min(counts) == width else to_device(mask[:, None, None], device),
            valid=to_device(mask.flatten().nonzero()[:, 0], device),
            cu_seqlens=to_device(ends, device),
        )


class WindowAttention(Protocol):
    """Every token of a window sees every token of it, both ways."""

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: WindowLengths) -> torch.Tensor:
        """All (N, W, heads, head_dim); what stands at padded places of the result means nothing (but is finite)."""
        ...


def sdpa_windows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: WindowLengths) -> torch.Tensor:
    """Dense, with the padding masked as keys."""
    mixed = functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=lengths.key_mask
    )
    return mixed.transpose(1, 2)


FlashVarlen = Callable[..., torch.Tensor]
"""flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal=...), on packed (R, h, d)."""


@dataclass(frozen=True, slots=True)
class FlashWindows:
    """FlashAttention over the real tokens alone, packed end to end."""

    varlen: FlashVarlen

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: WindowLengths) -> torch.Tensor:
        packed = [x.flatten(0, 1)[lengths.valid] for x in (q, k, v)]
        mixed = self.varlen(*packed, lengths.cu_seqlens, lengths.cu_seqlens, lengths.longest, lengths.longest, causal=False)
        dense = mixed.new_zeros(q.shape[0] * q.shape[1], *mixed.shape[1:])
        dense[lengths.valid] = mixed
        return dense.view(q.shape)


def choose_window_attention(device: torch.device, dtype: torch.dtype) -> WindowAttention:
    """FlashAttention where it is installed and can run, else torch's own kernels."""
    if device.type != "cuda" or dtype == torch.float32:
        return sdpa_windows
    try:
        return FlashWindows(importlib.import_module("flash_attn").flash_attn_varlen_func)
    except ImportError:  # not installed, or built for another torch
        return sdpa_windows


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Rows of one sequence in a packed decoder step.

    Rows `first .. first + count - 1` of the step are its tokens at positions start .. start + count - 1, and its cache is the
    places `begin .. begin + start + count - 1`. `mask`: (count, start + count) bool, True where a row may look; None when torch
    needs none: a single row sees everything, and rows from position 0 on see as a triangle.
    """

    first: int
    count: int
    start: int
    begin: int
    mask: torch.Tensor | None

    @classmethod
    def of(cls, first: int, count: int, start: int, begin: int, device: torch.device) -> Span:
        mask = None
        if count > 1 and start > 0:
            mask = to_device(torch.ones(count, start + count, dtype=torch.bool).tril(start), device)
        return cls(first, count, start, begin, mask)

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def n_keys(self) -> int:
        return self.start + self.count


def span_attention(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
    """Each row over its own sequence up to itself, with fewer key heads than query heads.

    `q`: (R, heads, head_dim); `keys`, `values`: one layer's cache, (kv_heads, places, head_dim). Gives (R, heads, head_dim).
    The cache is read in place: views, no copies.
    """
    mixed = torch.empty_like(q)
    for span in spans:
        seen = slice(span.begin, span.begin + span.n_keys)
        rows = functional.scaled_dot_product_attention(
            q[None, span.first : span.end].transpose(1, 2),
            keys[None, :, seen],
            values[None, :, seen],
            attn_mask=span.mask,
            is_causal=span.count > 1 and span.mask is None,
            enable_gqa=True,
        )
        mixed[span.first : span.end] = rows[0].transpose(0, 1)
    return mixed
