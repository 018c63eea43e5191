"""Reads page images with RapidOCR (onnxruntime, 2 threads): a peer of `peers.py`.

    rapidocr_reader.py small|tiny TINY_MODELS IMAGE...

Prints one JSON object: pages, seconds in the reading loop (models loaded and one page read
before), and the lines of every page with the middle of their boxes.
"""

import json
import pathlib
import sys
import time

import cv2
from rapidocr import RapidOCR

mode, tiny_models, *paths = sys.argv[1:]
params = {
    "EngineConfig.onnxruntime.intra_op_num_threads": 2,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Global.log_level": "error",
}
if mode == "tiny":
    folder = pathlib.Path(tiny_models)
    params |= {
        "Det.model_path": str(folder / "PP-OCRv6_det_tiny.onnx"),
        "Rec.model_path": str(folder / "PP-OCRv6_rec_tiny.onnx"),
        "Rec.rec_keys_path": str(folder / "ppocrv6_tiny_dict.txt"),
    }
engine = RapidOCR(params=params)
engine(cv2.imread(paths[0]))
lines = {}
start = time.perf_counter()
for path in paths:
    lines[pathlib.Path(path).stem] = engine(cv2.imread(path))
seconds = time.perf_counter() - start


def middles(page):
    if page.boxes is None:
        return []
    return [[*map(float, box.mean(axis=0)), text] for box, text in zip(page.boxes, page.txts)]


lines = {name: middles(page) for name, page in lines.items()}
print(json.dumps({"pages": len(paths), "seconds": seconds, "lines": lines}))
