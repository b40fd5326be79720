"""The forced aligner: the encoder and decoder of Qwen3-ASR with a head that says times.

    <|audio_start|>{audio}<|audio_end|>turn<timestamp><timestamp>on<timestamp><timestamp>...

One pass over everything; at the two <timestamp> of each unit the likeliest class is its begin and its end. Rows of several
pieces share the pass, each looking at its own piece alone, so nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_service.engine.align_model import AlignerOutOfMemory, PreparedPiece
from asr_service.engine.protocol import EngineFailed
from asr_service.errors import InvalidValue
from asr_service.model.allocator import give_back_freed_memory
from asr_service.model.checkpoint import Checkpoint
from asr_service.model.config import AlignerConfig, read_aligner_config
from asr_service.model.decoder import Rows
from asr_service.model.device import choose_device, choose_dtype, is_out_of_memory
from asr_service.model.features import Window, n_tokens, windows_of
from asr_service.model.kv_cache import KvCache, bytes_per_token
from asr_service.model.layers import to_device
from asr_service.model.mel import MelExtractor
from asr_service.model.network import Network
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import Samples, samples_to_ms

_HEAD_ROWS = 1024  # for which the classes are scored at once


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAlignment:
    """Implements PreparedPiece. `ids`: of the whole prompt, audio placeholders included; `slots`: places of <timestamp>."""

    windows: tuple[Window, ...]
    ids: tuple[int, ...]
    slots: tuple[int, ...]
    n_audio: int

    @property
    def n_tokens(self) -> int:
        return len(self.ids)


class QwenAligner:
    """Implements AlignModel over a checkpoint folder in the original layout.

    `device`: "cpu", "cuda" or "cuda:N". `dtype`: as for ModelRunner. `threads`: torch's, within one operation, on the thread
    that calls `load`; None for its own choice. Raises EngineFailed when the folder does not hold a forced aligner.
    """

    def __init__(self, folder: Path, *, device: str, dtype: str, threads: int | None = None) -> None:
        self._folder = folder
        self._config: AlignerConfig = read_aligner_config(folder)
        self._checkpoint = Checkpoint.open(folder, self._config.model)
        self._tokenizer = Tokenizer.open(folder)
        self._begin, self._end = self._tokenizer.special("<|audio_start|>"), self._tokenizer.special("<|audio_end|>")
        self._mel = MelExtractor(self._config.model.audio.n_mels)
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)
        self._threads = threads
        self._network: Network | None = None

    @property
    def config(self) -> AlignerConfig:
        return self._config

    @property
    def reach_ms(self) -> int:
        return self._config.reach_ms

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def weight_bytes(self) -> int:
        """While it is loaded."""
        return self._checkpoint.n_parameters * self._dtype.itemsize

    @property
    def token_bytes(self) -> int:
        """Of keys and values of one token, while a batch is computed."""
        return bytes_per_token(self._config.model.text, self._dtype)

    def load(self) -> None:
        """See AlignModel."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False
        try:
            with torch.inference_mode():
                tensors = self._checkpoint.tensors(self._dtype, self._device)
                self._network = Network.build(self._config.model, tensors, self._device, self._dtype)
        except RuntimeError as error:
            self._network = None
            raise EngineFailed(f"{self._folder} does not run on {self._device}: {error}") from error

    def unload(self) -> None:
        """See AlignModel."""
        if self._network is None:
            return
        self._network = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            give_back_freed_memory()

    def prepare(self, samples: Samples, units: Sequence[str]) -> PreparedAlignment:
        """See AlignModel."""
        if (duration_ms := samples_to_ms(len(samples))) > self.reach_ms:
            raise InvalidValue.of("audio", f"{duration_ms} ms at once; the aligner has times for {self.reach_ms} ms")
        model = self._config.model
        with torch.inference_mode():
            windows = windows_of(samples, self._mel, model.audio)
        n_audio = sum(n_tokens(window.n_frames, model.audio) for window in windows)
        ids = [self._begin, *[model.audio_token_id] * n_audio, self._end]
        slots: list[int] = []
        for unit in units:
            ids += self._tokenizer.encode(unit)
            slots += [len(ids), len(ids) + 1]
            ids += [self._config.slot_id] * 2
        if len(ids) > model.text.max_positions:
            raise InvalidValue.of("text", f"{len(ids)} tokens with the audio; the aligner reads {model.text.max_positions}")
        return PreparedAlignment(windows, tuple(ids), tuple(slots), n_audio)

    def run(self, pieces: Sequence[PreparedPiece]) -> list[tuple[int, ...]]:
        """See AlignModel."""
        classes = self.classes([_own(piece) for piece in pieces])
        return [tuple(class_ * self._config.class_ms for class_ in of_piece) for of_piece in classes]

    def classes(self, pieces: Sequence[PreparedAlignment]) -> list[list[int]]:
        """The class at each slot of each piece."""
        if self._network is None:
            raise RuntimeError("the aligner is not loaded")
        if not pieces:
            return []
        try:
            with torch.inference_mode():
                return self._classes(self._network, pieces)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Out of the handler, so that the error's frames no longer hold the tensors.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise AlignerOutOfMemory(reason)

    def _classes(self, network: Network, pieces: Sequence[PreparedAlignment]) -> list[list[int]]:
        decoder, device = network.decoder, self._device
        encoded = network.encoder.encode([window for piece in pieces for window in piece.windows])
        firsts = [sum(piece.n_tokens for piece in pieces[:n]) for n in range(len(pieces))]
        rows = Rows.of([(0, piece.n_tokens, first) for piece, first in zip(pieces, firsts, strict=True)], device)
        x = decoder.embed(to_device(torch.tensor([id_ for piece in pieces for id_ in piece.ids]), device))
        at = 0
        for piece, first in zip(pieces, firsts, strict=True):
            of_piece = encoded[at : at + len(piece.windows)]
            x[first + 1 : first + 1 + piece.n_audio] = torch.cat(of_piece)
            at += len(piece.windows)
        cache = KvCache(self._config.model.text, len(x), self._dtype, device)
        x = decoder.run(x, rows, cache)
        slots = [first + slot for piece, first in zip(pieces, firsts, strict=True) for slot in piece.slots]
        asked = x[to_device(torch.tensor(slots, dtype=torch.int64), device)]
        likeliest = iter([class_ for part in asked.split(_HEAD_ROWS) for class_ in decoder.logits(part).argmax(-1).tolist()])
        return [[next(likeliest) for _ in piece.slots] for piece in pieces]


def _own(piece: PreparedPiece) -> PreparedAlignment:
    if not isinstance(piece, PreparedAlignment):
        raise TypeError(f"prepared by another model: {type(piece).__name__}")
    return piece
