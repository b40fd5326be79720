"""What a model is made from: its shape, its tokenizer and its weights, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_service.model.checkpoint import Checkpoint
from asr_service.model.config import ModelConfig
from asr_service.model.tokenizer import Tokenizer

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ModelParts:
    """`tensors`: called once per load, with number type and device; all tensors by canonical name, without a tied head."""

    config: ModelConfig
    tokenizer: Tokenizer
    tensors: Callable[[torch.dtype, torch.device], Tensors]

    @classmethod
    def of(cls, folder: Path) -> ModelParts:
        """A checkpoint's. Raises EngineFailed when the folder does not hold one."""
        checkpoint = Checkpoint.open(folder)
        return cls(checkpoint.config, Tokenizer.open(folder), checkpoint.tensors)


OpenParts = Callable[[Path], ModelParts]
