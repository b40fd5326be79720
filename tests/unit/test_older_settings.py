"""The settings of the two older servers: each is understood, or refused with a reason; none is silently ignored."""

import pytest

from asr_service.config import Settings
from asr_service.environment import EnvironmentSettings
from rest_bridge.config import BridgeSettings

FIRST_SERVER = [
    "MODEL_ID", "FAST_MODEL_ID", "FORCED_ALIGNER_ID", "IDLE_TIMEOUT", "REQUEST_TIMEOUT", "WS_BUFFER_SIZE",
    "WS_OVERLAP_SIZE", "WS_WINDOW_MAX_S", "WS_FLUSH_SILENCE_MS", "ASR_USE_SERVER_VAD", "DUAL_MODEL", "QUANTIZE",
    "USE_CUDA_GRAPHS", "ONNX_ENCODER_PATH", "TRT_ENCODER_PATH", "USE_SPECULATIVE", "USE_VLLM", "USE_CAUSAL_ENCODER",
    "GATEWAY_MODE", "WORKER_HOST", "WORKER_PORT", "NUMA_NODE", "USE_GRANIAN", "PORT", "LOG_LEVEL", "SSE_CHUNK_SECONDS",
    "SSE_OVERLAP_SECONDS", "SUBTITLE_MAX_DURATION", "SUBTITLE_PAUSE_THRESHOLD", "SUBTITLE_MIN_DURATION",
    "SUBTITLE_MIN_GAP", "OPENAI_BASE_URL", "TRANSLATE_MODEL", "TRANSLATE_TEMPERATURE", "TRANSLATE_SRT_TEMPERATURE",
]  # fmt: skip
SECOND_SERVER = [
    "MODEL_NAME", "DEVICE", "DTYPE", "MAX_INFERENCE_BATCH_SIZE", "MAX_NEW_TOKENS",
]  # fmt: skip

# OPENAI_API_KEY is not in the list: it is the key for OPENAI_BASE_URL, asks for nothing alone, and many people have it set.

PROGRAMS: tuple[type[EnvironmentSettings], ...] = (Settings, BridgeSettings)


def known() -> set[str]:
    names = {name for program in PROGRAMS for row in program.rows() for name in row.names}
    return names | {refusal.name for program in PROGRAMS for refusal in program.refusals}


@pytest.mark.parametrize("name", FIRST_SERVER + SECOND_SERVER)
def test_an_older_name_is_understood_or_refused(name: str) -> None:
    assert name in known()


def test_no_program_both_reads_and_refuses_a_name() -> None:
    for program in PROGRAMS:
        read = {name for row in program.rows() for name in row.names}
        assert not read & {refusal.name for refusal in program.refusals}
