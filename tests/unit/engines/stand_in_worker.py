"""A worker process without a model, for the tests of WorkerRunner: it answers with what it was asked.

A context of "wait" looks whether the service has aborted the job until it has; "break" fails the job.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from asr_service.engines.worker_pipes import BetweenBlocks, Pipes, Recognise, serve_jobs


def main(failpoints: str, *arguments: str) -> None:
    def load() -> Recognise:
        if arguments[0] == "no-such-model":
            raise FileNotFoundError(arguments[0])
        print("this goes to stderr, not between the frames", flush=True)  # noqa: T201
        return recognise

    def recognise(job: Mapping[str, Any], samples: bytes, between_blocks: BetweenBlocks) -> Mapping[str, Any]:
        while job["context"] == "wait":
            between_blocks()
        if job["context"] == "break":
            raise ValueError("broken")
        text = f" {job['context']} {job['max_new_tokens']} tokens, {len(samples) // 4} samples, {' '.join(arguments)} "
        return {"text": text, "language": job["language"] or "English"}

    serve_jobs(Pipes(), failpoints, load)


if __name__ == "__main__":
    main(*sys.argv[1:])
