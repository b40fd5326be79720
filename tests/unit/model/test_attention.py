"""Every backend keeps windows apart, and rows of a step to their own stretch of cache."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from asr_service.model.attention import FlashWindows, Span, WindowAttention, WindowLengths, sdpa_windows, span_attention

CPU = torch.device("cpu")


def varlen_by_hand(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
    cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor, max_seqlen_q: int, max_seqlen_k: int, *, causal: bool,
) -> torch.Tensor:  # fmt: skip
    """What flash_attn_varlen_func does, with its argument order and shapes."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert not causal
    edges = cu_seqlens_q.tolist()
    assert max_seqlen_q == max_seqlen_k == max(end - start for start, end in pairwise(edges))
    assert edges[-1] == len(q)
    return torch.cat([attend(q[a:b], k[a:b], v[a:b]) for a, b in pairwise(edges)])


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The formula, on (n, heads, head_dim); `mask` (n_q, n_k) True where a query may look."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


@pytest.fixture(params=["sdpa", "flash"])
def backend(request: pytest.FixtureRequest) -> WindowAttention:
    return sdpa_windows if request.param == "sdpa" else FlashWindows(varlen_by_hand)


@pytest.mark.parametrize("counts", [(5, 5), (5, 3, 1), (2,)])
def test_a_window_attends_to_its_real_tokens_only(backend: WindowAttention, counts: tuple[int, ...]) -> None:
    q, k, v = torch.randn(3, len(counts), 5, 2, 8, generator=torch.Generator().manual_seed(0)).unbind(0)

    mixed = backend(q, k, v, WindowLengths.of(counts, 5, CPU))

    assert mixed.isfinite().all()
    for index, count in enumerate(counts):
        expected = attend(q[index, :count], k[index, :count], v[index, :count])
        torch.testing.assert_close(mixed[index, :count], expected, atol=1e-6, rtol=1e-5)


def test_other_windows_and_padding_change_nothing_at_all(backend: WindowAttention) -> None:
    q, k, v = torch.randn(3, 3, 5, 2, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    lengths = WindowLengths.of((5, 3, 4), 5, CPU)
    before = backend(q, k, v, lengths)
    for x in (q, k, v):
        x[0] += 100
        x[1, 3:] = 1e4
        x[2] -= 50

    after = backend(q, k, v, lengths)

    assert torch.equal(before[1, :3], after[1, :3])


def test_full_windows_need_no_mask() -> None:
    assert WindowLengths.of((5, 5), 5, CPU).key_mask is None
    assert WindowLengths.of((5, 4), 5, CPU).key_mask is not None


def test_rows_of_a_step_see_their_own_sequence_up_to_themselves() -> None:
    heads, kv_heads, head_dim, places = 4, 2, 8, 40
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, kv_heads, places, head_dim, generator=generator).unbind(0)
    spans = (
        Span.of(0, 6, 0, 3, CPU),  # a prompt from its start
        Span.of(6, 1, 9, 12, CPU),  # a single next token
        Span.of(7, 4, 5, 25, CPU),  # a later part of a prompt
    )
    q = torch.randn(11, heads, head_dim, generator=generator)

    mixed = span_attention(q, keys, values, spans)

    for span in spans:
        seen = slice(span.begin, span.begin + span.start + span.count)
        mask = torch.arange(span.n_keys) <= torch.arange(span.start, span.n_keys)[:, None]
        expected = attend(q[span.first : span.end], keys[:, seen].transpose(0, 1), values[:, seen].transpose(0, 1), mask)
        torch.testing.assert_close(mixed[span.first : span.end], expected, atol=1e-6, rtol=1e-5)


def test_what_lies_outside_a_sequence_in_the_cache_does_not_matter() -> None:
    keys, values = torch.randn(2, 2, 20, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    q = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
    spans = (Span.of(0, 3, 4, 5, CPU),)
    before = span_attention(q, keys, values, spans)
    for x in (keys, values):
        x[:, :5] = float("nan")
        x[:, 12:] = float("nan")

    assert torch.equal(before, span_attention(q, keys, values, spans))
