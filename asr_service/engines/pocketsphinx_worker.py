"""The embedded recogniser as a process: see worker_pipes for what goes through the pipes.

    python -m asr_service.engines.pocketsphinx_worker FAILPOINTS

A job has max_alternatives, and int16 little-endian samples at 16 kHz; a result has what SphinxDecoder.decode gives.
"""

from __future__ import annotations

import sys

from asr_service.engines.worker_pipes import Pipes, Recognise, serve_jobs


def main(failpoints: str) -> None:
    serve_jobs(Pipes(), failpoints, _load)


def _load() -> Recognise:
    from asr_service.engines.pocketsphinx_decoder import SphinxDecoder  # after SIGINT is out of the way

    decoder = SphinxDecoder()
    return lambda job, pcm, between_blocks: decoder.decode(pcm, job["max_alternatives"], between_blocks)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
