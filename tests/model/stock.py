"""The oracle: the unchanged qwen-asr package, run on one clip at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asr_service.request import Samples

NEAR_TIE = 1e-4
"""Two orders of the same float32 sums may differ by less than this; a choice by a smaller margin is no choice."""


@dataclass(frozen=True)
class Decoded:
    """Greedy tokens, and by how much each was preferred to the second best."""

    ids: list[int]
    margins: list[float]


class Stock:
    """qwen-asr's own model and processor over a checkpoint folder, float32, on the CPU."""

    def __init__(self, folder: Path) -> None:
        with quiet():
            from qwen_asr import Qwen3ASRModel

            self._asr: Any = Qwen3ASRModel.from_pretrained(str(folder), dtype=torch.float32)
        self._thinker = self._asr.model.thinker

    def mel(self, samples: Samples) -> torch.Tensor:
        """(n_mels, T)"""
        inputs = self._inputs(samples)
        mel: torch.Tensor = inputs["input_features"][0][:, : int(inputs["feature_attention_mask"].sum())]
        return mel

    def prompt_ids(self, samples: Samples, context: str = "", language: str | None = None) -> list[int]:
        ids: list[int] = self._inputs(samples, context, language)["input_ids"][0].tolist()
        return ids

    @torch.inference_mode()
    def encode(self, samples: Samples, *, block_mask: bool = True) -> torch.Tensor:
        """Audio tokens, (tokens, hidden)."""
        inputs = self._inputs(samples)
        with self._windows() if block_mask else quiet():
            encoded: torch.Tensor = self._thinker.get_audio_features(
                inputs["input_features"], feature_attention_mask=inputs["feature_attention_mask"]
            )
        return encoded

    @torch.inference_mode()
    def greedy(
        self,
        samples: Samples,
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        *,
        context: str = "",
        language: str | None = None,
        block_mask: bool = True,
    ) -> Decoded:
        """The package's own `generate`. A stop token is not among the ids; without any there are max_new_tokens ids."""
        inputs = self._inputs(samples, context, language)
        with self._windows() if block_mask else quiet():
            made = self._asr.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(stop_ids) or None,
                pad_token_id=0,
                do_sample=False,
                output_logits=True,
            )
        ids = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        best = [row[0].topk(2).values for row in made.logits]
        if ids and ids[-1] in stop_ids:
            ids.pop()
        return Decoded(ids, [float(first - second) for first, second in best])

    def _inputs(self, samples: Samples, context: str = "", language: str | None = None) -> Any:
        with quiet():
            text = self._asr._build_text_prompt(context=context, force_language=language)
            return self._asr.processor(text=[text], audio=[samples], return_tensors="pt", padding=True)

    @contextmanager
    def _windows(self) -> Iterator[None]:
        """The package makes the mask of the windows only for FlashAttention; elsewhere it forgets to. Passes it."""
        tower = self._thinker.audio_tower

        def add_mask(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden, cu_seqlens = args
            return args, kwargs | {"attention_mask": tower._prepare_attention_mask(hidden, cu_seqlens)}

        hooks = [layer.register_forward_pre_hook(add_mask, with_kwargs=True) for layer in tower.layers]
        try:
            with quiet():
                yield
        finally:
            for hook in hooks:
                hook.remove()


class NearTies:
    """How many comparisons ended at a near-tie."""

    def __init__(self) -> None:
        self.n_compared = 0
        self.n_ties = 0

    def compare(self, ours: Sequence[int], stock: Decoded) -> None:
        """Fails unless the tokens are the same up to a near-tie."""
        self.n_compared += 1
        if list(ours) == stock.ids:
            return
        at = next((i for i, (a, b) in enumerate(zip(ours, stock.ids, strict=False)) if a != b), min(len(ours), len(stock.ids)))
        assert stock.margins[at] < NEAR_TIE, f"token {at} differs: {list(ours)} against {stock.ids}"
        self.n_ties += 1


@contextmanager
def quiet() -> Iterator[None]:
    """The package and what it imports warn about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
