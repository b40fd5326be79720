"""Qwen3-ASR on torch: checkpoint, features, networks, and the steps that a scheduler plans."""
