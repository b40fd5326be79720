"""The decode step's own GPU kernels, in Triton.

Each does in one launch what plain torch does in many, with the same roundings to the model's number type at the same places, so
that only the order of sums differs. Attention is split over the keys: without it a batch of one would keep a few percent of the
device busy.

Triton is imported here only. It comes with torch for CUDA and is not needed otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from asr_service.model.layers import RmsNorm

_KEYS_BYTES = 128  # of one column of the keys that attention reads at once: 64 keys of 2 bytes, 32 of 4
_GROUP = 16  # rows of a matrix product at the least
_MOST_SPLITS = 32
_PROGRAMS = 512  # of attention, to keep all of a large GPU busy


@triton.jit
def _add_norm_kernel(
    x: tl.tensor,  # (R, n)
    update: tl.tensor,  # (R, n)
    weight: tl.tensor,  # (n,)
    total: tl.tensor,  # (R, n)
    normed: tl.tensor,  # (R, n)
    n: tl.constexpr,
    eps: tl.constexpr,
    has_update: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """A program per row."""
    columns = tl.arange(0, block)
    is_in = columns < n
    places = tl.program_id(0).to(tl.int64) * n + columns
    value = tl.load(x + places, mask=is_in, other=0.0)
    if has_update:
        value = (value.to(tl.float32) + tl.load(update + places, mask=is_in, other=0.0).to(tl.float32)).to(value.dtype)
        tl.store(total + places, value, mask=is_in)
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / n + eps)
    scaled = (wide * scale).to(value.dtype).to(tl.float32)
    tl.store(
        normed + places, (tl.load(weight + columns, mask=is_in, other=0.0).to(tl.float32) * scaled).to(value.dtype), mask=is_in
    )


@triton.jit
def _gate_kernel(gate_up: tl.tensor, out: tl.tensor, n: tl.constexpr, block: tl.constexpr) -> None:
    """(R, 2 n) to (R, n): a program per row and block of columns."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    is_in = columns < n
    gate = tl.load(gate_up + row * 2 * n + columns, mask=is_in, other=0.0)
    up = tl.load(gate_up + row * 2 * n + n + columns, mask=is_in, other=0.0)
    wide = gate.to(tl.float32)
    gated = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    tl.store(out + row * n + columns, (gated * up.to(tl.float32)).to(gate.dtype), mask=is_in)


@triton.jit(do_not_specialize_on_alignment=["places"])
def _rotate_and_write_kernel(
    qkv: tl.tensor,  # (R, heads + 2 kv_heads, dim)
    weight: tl.tensor,  # (heads + kv_heads, dim)
    cosines: tl.tensor,  # (R, dim)
    sines: tl.tensor,  # (R, dim)
    places: tl.tensor,  # (R,)
    queries: tl.tensor,  # (R, heads, dim)
    keys: tl.tensor,  # (kv_heads, places, dim)
    values: tl.tensor,
    head_stride: tl.int64,  # of keys and values
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    dim: tl.constexpr,
    eps: tl.constexpr,
) -> None:
    """A program per row and head; queries come first, then keys, then values."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    half: tl.constexpr = dim // 2
    low = tl.arange(0, half)
    source = qkv + (row * (heads + 2 * kv_heads) + head) * dim
    first, second = tl.load(source + low), tl.load(source + half + low)
    place = tl.load(places + row).to(tl.int64) * dim
    if head >= heads + kv_heads:
        target = values + (head - heads - kv_heads) * head_stride + place
        tl.store(target + low, first)
        tl.store(target + half + low, second)
    else:
        a, b = first.to(tl.float32), second.to(tl.float32)
        scale = tl.rsqrt((tl.sum(a * a, axis=0) + tl.sum(b * b, axis=0)) / dim + eps)
        a = (a * scale).to(first.dtype).to(tl.float32) * tl.load(weight + head * dim + low).to(tl.float32)
        b = (b * scale).to(first.dtype).to(tl.float32) * tl.load(weight + head * dim + half + low).to(tl.float32)
        a, b = a.to(first.dtype).to(tl.float32), b.to(first.dtype).to(tl.float32)
        cosine = tl.load(cosines + row * dim + low).to(tl.float32)
        sine = tl.load(sines + row * dim + low).to(tl.float32)
        turned_a = (a * cosine).to(first.dtype).to(tl.float32) - (b * sine).to(first.dtype).to(tl.float32)
        turned_b = (b * cosine).to(first.dtype).to(tl.float32) + (a * sine).to(first.dtype).to(tl.float32)
        if head < heads:  # noqa: SIM108 - a branch of the kernel
            target = queries + (row * heads + head) * dim
        else:
            target = keys + (head - heads) * head_stride + place
        tl.store(target + low, turned_a.to(first.dtype))
        tl.store(target + half + low, turned_b.to(first.dtype))


@triton.jit(do_not_specialize_on_alignment=["begins", "positions"])
def _attention_kernel(
    queries: tl.tensor,  # (R, kv_heads * group, dim)
    keys: tl.tensor,  # (kv_heads, places, dim)
    values: tl.tensor,
    begins: tl.tensor,  # (R,)
    positions: tl.tensor,  # (R,)
    mixed: tl.tensor,  # (R, kv_heads * group, splits, dim) float32, or without splits the result itself
    weights: tl.tensor,  # (R, kv_heads * group, splits) float32: log2 of the sum of the exponentials
    head_stride: tl.int64,  # of keys and values
    scale: tl.float32,  # 1 / sqrt(dim), times log2(e)
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    padded_group: tl.constexpr,
    dim: tl.constexpr,
    splits: tl.constexpr,
    block: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """A program per row, key head and split: the queries of this head over one stretch of the row's keys."""
    row, head, split = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2)
    n_keys = tl.load(positions + row).to(tl.int32) + 1
    begin = tl.load(begins + row).to(tl.int64)
    per_split = tl.cdiv(tl.cdiv(n_keys, splits), block) * block
    low = split * per_split
    high = tl.minimum(low + per_split, n_keys)
    members, columns = tl.arange(0, padded_group), tl.arange(0, dim)
    is_member = members < group
    q_rows = row * kv_heads * group + head * group + members
    q = tl.load(queries + q_rows[:, None] * dim + columns[None, :], mask=is_member[:, None], other=0.0)
    greatest = tl.full((padded_group,), -float("inf"), tl.float32)
    total = tl.zeros((padded_group,), tl.float32)
    result = tl.zeros((padded_group, dim), tl.float32)
    base = head * head_stride + begin * dim
    for start in range(low, high, block):
        offsets = start + tl.arange(0, block)
        is_key = offsets < high
        cells = base + offsets[:, None].to(tl.int64) * dim + columns[None, :]
        k = tl.load(keys + cells, mask=is_key[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=precision) * scale
        scores = tl.where(is_key[None, :], scores, -float("inf"))
        higher = tl.maximum(greatest, tl.max(scores, axis=1))
        shrink = tl.exp2(greatest - higher)
        powers = tl.exp2(scores - higher[:, None])
        v = tl.load(values + cells, mask=is_key[:, None], other=0.0)
        result = result * shrink[:, None] + tl.dot(powers.to(v.dtype), v, input_precision=precision)
        total = total * shrink + tl.sum(powers, axis=1)
        greatest = higher
    is_empty = high <= low  # this row has fewer keys than splits
    result = tl.where(is_empty, 0.0, result / tl.where(is_empty, 1.0, total)[:, None])
    targets = (q_rows * splits + split)[:, None] * dim + columns[None, :]
    tl.store(mixed + targets, result.to(mixed.dtype.element_ty), mask=is_member[:, None])
    if splits > 1:
        weight = tl.where(is_empty, -float("inf"), greatest + tl.log2(tl.where(is_empty, 1.0, total)))
        tl.store(weights + q_rows * splits + split, weight, mask=is_member)


@triton.jit
def _join_kernel(
    mixed: tl.tensor,  # (R * heads, splits, dim) float32
    weights: tl.tensor,  # (R * heads, splits) float32
    out: tl.tensor,  # (R * heads, dim)
    splits: tl.constexpr,
    dim: tl.constexpr,
) -> None:
    """The stretches of one row and head, each by its weight."""
    row = tl.program_id(0).to(tl.int64)
    parts, columns = tl.arange(0, splits), tl.arange(0, dim)
    weight = tl.load(weights + row * splits + parts)
    share = tl.exp2(weight - tl.max(weight, axis=0))  # the first stretch is never empty, so the greatest is a number
    part = tl.load(mixed + (row * splits + parts)[:, None] * dim + columns[None, :])
    joined = tl.sum(part * share[:, None], axis=0) / tl.sum(share, axis=0)
    tl.store(out + row * dim + columns, joined.to(out.dtype.element_ty))


@dataclass(frozen=True, slots=True)
class FusedOps:
    """Implements DecodeOps. `head_dim` is a power of 2 from 16 on; the activation is silu."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    max_rows: int

    def add_norm(self, x: torch.Tensor, update: torch.Tensor | None, norm: RmsNorm) -> tuple[torch.Tensor, torch.Tensor]:
        total = x if update is None else torch.empty_like(x)
        normed = torch.empty_like(x)
        rows, n = x.shape
        _add_norm_kernel[(rows,)](
            x,
            x if update is None else update,
            norm.weight,
            total,
            normed,
            n=n,
            eps=norm.eps,
            has_update=update is not None,
            block=triton.next_power_of_2(n),
        )
        return total, normed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        rows, n = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, n)
        block = min(1024, triton.next_power_of_2(n))
        _gate_kernel[(rows, triton.cdiv(n, block))](gate_up, out, n=n, block=block)
        return out

    def rotate_and_write(
        self,
        qkv: torch.Tensor,
        norm: RmsNorm,
        rotation: tuple[torch.Tensor, torch.Tensor],
        places: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        rows = len(qkv)
        queries = qkv.new_empty(rows, self.n_heads, self.head_dim)
        _rotate_and_write_kernel[(rows, self.n_heads + 2 * self.n_kv_heads)](
            qkv,
            norm.weight,
            *rotation,
            places,
            queries,
            keys,
            values,
            keys.stride(0),
            heads=self.n_heads,
            kv_heads=self.n_kv_heads,
            dim=self.head_dim,
            eps=norm.eps,
        )
        return queries

    def attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, begins: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        rows, splits = len(q), self._n_splits(len(q))
        out = torch.empty_like(q)
        mixed = q.new_empty(rows, self.n_heads, splits, self.head_dim, dtype=torch.float32) if splits > 1 else out
        weights = q.new_empty(rows, self.n_heads, splits, dtype=torch.float32)
        group = self.n_heads // self.n_kv_heads
        _attention_kernel[(rows, self.n_kv_heads, splits)](
            q,
            keys,
            values,
            begins,
            positions,
            mixed,
            weights,
            keys.stride(0),
            self.head_dim**-0.5 * 1.4426950408889634,
            kv_heads=self.n_kv_heads,
            group=group,
            padded_group=max(_GROUP, triton.next_power_of_2(group)),
            dim=self.head_dim,
            splits=splits,
            block=_KEYS_BYTES // keys.element_size(),
            precision="ieee",
        )
        if splits > 1:
            _join_kernel[(rows * self.n_heads,)](mixed, weights, out, splits=splits, dim=self.head_dim)
        return out

    def _n_splits(self, rows: int) -> int:
        """A power of 2 that depends on the batch alone, so that a graph serves all lengths."""
        wanted = max(1, _PROGRAMS // (rows * self.n_kv_heads))
        return min(_MOST_SPLITS, 1 << (wanted.bit_length() - 1))
