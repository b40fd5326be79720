"""The embedded recogniser as a process: see worker_pipes for what goes through the pipes.

    python -m asr_service.engines.pocketsphinx_worker FAILPOINTS

A job has int16 little-endian samples at 16 kHz. With max_alternatives it is a whole segment, and the result has what
SphinxDecoder.decode gives; with ear (0, 1, ...), is_new and start it is a piece of a growing one, see SphinxListener.hear. With
align, a list of [word, as the dictionary has it], only the times of these words are wanted: the result has them again, and
`spans`, as SphinxDecoder.align gives them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from asr_service.engines.worker_pipes import BetweenBlocks, Pipes, Recognise, serve_jobs


def main(failpoints: str) -> None:
    serve_jobs(Pipes(), failpoints, _load)


def _load() -> Recognise:
    # After SIGINT is out of the way
    from asr_service.engines.pocketsphinx_decoder import SphinxDecoder
    from asr_service.engines.pocketsphinx_listener import SphinxListener

    decoder = SphinxDecoder()
    ears: dict[int, SphinxListener] = {}

    def recognise(job: Mapping[str, Any], pcm: bytes, between_blocks: BetweenBlocks) -> Mapping[str, Any]:
        if "align" in job:
            return {"spans": decoder.align(pcm, [word for _, word in job["align"]], between_blocks), "align": job["align"]}
        if "ear" not in job:
            return decoder.decode(pcm, job["max_alternatives"], between_blocks)
        if job["ear"] not in ears:
            ears[job["ear"]] = SphinxListener(decoder)
        return ears[job["ear"]].hear(pcm, start=job["start"], is_new=job["is_new"], between_blocks=between_blocks)

    return recognise


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
