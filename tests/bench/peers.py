"""Page images a second of `quire run` against other programs with the same weights, in turns.

    peers.py QUIRE_BINARY FOLDER [--mode small|tiny] [--rounds 3] [--peers rapidocr,faster-paddle]
             [--cpu auto,avx2,...] [--tiny-models DIR]

Each round times every `quire run` (start, planning, reading, sealing), once for each value of
`--cpu`, which goes to QUIRE_CPU (`auto`: the variable is unset), and every peer's reading loop
alone (one engine, its models loaded and warm), so that the ratios flatter the peers. The order
turns from round to round. Run it with nothing else on the machine.

Where FOLDER holds `NAME.gt.txt` beside the images, everybody's text of the first round is compared
with it, as tests/accuracy/score.py does. Peers give lines and no order that fits every page, so
theirs are put into the order of `NAME.lines.tsv` first.

Needs: pip install rapidocr==3.10.0 faster-paddle==1.0.4 onnxruntime opencv-python-headless \\
           pyarrow rapidfuzz
RapidOCR has no tiny models of its own: DIR holds PP-OCRv6_det_tiny.onnx, PP-OCRv6_rec_tiny.onnx
and ppocrv6_tiny_dict.txt.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
HERE = pathlib.Path(__file__).parent
READERS = {"rapidocr": "rapidocr_reader.py", "faster-paddle": "faster_paddle_reader.py"}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = lambda text: [word for word in text.split(",") if word]
    parser.add_argument("quire")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--mode", choices=["small", "tiny"], default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=listed, default=list(READERS))
    parser.add_argument("--cpu", type=listed, default=["auto"])
    parser.add_argument("--tiny-models", metavar="DIR")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(READERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if args.mode == "tiny" and "rapidocr" in args.peers and not args.tiny_models:
        parser.error("RapidOCR reads in mode tiny with --tiny-models only")
    return args


def run_quire(args, cpu, files, scratch):
    """Pages a second, and the dataset's text by file name."""
    environment = {name: value for name, value in os.environ.items() if name != "QUIRE_CPU"}
    if cpu != "auto":
        environment["QUIRE_CPU"] = cpu
    out = scratch / "dataset"
    command = [args.quire, "run", *files, "--out", out, "--mode", args.mode]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    speed = len(files) / (time.perf_counter() - start)
    texts = texts_of(out)
    shutil.rmtree(out)
    shutil.rmtree(scratch / "dataset.quire", ignore_errors=True)
    return speed, texts


def texts_of(dataset):
    return {name: pages[min(pages)] for name, pages in score().pages_by_name(dataset).items()}


def run_peer(args, peer, files):
    """Pages a second, and the text by file name."""
    command = [sys.executable, HERE / READERS[peer], args.mode, args.tiny_models or "", *files]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(ended.stdout.strip().splitlines()[-1])
    texts = {name: in_order(args.folder, name, lines) for name, lines in result["lines"].items()}
    return result["pages"] / result["seconds"], texts


def in_order(folder, name, lines):
    """The text of a peer's lines, each at the place of the true line that it is nearest to."""
    path = folder / f"{name}.lines.tsv"
    if not path.exists():
        return "\n".join(text for _, _, text in lines)
    truth = []
    for row in path.read_text("utf-8").splitlines()[1:]:
        corners = [float(value) for value in row.split("\t")[:8]]
        truth.append((min(corners[::2]), max(corners[::2]), corners[1::2]))

    def place(line):
        x, y, _ = line
        distances = [
            max(left - x, x - right, 0) + abs(y - sum(heights) / len(heights))
            for left, right, heights in truth
        ]
        return distances.index(min(distances)), x

    return "\n".join(text for _, _, text in sorted(lines, key=place))


def score():
    sys.path.insert(0, str(HERE.parent / "accuracy"))
    import score

    return score


def error_of(texts, folder):
    """Pooled character error over the pages whose text is known, if any is."""
    errors = length = 0
    for path in folder.glob("*.gt.txt"):
        name = path.name[: -len(".gt.txt")]
        if name in texts:
            page = path.read_text("utf-8").rstrip("\f\n").split("\f")[0]
            wrong, of = score().errors(name, page, texts[name])
            errors, length = errors + wrong, length + of
    return f"{100 * errors / length:.3f}%" if length else "unknown"


def main():
    args = arguments()
    files = sorted(str(p) for p in args.folder.iterdir() if p.suffix in SUFFIXES)
    ours = {f"quire ({cpu})": cpu for cpu in args.cpu}
    speeds = {name: [] for name in [*ours, *args.peers]}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.rounds):
            turn = number % len(speeds)
            order = list(speeds)[turn:] + list(speeds)[:turn]
            for name in order:
                if name in ours:
                    speed, texts = run_quire(args, ours[name], files, pathlib.Path(scratch))
                else:
                    speed, texts = run_peer(args, name, files)
                speeds[name].append(speed)
                error = f", error {error_of(texts, args.folder)}" if number == 0 else ""
                print(f"round {number + 1}: {name} {speed:.3f} pages/s{error}", flush=True)
    for name, values in speeds.items():
        print(f"median: {name} {statistics.median(values):.3f} pages/s")
    for name in ours:
        for peer in args.peers:
            ratios = [a / b for a, b in zip(speeds[name], speeds[peer])]
            print(
                f"{name} / {peer}: median {statistics.median(ratios):.3f}, "
                f"{min(ratios):.3f} to {max(ratios):.3f}"
            )


if __name__ == "__main__":
    main()
