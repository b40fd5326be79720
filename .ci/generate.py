"""Generates asr_service/pb from proto/; with --check only says whether the committed code is what would be generated.

protoc writes imports as absolute as the proto paths are ("from asr.v1 import ..."); they are moved below asr_service.pb, so
that the product owns one top-level package and nobody's `asr` collides with it.
"""

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

import vendor_protos

BUILD = Path("build/pb")
TARGET = Path("asr_service/pb")
PACKAGE = "asr_service.pb"
HEADER = '"""Generated from proto/asr/v1 by `make generate`; never edited."""\n'


def build() -> None:
    vendor_protos.main()
    shutil.rmtree(BUILD, ignore_errors=True)
    subprocess.run(["buf", "generate"], check=True)
    for path in sorted(BUILD.rglob("*.py*")):
        if "_pb2_grpc" in path.name and "Stub" not in path.read_text():
            path.unlink()  # a file of messages only
            continue
        text = re.sub(r"^from asr\.v1 import", f"from {PACKAGE}.asr.v1 import", path.read_text(), flags=re.M)
        text = re.sub(r"^import asr\.v1\.(\w+)$", rf"import {PACKAGE}.asr.v1.\1", text, flags=re.M)
        text = re.sub(r"(?<![\w.'\"/])asr\.v1\.(\w+_pb2)", rf"{PACKAGE}.asr.v1.\1", text) if path.suffix == ".pyi" else text
        path.write_text(text)
    for folder in (BUILD, BUILD / "asr", BUILD / "asr/v1"):
        (folder / "__init__.py").write_text(HEADER)


def differences() -> list[str]:
    made = {p.relative_to(BUILD) for p in BUILD.rglob("*.py*")}
    kept = {p.relative_to(TARGET) for p in TARGET.rglob("*.py*") if "__pycache__" not in p.parts}
    changed = {p for p in made & kept if not filecmp.cmp(BUILD / p, TARGET / p, shallow=False)}
    return sorted(str(p) for p in (made ^ kept) | changed)


def main() -> None:
    build()
    if "--check" in sys.argv[1:]:
        if stale := differences():
            raise SystemExit(f"{TARGET} is not what proto/ generates; run `make generate`. Different: {', '.join(stale)}")
        return
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(BUILD, TARGET)


if __name__ == "__main__":
    main()
