"""Trains the small Qwen3-ASR checkpoints under `tests/data/qwen3` from synthetic speech.

The released models are too big for a test suite, and random weights show only that the pieces fit together. These
checkpoints have the true architecture and have really learnt to read: a closed vocabulary in four languages, spoken by
espeak-ng. See README.md for how to run the package and for what the checkpoints achieve.
"""
