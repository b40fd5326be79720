"""Calls to copy and paste, for the address the system runs at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from asr_service.cli.children import Ports

SAMPLE = Path("tests/data/sample.flac")


@dataclass(frozen=True, slots=True)
class Call:
    """What it is, and the commands."""

    title: str
    command: str


def calls(host: str, ports: Ports, sample: Path, tools: Path, *, with_key: bool) -> list[Call]:
    """`tools` is the folder of the programs; with_key: the service wants a key, expected in API_KEY."""
    curl_key = ' -H "authorization: Bearer $API_KEY"' if with_key else ""
    grpc_key = f"{curl_key} --reflect-header '*'" if with_key else ""
    python_key = ', api_key=os.environ["API_KEY"]' if with_key else ""
    curl = f"curl{curl_key} -F file=@{sample} http://{host}:{ports.http}/v1/audio/transcriptions"
    grpc = (
        f"""printf '{{"audio":"%s"}}' "$(base64 < {sample} | tr -d '\\n')" |\n"""
        f"  {tools / 'buf'} curl --protocol grpc --http2-prior-knowledge{grpc_key} --data @- \\\n"
        f"  http://{host}:{ports.grpc}/asr.v1.AsrService/Transcribe"
    )
    python = f"""{tools / "python"} - <<'END'
import asyncio{", os" if with_key else ""}
from pathlib import Path
from asr_service.client import AsrClient

async def main():
    async with AsrClient("{host}:{ports.grpc}"{python_key}) as client:
        response = await client.transcribe(Path("{sample}").read_bytes())
        print(response.transcript.text)

asyncio.run(main())
END"""
    return [Call("curl", curl), Call("gRPC", grpc), Call("Python", python)]


def tools_folder() -> Path:
    """The folder of this interpreter's programs, as short as it can be said from here."""
    return shortened(Path(sys.executable).parent)


def shortened(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def find_sample() -> Path | None:
    """The sample that comes with the source, from here or from beside the package; None in an installed wheel."""
    beside = Path(__file__).parents[2] / SAMPLE
    return SAMPLE if SAMPLE.is_file() else beside if beside.is_file() else None
