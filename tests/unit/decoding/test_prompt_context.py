import pytest

from asr_service.decoding.prompt_context import prompt_context
from asr_service.request import Phrase, RecognitionOptions


@pytest.mark.parametrize(
    ("context", "phrases", "prompt"),
    [
        ("", (), ""),
        ("A meeting.", (), "A meeting."),
        ("  as it is \n", (), "  as it is \n"),
        ("", (Phrase("Qwen"), Phrase("vLLM", 3.0)), "Qwen, vLLM"),
        ("A meeting.", (Phrase("Qwen"), Phrase("vLLM"), Phrase("Qwen")), "A meeting.\nQwen, vLLM"),
        ("", (Phrase("no", -1.0), Phrase("nor this", 0.0), Phrase("  ")), ""),
    ],
)
def test_phrases_to_prefer_follow_the_context(context: str, phrases: tuple[Phrase, ...], prompt: str) -> None:
    assert prompt_context(RecognitionOptions(context=context, phrases=phrases)) == prompt
