"""Makes the speech in this folder: Debian's flite speaks each sentence, PyAV writes it as 16 kHz mono FLAC beside its text.

    apt-get install flite
    .venv/bin/python tests/data/make_sample.py

The files are committed, so neither the tests nor the demonstration need flite. The embedded engine reads each of them without
an error; keep it so when changing a sentence.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av

FOLDER = Path(__file__).parent
SENTENCES = {  # file: (voice, text)
    "sample": ("rms", "the quick brown fox jumps over the lazy dog and the weather today is sunny and warm"),
    "speech/window": ("slt", "please open the window and close the door before you leave"),
    "speech/thanks": ("awb", "thank you very much for your help this morning"),
    "speech/umbrella": ("slt", "it is raining again so bring your umbrella"),
}


def speak(voice: str, text: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder, "spoken.wav")
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(spoken)], check=True)
        write_flac(spoken, target)


def write_flac(source: Path, target: Path) -> None:
    with av.open(str(source)) as wav, av.open(str(target), "w", format="flac") as flac:
        stream: Any = flac.add_stream("flac", rate=16_000, layout="mono")
        resampler = av.AudioResampler("s16", "mono", 16_000, frame_size=4096)
        for frame in [*wav.decode(audio=0), None]:
            for converted in resampler.resample(frame):
                flac.mux(stream.encode(converted))
        flac.mux(stream.encode(None))


def main() -> None:
    for name, (voice, text) in SENTENCES.items():
        target = FOLDER / f"{name}.flac"
        target.parent.mkdir(exist_ok=True)
        speak(voice, text, target)
        target.with_suffix(".txt").write_text(text + "\n")
        sys.stdout.write(f"{target} {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
