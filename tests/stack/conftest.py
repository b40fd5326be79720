"""One stack for all modules that test the front: three services, two bridges and Envoy, as `make stack` starts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack.front import FrontStack, running_stack


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontStack]:
    """Where ASR_STACK names a folder, the stack that runs there; `envoy/verify` does so."""
    with running_stack(tmp_path_factory.mktemp("front")) as stack:
        yield stack
