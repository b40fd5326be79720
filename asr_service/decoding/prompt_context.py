"""What a recogniser with a prompt is told about the conversation."""

from __future__ import annotations

from asr_service.request import RecognitionOptions


def prompt_context(options: RecognitionOptions) -> str:
    """The context, and under it the phrases to prefer as a list. Phrases to avoid cannot be said in a prompt."""
    wanted = (phrase.text.strip() for phrase in options.phrases if phrase.weight > 0)
    phrases = ", ".join(dict.fromkeys(phrase for phrase in wanted if phrase))
    return "\n".join(part for part in (options.context, phrases) if part)
