"""Reads page images with RapidOCR (onnxruntime, 2 threads): the peer of `peers.py`.

Prints one JSON object: pages, seconds in the reading loop (models loaded before).
"""

import json
import sys
import time

import cv2
from rapidocr import RapidOCR

engine = RapidOCR(
    params={
        "EngineConfig.onnxruntime.intra_op_num_threads": 2,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Global.log_level": "error",
    }
)
start = time.perf_counter()
for path in sys.argv[1:]:
    engine(cv2.imread(path))
print(json.dumps({"pages": len(sys.argv) - 1, "seconds": time.perf_counter() - start}))
