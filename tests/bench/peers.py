"""Page images a second of `quire run` against RapidOCR over the same files, in turns.

    peers.py QUIRE_BINARY FOLDER [ROUNDS]

Each round times the whole `quire run` (start, planning, reading, sealing) and RapidOCR's reading
loop alone (its models already loaded), so that the ratio flatters the peer. Run it with nothing
else on the machine. Needs: pip install rapidocr==3.10.0 onnxruntime opencv-python-headless
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}


def main(quire, folder, rounds=3):
    files = sorted(str(p) for p in pathlib.Path(folder).iterdir() if p.suffix in SUFFIXES)
    reader = pathlib.Path(__file__).with_name("rapidocr_reader.py")
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(int(rounds)):
            out = pathlib.Path(scratch) / f"dataset-{number}"
            start = time.perf_counter()
            subprocess.run([quire, "run", *files, "--out", out], check=True, capture_output=True)
            ours.append(len(files) / (time.perf_counter() - start))
            shutil.rmtree(out)
            peer = subprocess.run(
                [sys.executable, reader, *files], check=True, capture_output=True, text=True
            )
            result = json.loads(peer.stdout.strip().splitlines()[-1])
            theirs.append(result["pages"] / result["seconds"])
            print(f"round {number + 1}: quire {ours[-1]:.3f} pages/s, "
                  f"RapidOCR {theirs[-1]:.3f} pages/s, ratio {ours[-1] / theirs[-1]:.3f}")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print(f"median: quire {statistics.median(ours):.3f} pages/s, "
          f"RapidOCR {statistics.median(theirs):.3f} pages/s, ratio {ratio:.3f}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
