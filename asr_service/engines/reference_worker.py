"""The stock qwen-asr package as a process: see worker_pipes for what goes through the pipes.

    python -m asr_service.engines.reference_worker FAILPOINTS FOLDER DEVICE DTYPE THREADS

A job has context, language (an English name or null) and max_new_tokens, and float32 little-endian samples at 16 kHz; a result
has text and language, as the package gave them.

The package is used as it is. Two arguments are passed to its `generate` that its own `transcribe` leaves at their defaults:
the stop tokens of the checkpoint's generation config, because the default names those of the released models, and a criterion
that never stops the text by itself and looks whether the service has aborted the job.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from asr_service.engines.worker_pipes import BetweenBlocks, Pipes, Recognise, serve_jobs
from asr_service.request import SAMPLE_RATE


def main(failpoints: str, folder: str, device: str, dtype: str, threads: str) -> None:
    serve_jobs(Pipes(), failpoints, lambda: _load(folder, device, dtype, int(threads)))


def _load(folder: str, device: str, dtype: str, threads: int) -> Recognise:
    import numpy as np
    import torch
    from qwen_asr import Qwen3ASRModel

    if threads:
        torch.set_num_threads(threads)
    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    place = device if device != "auto" else "cuda:0" if on_cuda else "cpu"
    precision = getattr(torch, dtype if dtype != "auto" else "bfloat16" if on_cuda else "float32")
    asr = Qwen3ASRModel.from_pretrained(folder, dtype=precision, device_map=place)
    generate = asr.model.generate
    stop_tokens = _stop_tokens(asr.model)

    def recognise(job: Mapping[str, Any], samples: bytes, between_blocks: BetweenBlocks) -> Mapping[str, Any]:
        def never(*_: Any, **__: Any) -> bool:
            between_blocks()
            return False

        asr.model.generate = partial(generate, stopping_criteria=[never], **stop_tokens)
        asr.max_new_tokens = job["max_new_tokens"]
        audio = np.frombuffer(samples, "<f4").astype(np.float32)
        answer = asr.transcribe((audio, SAMPLE_RATE), context=job["context"], language=job["language"])[0]
        return {"text": answer.text, "language": answer.language}

    return recognise


def _stop_tokens(model: Any) -> Mapping[str, list[int]]:
    """The argument with which `generate` knows the checkpoint's own stop tokens; none where the checkpoint names none."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ids is None:
        return {}
    return {"eos_token_id": [ids] if isinstance(ids, int) else list(ids)}


if __name__ == "__main__":
    main(*sys.argv[1:])
