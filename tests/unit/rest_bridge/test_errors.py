"""Every status and reason of the contract has its HTTP answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rest_bridge.errors import UpstreamError, form_name, from_upstream

CONTRACT = Path(__file__).parents[3] / "proto/asr/v1/asr.proto"


def contract_reasons() -> list[tuple[str, str]]:
    """Status and reason pairs from the contract's table."""
    table = CONTRACT.read_text().split("ErrorInfo {reason")[1].split("package asr.v1")[0]
    pairs, status = [], ""
    for line in table.splitlines()[1:]:
        status = found[1] if (found := re.match(r"//   ([A-Z_]{6,})  +", line)) else status
        if status:
            rest = line.removeprefix("//").strip().removeprefix(status)
            pairs += [(status, reason) for reason in re.findall(r"\b[A-Z][A-Z_]{7,}\b", rest)]
    return pairs


@pytest.mark.parametrize(("status", "reason"), contract_reasons())
def test_every_reason_of_the_contract_is_mapped(status: str, reason: str) -> None:
    answer = from_upstream(UpstreamError(status, "why", reason=reason))

    assert 400 <= answer.status <= 504
    assert set(answer.body["error"]) == {"message", "type", "param", "code"}
    assert answer.code
    assert (answer.status >= 500) == (answer.kind == "server_error")


def test_the_contract_was_read() -> None:
    assert ("RESOURCE_EXHAUSTED", "OVERLOADED") in contract_reasons()
    assert len(contract_reasons()) >= 18


@pytest.mark.parametrize(("retry_after_s", "header"), [(None, "1"), (0.01, "1"), (1.0, "1"), (1.001, "2"), (90, "90")])
def test_retry_after_is_a_whole_number_of_seconds_from_one_up(retry_after_s: float | None, header: str) -> None:
    for status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        answer = from_upstream(UpstreamError(status, "busy", reason="X", retry_after_s=retry_after_s))
        assert answer.headers["Retry-After"] == header


def test_texts_of_the_transport_are_not_passed_on() -> None:
    for status in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "CANCELLED", "UNIMPLEMENTED", "DEADLINE_EXCEEDED", "DATA_LOSS"):
        assert "ipv4" not in from_upstream(UpstreamError(status, "ipv4:10.0.0.1 Traceback")).message


def test_a_deterministic_failure_is_not_worth_a_retry() -> None:
    assert from_upstream(UpstreamError("UNIMPLEMENTED", "", reason="NOT_IMPLEMENTED")).headers["x-should-retry"] == "false"
    assert from_upstream(UpstreamError("FAILED_PRECONDITION", "", reason="FEATURE_UNAVAILABLE")).headers == {
        "x-should-retry": "false"
    }


def test_the_fields_of_the_contract_have_form_names() -> None:
    assert form_name("config.context") == "prompt"
    assert form_name("config.phrases[3].text") == "keywords[]"
    assert form_name("config.voice_activity.silence_ms") == "chunking_strategy"
    assert form_name("something.else") == "something.else"


def test_only_what_was_not_served_is_safe_to_repeat() -> None:
    assert UpstreamError("UNAVAILABLE", "").is_safe_to_repeat
    assert UpstreamError("CANCELLED", "").is_safe_to_repeat
    assert not UpstreamError("RESOURCE_EXHAUSTED", "", reason="OVERLOADED").is_safe_to_repeat
    assert not UpstreamError("DEADLINE_EXCEEDED", "").is_safe_to_repeat
