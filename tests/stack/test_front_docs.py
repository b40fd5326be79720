"""Every example of docs/front.md works as written, against a running stack."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from envoy.compose import parse
from tests.stack.front import TEXT, FrontStack
from tests.stack.processes import EXPECTED, ROOT, run

PAGE = (ROOT / "docs/front.md").read_text()
EXAMPLES = re.findall(r"^```(bash|python)\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, flags=re.M | re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(i) for i in range(len(EXAMPLES))])
def test_the_example_prints_what_the_page_says(example: tuple[str, str, str], front: FrontStack) -> None:
    language, text, expected = example
    text = text.replace("127.0.0.1:8080", front.public).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    arguments = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]

    result = run(arguments, os.environ)

    assert result.returncode == 0, result.stderr
    # The stack of the tests has a recogniser that hears other words.
    assert expected.strip().replace(EXPECTED, TEXT) in result.stdout


def test_every_block_that_can_be_run_is_run() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^```(?:bash|python)$", PAGE, flags=re.M)) == 6


def test_every_option_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])

    known = capsys.readouterr().out
    options = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert {"--tls", "--jwt", "--rate-limit"} <= options
    assert [option for option in options if option not in known] == []
