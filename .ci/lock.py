"""Writes constraints.txt: the versions that a fresh environment with everything in it gets today.

torch belongs to an extra that the tests do not install; its pin is the one in pyproject.toml.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path("build/lock")
TARGET = Path("constraints.txt")
HEADER = "# Written by `make lock`; never edited. Every installation uses these versions.\n"


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    pip = [str(FOLDER / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-e", ".[dev]"], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "silero-vad"], check=True)
    frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True).stdout
    torch = re.search(r"torch==[\w.]+", Path("pyproject.toml").read_text())
    assert torch is not None, "pyproject.toml pins torch"
    pins = sorted([*(line for line in frozen.splitlines() if "==" in line), torch[0]], key=str.lower)
    TARGET.write_text(HEADER + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
