"""Says whether the contract breaks those who use the last committed one.

Compared are the files here with the last commit, or, where they are the same, that commit with the one before.
"""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

BASE = Path("build/breaking")


def archive(revision: str) -> bytes | None:
    """The contract at a revision; None where there is none."""
    command = ["git", "archive", "--format=tar", revision, "proto", "buf.yaml"]
    result = subprocess.run(command, capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else None


def base_revision() -> str:
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "proto"], capture_output=True, check=False).returncode
    return "HEAD" if changed else "HEAD~1"


def main() -> None:
    revision = base_revision()
    tar = archive(revision)
    if tar is None:
        sys.stdout.write(f"buf breaking: skipped, there is no earlier contract ({revision})\n")
        return
    shutil.rmtree(BASE, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        files.extractall(BASE, filter="data")
    shutil.copytree("build/googleapis", BASE / "build/googleapis")
    result = subprocess.run(["buf", "breaking", "--against", str(BASE)], check=False)
    raise SystemExit(result.returncode)


if __name__ == "__main__":
    main()
