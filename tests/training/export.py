"""Checkpoints as the stock package loads them, from the weights of a training run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.tokenizer import SIZES, write_files

_PREFIX = "model."
_OUTPUT_LAYER = "thinker.lm_head.weight"


def write_checkpoint(folder: Path, size: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes a whole checkpoint in bfloat16; readers of the folder never see half of one.

    The weights are those of a `TrainedModel`: the CTC head is left out, and so is an output layer tied to the embedding.
    """
    tensors = {
        name.removeprefix(_PREFIX): tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in weights.items()
        if name.startswith(_PREFIX)
    }
    if SIZES[size].tied:
        del tensors[_OUTPUT_LAYER]
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    staging.chmod(0o755)
    write_files(staging, SIZES[size])
    save_file(tensors, staging / "model.safetensors", metadata={"format": "pt"})
    (staging / "model.safetensors").chmod(0o644)
    if folder.exists():
        old = folder.with_name(f".{folder.name}-old")
        folder.rename(old)
        staging.rename(folder)
        shutil.rmtree(old)
    else:
        staging.rename(folder)
