"""Live captions of a recording: python docs/examples/stream.py FILE [HOST:PORT]

Partials replace each other; what is committed of them stays. A final replaces all partials of its utterance.
"""

# ruff: noqa: T201

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from asr_service.client import AsrClient, AsrClientError, SessionConfig


async def audio(path: Path) -> AsyncIterator[bytes]:
    """Stands for a recorder: yields the file's bytes as they would come."""
    with path.open("rb") as file:
        while chunk := file.read(4096):
            yield chunk
            await asyncio.sleep(0.01)


async def main(path: Path, server: str) -> None:
    async with AsrClient(server) as client, client.stream_transcribe(SessionConfig()) as session:
        session.feed(audio(path))
        async for event in session:
            match event.WhichOneof("event"):
                case "partial":
                    print(f"... {event.partial.committed}[{event.partial.tail}]")
                case "final":
                    segment = event.final.segment
                    print(f"{segment.start_ms / 1000:.1f} to {segment.end_ms / 1000:.1f} s: {segment.text}")
                case "end":
                    print(f"{event.end.usage.audio_ms / 1000:.1f} s of audio")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: stream.py FILE [HOST:PORT]")
    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else "127.0.0.1:50051"))
    except (AsrClientError, OSError) as error:
        raise SystemExit(str(error)) from None
