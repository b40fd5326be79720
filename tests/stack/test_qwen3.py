"""The Qwen3-ASR engine the way a user starts it: over the command line, gRPC and HTTP, with real processes."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest
from openai import OpenAI

from asr_service.cli.children import Ports
from tests.model.sounds import Spoken, error_rate, spoken_clips
from tests.stack.processes import environ, run, up

DATA = Path(__file__).parents[1] / "data/qwen3"
SMALL = {"ENGINE": "qwen3", "MODEL_ID": str(DATA / "small"), "DEVICE": "cpu", "TORCH_THREADS": "1"}
ASR = [sys.executable, "-m", "asr_service"]


def clips() -> dict[Path, Spoken]:
    """Three clean clips of each language."""
    manifest = json.loads((DATA / "speech/manifest.json").read_text("utf-8"))
    paths = [DATA / "speech" / entry["file"] for entry in manifest if entry["kind"] == "clean"]
    chosen: dict[str, list[tuple[Path, Spoken]]] = {}
    for path, clip in zip(paths, spoken_clips("clean"), strict=True):
        chosen.setdefault(clip.language, []).append((path, clip))
    return dict(pair for pairs in chosen.values() for pair in pairs[:3])


def test_the_command_alone_reads_each_language() -> None:
    result = run([*ASR, "transcribe", *map(str, clips())], environ(Ports(0, 0, 0), **SMALL))

    assert result.returncode == 0, result.stderr
    texts = [line.partition(": ")[2] for line in result.stdout.splitlines()]
    assert error_rate(list(clips().values()), texts) <= 0.06


def test_grpc_and_http_give_the_same_right_words() -> None:
    path, clip = next(iter(clips().items()))
    with up(**SMALL) as running:
        running.wait_for("asyncio.run(main())")
        command = run([*ASR, "transcribe", "--server", f"127.0.0.1:{running.ports.grpc}", str(path)], environ(running.ports))
        base_url = f"http://127.0.0.1:{running.ports.http}/v1"
        with OpenAI(base_url=base_url, api_key="none") as client, path.open("rb") as audio:
            http = client.audio.transcriptions.create(model="whisper-1", file=audio, response_format="verbose_json")
            named = [model.id for model in client.models.list()]
        with urllib.request.urlopen(f"http://127.0.0.1:{running.ports.http}/ready", timeout=10) as ready:
            assert ready.status == 200

    assert command.stdout.strip() == http.text
    assert error_rate([clip], [http.text]) <= 0.2
    assert http.language.lower() in ("english", "en")
    assert SMALL["MODEL_ID"] in named


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"MODEL_ID": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"DEVICE": "cuda:7"}, "cuda:7"),
        ({"KV_CACHE_MIB": "1", "DTYPE": "float64"}, "DTYPE"),
    ],
)
def test_what_cannot_be_had_stops_the_start_and_says_why(settings: dict[str, str], complaint: str) -> None:
    result = run([*ASR, "serve"], environ(Ports(0, 0, 0), **(SMALL | settings)))

    assert result.returncode != 0
    assert complaint in result.stderr + result.stdout
