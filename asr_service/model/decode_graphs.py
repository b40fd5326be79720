"""The decode graphs of a model: which sizes there are, and a step's rows through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from asr_service.engine.step_model import Token
from asr_service.model.config import TextConfig
from asr_service.model.decode_ops import DecodeOps, PlainOps, fused_ops, has_fused_ops
from asr_service.model.decode_step import DecodeRow, DecodeStep, StaticTensors
from asr_service.model.decoder import Decoder
from asr_service.model.graphs import CapturedSteps, Fetched, GraphBackend, ReportGraphs
from asr_service.model.kv_cache import KvCache
from asr_service.model.sampling import Rule, choose

SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Rows of a decode graph."""
KEYS_WITHOUT_KERNEL = (512, 1024, 2048, 4096)
"""Longest sequences for which there are graphs where attention has no kernel that reads lengths on the device."""

Tokens = Callable[[], list[Token]]
"""Waits for the tokens of a step and gives them."""


def sizes_up_to(most: int, sizes: Sequence[int]) -> list[int]:
    """Those that batches of up to `most` need: the last one may be larger than it."""
    return [size for index, size in enumerate(sizes) if index == 0 or sizes[index - 1] < most]


class DecodeGraphs:
    """Rows of single tokens, replayed. `max_rows`: the most of one step; the cache has as many scratch places (`rows_of`).

    `ops`: for graphs of any length; None for the ones that suit the device.
    """

    def __init__(
        self,
        config: TextConfig,
        decoder: Decoder,
        cache: KvCache,
        backend: GraphBackend,
        *,
        max_rows: int,
        dtype: torch.dtype,
        device: torch.device,
        report: ReportGraphs,
        ops: DecodeOps | None = None,
    ) -> None:
        sizes = sizes_up_to(max_rows, SIZES)
        self._static = StaticTensors(sizes[-1], config.vocab_size, dtype, device)
        self._backend = backend
        if ops is None and has_fused_ops(config, device):
            ops = fused_ops(config, sizes[-1])
        if ops is not None:
            steps = [DecodeStep(decoder, cache, self._static, ops, cache.n_tokens)]
        else:
            steps = [DecodeStep(decoder, cache, self._static, PlainOps(config, n), n) for n in KEYS_WITHOUT_KERNEL]
        self._families = [
            (step, CapturedSteps("decode" if ops else f"decode-{step.n_keys}", sizes, step, backend, dtype, report))
            for step in steps
        ]

    @property
    def families(self) -> list[CapturedSteps]:
        """One, or one for each of KEYS_WITHOUT_KERNEL."""
        return [captured for _, captured in self._families]

    def start(self, rows: Sequence[DecodeRow], rules: Sequence[Rule]) -> Tokens | None:
        """Asks the device for the tokens of these rows. None when no graph serves them."""
        longest = max(row.position for row in rows) + 1
        for step, captured in self._families:
            if longest <= step.n_keys and (parts := captured.split(len(rows))):
                return self._run(step, captured, parts, rows, rules)
        return None

    def _run(
        self,
        step: DecodeStep,
        captured: CapturedSteps,
        parts: list[tuple[int, int]],
        rows: Sequence[DecodeRow],
        rules: Sequence[Rule],
    ) -> Tokens:
        choices: list[Fetched] = []
        ruled: dict[int, Token] = {}
        first = 0
        for n, size in parts:
            step.put(rows[first : first + n], size)
            captured.replay(size)
            choices.append(self._backend.fetch(self._static.choice[:n]))
            ruled |= self._choose_ruled(first, rules[first : first + n])
            first += n
        return lambda: _read(choices, ruled)

    def _choose_ruled(self, first: int, rules: Sequence[Rule]) -> dict[int, Token]:
        """Again from the logits: rows that may not take any token, or that draw theirs."""
        places = [place for place, rule in enumerate(rules) if not rule.is_greedy]
        if not places:
            return {}
        tokens = choose(self._static.logits[places], [rules[place] for place in places])
        return {first + place: token for place, token in zip(places, tokens, strict=True)}


def rows_of(most: int) -> int:
    """Rows of the largest decode graph, for steps of up to `most` rows."""
    return sizes_up_to(most, SIZES)[-1]


def _read(choices: Sequence[Fetched], ruled: dict[int, Token]) -> list[Token]:
    """Raises FloatingPointError when a row holds a NaN."""
    found = [pair for choice in choices for pair in choice().tolist()]
    if any(math.isnan(logprob) for _, logprob in found):
        raise FloatingPointError("the model's output is not a number")
    return [ruled.get(index) or Token(int(id_), logprob) for index, (id_, logprob) in enumerate(found)]
