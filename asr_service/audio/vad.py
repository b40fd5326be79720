"""Silero's voice activity detector, from its ONNX file through onnxruntime (its Python package would bring torch).

A frame is 512 new samples with the 64 before them in front: 576 in all. Without those 64 the network raises nothing and hears
nothing. The whole-sequence export is used for any number of frames: it gives the same probabilities as the one-frame export and
hands its state over, at half the time per frame.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from asr_service.request import Samples

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)
_MODEL_FILE = "silero_vad_16k_sequence.onnx"
_MAX_FRAMES_PER_RUN = 1024
"""About half a minute; bounds the memory of one run."""

_LOG_ERRORS_ONLY = 3


class VadModelMissing(Exception):
    """The detector's file is not installed."""


class SileroVad:
    """The network. One for all streams of the process; runs of several threads at once are fine."""

    def __init__(self, model_path: Path | None = None) -> None:
        """Raises VadModelMissing."""
        path = find_model() if model_path is None else model_path
        if not path.is_file():
            raise VadModelMissing(_advice(f"{path} does not exist"))
        self._session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])

    def new_stream(self) -> VadStream:
        return VadStream(self)

    def run(self, frames: Samples, h: Samples, c: Samples) -> tuple[NDArray[np.float32], Samples, Samples]:
        """Frames of shape (n, 576) and the state to probabilities of shape (n,) and the state after them."""
        probabilities, h, c = self._session.run(None, {"input": frames, "h": h, "c": c})
        return probabilities, h, c


class VadStream:
    """One stream's detector state. Not for two threads at once; `push` computes without the GIL, so call it in a thread."""

    def __init__(self, vad: SileroVad) -> None:
        self._vad = vad
        self._h: Samples = np.zeros(_STATE_SHAPE, np.float32)
        self._c: Samples = np.zeros(_STATE_SHAPE, np.float32)
        self._held: Samples = np.zeros(CONTEXT_SAMPLES, np.float32)  # the context, then samples of an unfinished frame

    def push(self, samples: Samples) -> NDArray[np.float32]:
        """Speech probabilities, shape (n,), of the n frames that these samples (any number) complete."""
        held = np.concatenate((self._held, samples.astype(np.float32, copy=False)))
        n_frames = (len(held) - CONTEXT_SAMPLES) // FRAME_SAMPLES
        self._held = held[n_frames * FRAME_SAMPLES :].copy()
        if n_frames == 0:
            return np.zeros(0, np.float32)
        frames = sliding_window_view(held, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES][:n_frames]
        parts = [self._run(frames[at : at + _MAX_FRAMES_PER_RUN]) for at in range(0, n_frames, _MAX_FRAMES_PER_RUN)]
        return np.concatenate(parts)

    def finish(self) -> NDArray[np.float32]:
        """The probability of the last, unfinished frame, filled up with silence: shape (1,), or (0,) if there is none."""
        n_left = len(self._held) - CONTEXT_SAMPLES
        if n_left == 0:
            return np.zeros(0, np.float32)
        return self.push(np.zeros(FRAME_SAMPLES - n_left, np.float32))

    def _run(self, frames: Samples) -> NDArray[np.float32]:
        probabilities, self._h, self._c = self._vad.run(np.ascontiguousarray(frames), self._h, self._c)
        return probabilities


def session_options() -> onnxruntime.SessionOptions:
    """A small network: one thread, and no chatter."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    return options


def find_model(name: str = _MODEL_FILE) -> Path:
    """Where the silero_vad package keeps the file; the package itself is not imported. Raises VadModelMissing."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise VadModelMissing(_advice("the package silero-vad is not installed"))
    return Path(spec.submodule_search_locations[0], "data", name)


def _advice(what: str) -> str:
    return f"voice activity detection: {what}; `pip install --no-deps silero-vad` brings it"
