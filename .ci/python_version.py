"""Says whether this Python can run the product; old Pythons must be able to read this file."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
    sys.exit(
        "Python 3.11 or newer is needed and %s is %d.%d; choose another one: make PYTHON=python3.12 ..."  # noqa: UP031
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
