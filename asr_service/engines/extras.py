"""What an engine needs beyond the base installation, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part of the installation: the modules that must be there and the command that brings them."""

    modules: tuple[str, ...]
    command: str

    def lack(self) -> str:
        """What is missing and what to do about it; empty where nothing is. Imports none of it."""
        missing = [module for module in self.modules if find_spec(module) is None]
        if not missing:
            return ""
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed ({self.command})"


QWEN3 = Extra(("torch", "safetensors", "tokenizers", "huggingface_hub"), "pip install -e '.[qwen3]'")
REFERENCE = Extra(
    ("torch", "transformers", "accelerate", "librosa", "soundfile", "nagisa", "soynlp", "qwen_asr"),
    "pip install -e '.[reference]' && pip install --no-deps qwen-asr==0.0.6",
)
