"""Writes the page images of tests/pages: parts of pages that were typeset for this project (CC0),
with their text beside them, and a probability map with the boxes that OpenCV finds in it.

    python reference/pages.py CORPUS MODELS

CORPUS is the folder that holds `pages/`, MODELS the `rapidocr` package's folder of models.
Needs: numpy, onnxruntime, opencv-python, pillow.
"""

import json
import pathlib
import sys

import cv2
import numpy as np
import onnxruntime
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent.parent / "tests"
PARTS = [("en03_minutes_100dpi", 470), ("zh07_100dpi", 330)]
MAP_PAGE = "en05_twocol_scan_skew1.jpg"


def corners(points):
    """The smallest rectangle around points, clockwise from the top left, and its short edge."""
    rectangle = cv2.minAreaRect(points)
    by_x = sorted(cv2.boxPoints(rectangle).tolist())
    left, right = sorted(by_x[:2], key=lambda p: p[1]), sorted(by_x[2:], key=lambda p: p[1])
    return [left[0], right[0], right[1], left[1]], min(rectangle[1])


def boxes(prob):
    """Cores of lines before they grow, with the mean probability inside."""
    mask = cv2.dilate((prob > 0.3).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for contour in contours:
        quad, short = corners(contour)
        if short < 3:
            continue
        polygon = np.array(quad, np.float32)
        left, top = np.floor(polygon.min(0)).astype(int)
        right, bottom = np.ceil(polygon.max(0)).astype(int) + 1
        inside = [
            prob[y, x]
            for y in range(max(top, 0), min(bottom, prob.shape[0]))
            for x in range(max(left, 0), min(right, prob.shape[1]))
            if cv2.pointPolygonTest(polygon, (float(x), float(y)), True) > -1e-3
        ]
        score = float(np.mean(inside))
        if score >= 0.5:
            found.append({"core": [[round(v, 3) for v in p] for p in quad], "score": round(score, 4)})
    return found


def main(corpus, models):
    pages = pathlib.Path(corpus) / "pages"
    for name, height in PARTS:
        lines = [row.split("\t") for row in (pages / f"{name}.lines.tsv").read_text("utf-8").splitlines()[1:]]
        text = [row[8] for row in lines if float(row[7]) < height]
        # Between the last line and the one after it.
        height = (float(lines[len(text) - 1][7]) + float(lines[len(text)][1])) / 2
        image = Image.open(pages / f"{name}.png").convert("L")
        part = image.crop((0, 0, image.width, round(height)))
        part.save(HERE / "pages" / f"{name[:2]}.png", optimize=True)
        (HERE / "pages" / f"{name[:2]}.txt").write_text("\n".join(text) + "\n", "utf-8")
    image = Image.open(pages / MAP_PAGE).convert("RGB").resize((448, 640), Image.BOX)
    values = np.asarray(image, np.float32)[:, :, ::-1] / 127.5 - 1
    session = onnxruntime.InferenceSession(pathlib.Path(models) / "PP-OCRv6_det_small.onnx")
    prob = session.run(None, {session.get_inputs()[0].name: values.transpose(2, 0, 1)[None]})[0][0, 0]
    stored = np.round(prob * 255).astype(np.uint8)
    Image.fromarray(stored).save(HERE / "pages" / "map.png", optimize=True)
    expected = boxes(stored.astype(np.float32) / 255)
    rows = [json.dumps(row) for row in expected]
    (HERE / "pages" / "map.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
