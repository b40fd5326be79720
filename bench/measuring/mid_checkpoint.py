"""The checkpoint that the engine is measured on: the cost shape of a real one at a size that a CPU core can carry.

121 M parameters with the released models' true vocabulary, head and all. Weights are random, of standard deviation
1 / sqrt(inputs) (1.6 times that in the encoder), so that every layer matters and the output is not one token for ever. The
tokenizer is that of the project's small checkpoint; the ids beyond it have no text.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from asr_service.model.config import read_config
from asr_service.model.layouts import EMBEDDING, stored_name, tensor_shapes

ROOT = Path(__file__).parents[2]
SMALL = Path(os.environ.get("ASR_SMALL_CHECKPOINT", ROOT / "tests/data/qwen3/small"))
FOLDER = ROOT / "build/bench/mid"
SEED = 7

VOCABULARY = 151_936
_AUDIO = {
    "encoder_layers": 6,
    "num_hidden_layers": 6,
    "d_model": 256,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 1024,
    "downsample_hidden_size": 96,
    "output_dim": 512,
    "n_window_infer": 800,
}
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "rope_theta": 1e6,
    "rope_scaling": {"rope_type": "default", "mrope_section": [12, 10, 10], "mrope_interleaved": True, "interleaved": True},
}


def mid_checkpoint() -> Path:
    """The folder; it is made (half a gigabyte, under build/) where it is not there yet."""
    if not (FOLDER / "model.safetensors").is_file():
        _write(FOLDER)
    return FOLDER


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in SMALL.iterdir():
        if file.suffix in (".json", ".txt") and "safetensors" not in file.name:
            shutil.copy(file, folder / file.name)
    config = json.loads((SMALL / "config.json").read_text())
    thinker = config["thinker_config"]
    thinker["audio_config"] |= _AUDIO
    thinker["text_config"] |= _TEXT
    config["dtype"] = thinker["dtype"] = "float32"
    config["tie_word_embeddings"] = thinker["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    read = read_config(folder)
    generator = torch.Generator().manual_seed(SEED)
    tensors = {stored_name(name, read.layout): _random(name, shape, generator) for name, shape in tensor_shapes(read).items()}
    partial = folder / "model.partial"
    save_file(tensors, partial, {"format": "pt"})
    partial.rename(folder / "model.safetensors")


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(shape, generator=generator)
    if "norm" in name or "ln_post" in name:
        middle = 3.0 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0  # attention that looks at something
        return values.mul_(0.1 * middle).add_(middle if name.endswith("weight") else 0.0)
    if name.endswith("bias"):
        return values.mul_(0.1)
    if name == EMBEDDING:  # it is the head too: were it larger, each token's likeliest successor would be itself
        return values.mul_(0.05)
    return values.mul_((1.6 if name.startswith("audio_tower") else 1.0) / math.sqrt(math.prod(shape[1:])))
