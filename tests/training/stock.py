"""The stock package as the judge: it reads a checkpoint as any user would, with its two known faults mended."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from qwen_asr import Qwen3ASRModel  # type: ignore[import-untyped, unused-ignore]
from torch import nn

from tests.training.espeak import SAMPLE_RATE_HZ


class StockReader:
    """Transcribes with `Qwen3ASRModel`, which stops at the checkpoint's own tokens and keeps attention in its windows.

    As it comes, the package stops only at the token ids of the released models, and computes the window bounds of the
    encoder but passes no mask to the layers unless FlashAttention runs.
    """

    def __init__(self, folder: Path, own_stop_tokens: bool = True, windows: bool = True, max_new_tokens: int = 256) -> None:
        self.model = Qwen3ASRModel.from_pretrained(str(folder), max_new_tokens=max_new_tokens, max_inference_batch_size=16)
        if own_stop_tokens:
            stops = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
            self.model.model.generate = functools.partial(self.model.model.generate, eos_token_id=stops)
        if windows:
            keep_in_windows(self.model.model.thinker.audio_tower)

    def read(self, clips: Sequence[NDArray[Any]], context: str = "", language: str | None = None) -> list[tuple[str, str]]:
        """Language name and text of each clip of 16 kHz samples."""
        results = self.model.transcribe(audio=[(clip, SAMPLE_RATE_HZ) for clip in clips], context=context, language=language)
        return [(result.language, result.text) for result in results]


def keep_in_windows(encoder: Any) -> None:
    """Gives the layers of a stock encoder the mask that the encoder can make and does not."""

    def add_mask(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden, bounds = args
        return args, {**kwargs, "attention_mask": encoder._prepare_attention_mask(hidden, bounds)}

    for layer in encoder.layers:
        layer.register_forward_pre_hook(add_mask, with_kwargs=True)


@torch.no_grad()
def stock_encoding(encoder: Any, mel: torch.Tensor) -> torch.Tensor:
    """The stock encoder's embeddings of one clip's features, shape (128, frames) to (tokens, width)."""
    return encoder(mel, feature_lens=torch.tensor([mel.shape[1]])).last_hidden_state  # type: ignore[no-any-return]
