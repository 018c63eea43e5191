"""Reads page images with faster-paddle (Rust, onnxruntime): a peer of `peers.py`.

    faster_paddle_reader.py small|tiny - IMAGE...

Prints one JSON object: pages, seconds in the reading loop (models loaded and one page read
before), and the lines of every page with the middle of their boxes. Its models lie inside its
library.
"""

import json
import os
import pathlib
import sys
import time

from faster_paddle import OcrEngine

mode, _, *paths = sys.argv[1:]
engine = OcrEngine(model_size=mode, threads=len(os.sched_getaffinity(0)))
engine.ocr(pathlib.Path(paths[0]).read_bytes())
lines = {}
start = time.perf_counter()
for path in paths:
    found = engine.ocr(pathlib.Path(path).read_bytes())
    lines[pathlib.Path(path).stem] = list(found["bounds"].values())
seconds = time.perf_counter() - start


def middle(line):
    (left, top), (right, bottom) = line["topLeftCoord"], line["bottomRightCoord"]
    return [(left + right) / 2, (top + bottom) / 2, line["text"]]


lines = {name: [middle(line) for line in page] for name, page in lines.items()}
print(json.dumps({"pages": len(paths), "seconds": seconds, "lines": lines}))
