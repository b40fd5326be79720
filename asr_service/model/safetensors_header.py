"""What is in a safetensors file, from its header alone; neither torch nor safetensors is needed.

8 bytes    n, little-endian
n bytes    JSON: name -> {"dtype", "shape", "data_offsets": [begin, end]}, and "__metadata__"
the rest   data; offsets count from here
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_service.engine.protocol import EngineFailed

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_LFS = b"version https://git-lfs"
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What weights may be stored as, and torch's name for it."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`dtype`: as the format writes it, such as BF16."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file, by their stored names.

    Raises EngineFailed when it cannot be read, is not a safetensors file, or is shorter or longer than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            n_header = int.from_bytes(start, "little")
            if len(start) == 8 and 2 <= n_header <= min(_MAX_HEADER_BYTES, size - 8):
                return _parse(path, file.read(n_header), size - 8 - n_header)
            start += file.read(len(_LFS))
    except FileNotFoundError:
        raise EngineFailed(f"{path}: no such file") from None
    except OSError as error:
        raise EngineFailed(f"{path}: cannot be read: {error.strerror or error}") from None
    if start.startswith(_LFS):
        raise EngineFailed(f"{path}: a git-lfs pointer, not the weights; run `git lfs pull` in its folder")
    if 2 <= n_header <= _MAX_HEADER_BYTES or size < 8:
        raise EngineFailed(f"{path}: truncated: {size} bytes found, more expected for its header alone")
    raise EngineFailed(f"{path}: not a safetensors file")


def _parse(path: Path, header: bytes, n_data: int) -> dict[str, StoredTensor]:
    try:
        entries = json.loads(header)
    except ValueError as error:
        raise EngineFailed(f"{path}: not a safetensors file: its header is not valid JSON: {error}") from None
    if not isinstance(entries, dict):
        raise EngineFailed(f"{path}: not a safetensors file: its header is no object")
    tensors: dict[str, StoredTensor] = {}
    end_of_data = 0
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        tensors[name], end = _parse_entry(path, name, entry)
        end_of_data = max(end_of_data, end)
    if end_of_data != n_data:
        what = "truncated" if end_of_data > n_data else "too long"
        raise EngineFailed(f"{path}: {what}: {n_data} bytes of weights found, {end_of_data} expected by its header")
    return tensors


def _parse_entry(path: Path, name: str, entry: Any) -> tuple[StoredTensor, int]:
    """The tensor and where its data end."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        # Types that are not known here are refused by whoever wants the tensor, by their names.
        is_sound = dtype not in _ITEM_BYTES or end - begin == math.prod(shape) * _ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound or begin < 0:
        raise EngineFailed(f"{path}: its header is damaged at tensor {name}")
    return StoredTensor(dtype, shape), end
