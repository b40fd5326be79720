"""One more token for each of many sequences, over static tensors: what a decode graph holds.

It computes what Decoder.run and Decoder.logits do for rows of one token each, with the greedy choice behind it. Who the rows
are, how long they are and where their cache is, is read on the device, so that one capture serves every batch of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr_service.model.decode_ops import DecodeOps
from asr_service.model.decoder import Decoder, Rows
from asr_service.model.graphs import Difference, Replay, difference_of, shaken, upload
from asr_service.model.kv_cache import KvCache

_CHECKED_ROWS = 16
_CHECKED_KEYS = 300  # places per row that a check looks at, at most


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """A known token whose successor is wanted: its id, its position, and where its sequence's cache begins."""

    id: int
    position: int
    begin: int


class StaticTensors:
    """What decode graphs read and write; shared by all sizes, each using the first rows."""

    def __init__(self, max_rows: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> None:
        self.inputs = torch.zeros(max_rows, 3, dtype=torch.int64, device=device)  # id, position, begin
        self.logits = torch.empty(max_rows, vocabulary, dtype=dtype, device=device)
        # The greedy token and its log-probability: one tensor, so one copy. Token ids are exact in float32 (below 2^24).
        self.choice = torch.empty(max_rows, 2, dtype=torch.float32, device=device)


class DecodeStep:
    """The StaticStep of decoding, with one kind of operations."""

    def __init__(self, decoder: Decoder, cache: KvCache, static: StaticTensors, ops: DecodeOps, n_keys: int) -> None:
        self.n_keys = n_keys  # the longest sequence it serves
        self._decoder = decoder
        self._cache = cache
        self._static = static
        self._ops = ops

    def put(self, rows: Sequence[DecodeRow], size: int) -> None:
        """The inputs of the next replay of this size. Rows that are lacking are at work in the cache's own scratch places."""
        values = [[row.id, row.position, row.begin] for row in rows]
        values += [[0, 0, self._cache.scratch + index] for index in range(len(rows), size)]
        upload(self._static.inputs[:size], torch.tensor(values))

    def run(self, size: int) -> None:
        """See StaticStep."""
        static, decoder, ops = self._static, self._decoder, self._ops
        ids, positions, begins = static.inputs[:size].t().contiguous()
        x, update = decoder.embed(ids), None
        rotation = decoder.rotation(positions, x.dtype)
        places = begins + positions
        for index, layer in enumerate(decoder.layers):
            keys, values = self._cache.layer(index)
            x, normed = ops.add_norm(x, update, layer.attention_norm)
            q = ops.rotate_and_write(layer.qkv(normed), layer.qk_norm, rotation, places, keys, values)
            mixed = ops.attend(q, keys, values, begins, positions)
            x, normed = ops.add_norm(x, layer.out(mixed.flatten(1)), layer.mlp_norm)
            update = layer.down(ops.gate(layer.gate_up(normed)))
        _, normed = ops.add_norm(x, update, decoder.norm)
        static.logits[:size] = decoder.head(normed)
        scores = static.logits[:size].float()
        chosen = scores.argmax(dim=-1, keepdim=True)
        static.choice[:size, :1] = chosen
        static.choice[:size, 1:] = scores.gather(1, chosen) - scores.logsumexp(dim=-1, keepdim=True)

    def difference(self, size: int, replay: Replay) -> Difference:
        """See StaticStep. On a random cache: nobody's tokens may be in it. The logits of some rows are compared, and all greedy
        choices must be the best of the graph's own logits."""
        rows, device = self._made_up(size), self._static.inputs.device
        every = -(-size // _CHECKED_ROWS)
        compared = rows[::every]  # plain attention takes one at a time
        spans = Rows.of([(row.position, 1, row.begin) for row in compared], device)
        x = self._decoder.embed(torch.tensor([row.id for row in compared], device=device))
        shaken_logits, logits = (
            self._decoder.logits(self._decoder.run(embedded, spans, self._cache)) for embedded in (shaken(x), x)
        )
        self.put(rows, size)
        self._static.logits[:size] = torch.nan
        replay()
        found = self._static.logits[:size]
        is_best = bool((found.float().argmax(dim=-1) == self._static.choice[:size, 0].long()).all())
        return Difference(difference_of(found[::every], logits) if is_best else math.inf, difference_of(shaken_logits, logits))

    def _made_up(self, size: int) -> list[DecodeRow]:
        """Rows of different lengths, up to the longest that the cache has room for, over random keys and values."""
        span = max(1, min(self._cache.n_tokens // size, self.n_keys, _CHECKED_KEYS))
        self._cache.scribble(size * span)
        vocabulary = self._static.logits.shape[1]
        return [DecodeRow(7919 * (row + 1) % vocabulary, (span - 1) * (row + 1) // size, row * span) for row in range(size)]
