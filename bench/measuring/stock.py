"""The baseline: the unchanged qwen-asr package, float32 on the CPU, by its own `generate`.

As shipped it lets every audio token attend to the whole clip; with `windows` it is passed the mask that its own attention over
8 s needs and forgets. The second is what answers must be compared with, and the fairer clock for clips longer than that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from asr_service.request import Samples


class Stock:
    """The package's model and processor over a checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        with _quiet():
            from qwen_asr import Qwen3ASRModel

            self._asr: Any = Qwen3ASRModel.from_pretrained(str(folder), dtype=torch.float32)

    @torch.inference_mode()
    def generate(self, clips: Sequence[Samples], n_tokens: int, *, windows: bool = False) -> list[list[int]]:
        """Exactly so many tokens for each clip, all clips in one batch."""
        with self._windows() if windows else _quiet():
            text = self._asr._build_text_prompt(context="", force_language=None)  # noqa: SLF001 - as `transcribe` does
            inputs = self._asr.processor(text=[text] * len(clips), audio=list(clips), return_tensors="pt", padding=True)
            made = self._asr.model.generate(
                **inputs, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False, pad_token_id=0
            )
        ids: list[list[int]] = made.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        assert all(len(row) == n_tokens for row in ids)
        return ids

    @contextmanager
    def _windows(self) -> Iterator[None]:
        tower = self._asr.model.thinker.audio_tower

        def add_mask(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            mask = tower._prepare_attention_mask(*args)  # noqa: SLF001 - the package's own
            return args, kwargs | {"attention_mask": mask}

        hooks = [layer.register_forward_pre_hook(add_mask, with_kwargs=True) for layer in tower.layers]
        try:
            with _quiet():
                yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def _quiet() -> Iterator[None]:
    """The package and what it imports warn about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
