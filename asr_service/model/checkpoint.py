"""A folder with a Qwen3-ASR checkpoint: verified from its headers, then loaded file by file.

Opening needs no torch and reads no weights. Whatever is wrong is one EngineFailed that names the file, the tensor, what was
found and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr_service.engine.protocol import EngineFailed
from asr_service.model.added_tokens import added_tokens
from asr_service.model.config import ModelConfig, read_config
from asr_service.model.json_file import JsonObject
from asr_service.model.layouts import EMBEDDING, is_dispensable, stored_name, tensor_shapes
from asr_service.model.safetensors_header import DTYPES, StoredTensor, read_header

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
AUDIO_TOKEN = "<|audio_pad|>"  # noqa: S105 - a token of text


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor is: its file and its name there."""

    path: Path
    name: str


class Checkpoint:
    """A verified checkpoint. Its files must not change while it is in use."""

    def __init__(self, folder: Path, config: ModelConfig, places: Mapping[str, _Place]) -> None:
        self.folder = folder
        self.config = config
        self._places = places  # by canonical name

    @classmethod
    def open(cls, folder: Path, config: ModelConfig | None = None) -> Checkpoint:
        """Reads the configuration, if it is not there yet, and the headers of the weights. Raises EngineFailed when anything is
        missing or unfit."""
        config = config or read_config(folder)
        files = {path: read_header(path) for path in weight_files(folder)}
        stored = _unite(files)
        _verify(folder, config, files, stored)
        _verify_tokenizer(folder, config)
        dtype = files[stored[stored_name(EMBEDDING, config.layout)]][stored_name(EMBEDDING, config.layout)].dtype
        places = {
            name: _Place(stored[stored_name(name, config.layout)], stored_name(name, config.layout))
            for name in tensor_shapes(config)
        }
        return cls(folder, replace(config, dtype=DTYPES[dtype]), places)

    @property
    def n_parameters(self) -> int:
        return sum(math.prod(shape) for shape in tensor_shapes(self.config).values())

    @property
    def n_bytes(self) -> int:
        """Of the files with weights."""
        return sum(path.stat().st_size for path in {place.path for place in self._places.values()})

    def tensors(self, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
        """All tensors by canonical name, in this type on this device, as copies of their own; without lm_head.weight where it
        is tied. Raises EngineFailed when a file cannot be read or the device has no memory for them."""
        import torch
        from safetensors import SafetensorError, safe_open

        by_file: dict[Path, list[tuple[str, str]]] = {}
        for canonical, place in self._places.items():
            by_file.setdefault(place.path, []).append((canonical, place.name))
        loaded: dict[str, torch.Tensor] = {}
        for path, names in by_file.items():
            try:
                with safe_open(path, framework="pt", device="cpu") as file:
                    for canonical, name in names:
                        # A copy, since the file is only mapped: the weights must not depend on it any more.
                        loaded[canonical] = file.get_tensor(name).to(device=device, dtype=dtype, copy=True)
            except torch.OutOfMemoryError:
                needed = self.n_parameters * dtype.itemsize
                raise EngineFailed(f"{self.folder}: {device} has no memory for the weights ({needed} bytes)") from None
            except (OSError, SafetensorError) as error:
                raise EngineFailed(f"{path}: cannot be loaded: {error}") from None
        return loaded


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files with weights. Raises EngineFailed when there are none, or the index names one that is not there."""
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if not (folder / INDEX).is_file():
        other = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for path in folder.glob(pattern))
        found = f"; {other[0]} is of a kind that is not read" if other else ""
        raise EngineFailed(f"{folder}: no weights: neither {SINGLE} nor {INDEX} is there{found}")
    index = JsonObject.read(folder / INDEX).section("weight_map")
    names = sorted({index.text(tensor, default="") for tensor in index.values})
    if not names:
        raise EngineFailed(f"{folder / INDEX}: weight_map is empty")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise EngineFailed(f"{folder / INDEX}: names the file {name!r}; expected a .safetensors file in the same folder")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise EngineFailed(f"{folder}: {len(missing)} of {len(names)} files with weights are missing, such as {missing[0]}")
    return tuple(folder / name for name in names)


def missing_files(folder: Path) -> str:
    """What a folder lacks to be a checkpoint; empty when every file is there. Does not look into the weights."""
    lacking = [] if (folder / "config.json").is_file() else ["config.json"]
    if not (folder / "tokenizer.json").is_file():
        parts = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
        lacking += ["tokenizer.json"] if len(parts) == 2 else parts
    try:
        weight_files(folder)
    except EngineFailed as error:
        return str(error)
    return f"{folder}: {' and '.join(lacking)} missing" if lacking else ""


def _unite(files: Mapping[Path, Mapping[str, StoredTensor]]) -> dict[str, Path]:
    """The file of each tensor, by stored name."""
    stored: dict[str, Path] = {}
    for path, header in files.items():
        for name in header:
            if name in stored:
                raise EngineFailed(f"{path}: tensor {name} is in {stored[name].name} too")
            stored[name] = path
    return stored


def _verify(
    folder: Path, config: ModelConfig, files: Mapping[Path, Mapping[str, StoredTensor]], stored: Mapping[str, Path]
) -> None:
    expected = {stored_name(name, config.layout): shape for name, shape in tensor_shapes(config).items()}
    _verify_layout(folder, config, stored)
    if missing := [name for name in expected if name not in stored]:
        raise EngineFailed(f"{folder}: {_some(missing)} missing from {_names(files)}")
    if unexpected := [name for name in stored if name not in expected and not is_dispensable(name, config)]:
        raise EngineFailed(f"{stored[unexpected[0]]}: {_some(unexpected)} not of a network as config.json describes it")
    for name, shape in expected.items():
        tensor = files[stored[name]][name]
        if tensor.shape != shape:
            raise EngineFailed(
                f"{stored[name]}: tensor {name} has shape {list(tensor.shape)}; expected {list(shape)} by config.json"
            )
        if tensor.dtype not in DTYPES:
            raise EngineFailed(f"{stored[name]}: tensor {name} is stored as {tensor.dtype}; expected {', '.join(DTYPES)}")


def _verify_layout(folder: Path, config: ModelConfig, stored: Mapping[str, Path]) -> None:
    if "score.weight" in stored:
        raise EngineFailed(
            f"{stored['score.weight']}: a forced aligner's weights (score.weight); a Qwen3-ASR checkpoint is needed"
        )
    is_thinker = any(name.startswith("thinker.") for name in stored)
    if stored and is_thinker != (config.layout == "thinker"):
        found, described = ("original", "transformers") if is_thinker else ("transformers", "original")
        raise EngineFailed(f"{folder}: weights in the {found} layout, but config.json describes the {described} one")


def _verify_tokenizer(folder: Path, config: ModelConfig) -> None:
    if lack := missing_files(folder):
        raise EngineFailed(lack)
    for token in added_tokens(folder):
        if token.content == AUDIO_TOKEN and token.id != config.audio_token_id:
            raise EngineFailed(
                f"{folder}: {AUDIO_TOKEN} is token {token.id} of the tokenizer, but config.json says {config.audio_token_id}"
            )
        if token.id >= config.text.vocab_size:
            raise EngineFailed(
                f"{folder}: {token.content} is token {token.id} of the tokenizer; "
                f"expected an id below the vocabulary's {config.text.vocab_size}"
            )


def _some(names: list[str]) -> str:
    return f"tensor {names[0]} is" if len(names) == 1 else f"{len(names)} tensors, such as {names[0]}, are"


def _names(files: Iterable[Path]) -> str:
    names = sorted(path.name for path in files)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
