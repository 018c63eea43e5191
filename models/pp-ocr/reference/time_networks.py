"""Prints how long onnxruntime takes for each network on one thread; see examples/time_networks.rs."""

import time

import numpy
import onnxruntime

from convert import network

RUNS = 20


def session(name):
    source, _ = network(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        source.read(), options, providers=["CPUExecutionProvider"]
    )


def show(name, model, *dims):
    images = numpy.random.default_rng(1).uniform(-1, 1, dims).astype(numpy.float32)
    feed = {model.get_inputs()[0].name: images}
    least = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        model.run(None, feed)
        least = min(least, time.perf_counter() - start)
    print(f"{name}: {1000 * least:.1f} ms")


for mode, prefix in (("small", ""), ("tiny", "tiny-")):
    detector = session(prefix + "detector")
    show(f"{mode} detector 736x736", detector, 1, 3, 736, 736)
    show(f"{mode} detector 960x736", detector, 1, 3, 960, 736)
    recognizer = session(prefix + "recognizer")
    for lines, width in ((1, 320), (6, 320), (6, 640), (1, 1280)):
        show(f"{mode} recognizer {lines} x {width}", recognizer, lines, 3, 48, width)
show("classifier 6", session("classifier"), 6, 3, 48, 192)
show("layout", session("layout"), 1, 3, 800, 608)
