"""Character error rate of a dataset's pages against known text.

    score.py DATASET TRUTH

DATASET is a folder that `quire run` wrote; TRUTH holds `NAME.gt.txt` beside or apart from the
documents, pages separated by form feed. A page's text is its layout blocks' text in reading
order. NFKC; white space is one space for English and nothing for Chinese and mixed pages (names
that start with `zh` or `mix`, or hold `-zh`). Rate = edit distance / length of the truth.
Needs: pip install pyarrow rapidfuzz
"""

import collections
import json
import pathlib
import re
import sys
import unicodedata
import urllib.parse

import pyarrow.parquet as parquet
from rapidfuzz.distance import Levenshtein


def normalise(text, spaced):
    return re.sub(r"\s+", " " if spaced else "", unicodedata.normalize("NFKC", text)).strip()


def newest_version(dataset):
    return json.loads(max((dataset / "versions").glob("*.json")).read_text("utf-8"))


def pages_by_name(dataset):
    """{file name without suffix: {page number: text}}"""
    names = collections.defaultdict(dict)
    columns = ["source_uri", "source_member", "page_number", "layout"]
    for file in newest_version(dataset)["files"]:
        if file["table"] != "pages":
            continue
        for row in parquet.read_table(dataset / file["path"], columns=columns).to_pylist():
            uri = row["source_member"] or urllib.parse.unquote(row["source_uri"])
            name = pathlib.PurePosixPath(uri).name.rsplit(".", 1)[0]
            text = "\n".join(block["text"] or "" for block in row["layout"])
            names[name][row["page_number"]] = text
    return names


def main(dataset, truth):
    read = pages_by_name(pathlib.Path(dataset))
    pooled = collections.Counter()
    for path in sorted(pathlib.Path(truth).glob("*.gt.txt")):
        name = path.name[: -len(".gt.txt")]
        spaced = not re.match(r"zh|mix", name) and "-zh" not in name
        errors = length = 0
        pages = path.read_text("utf-8").rstrip("\f\n").split("\f")
        for number, page in enumerate(pages, 1):
            expected = normalise(page, spaced)
            found = normalise(read.get(name, {}).get(number, ""), spaced)
            errors += Levenshtein.distance(expected, found)
            length += len(expected)
        missing = "" if name in read else "\tnot in the dataset"
        print(f"{name}\t{100 * errors / max(length, 1):.2f}%\t{errors}/{length}{missing}")
        if name in read:
            script = "spaced" if spaced else "unspaced"
            pooled.update({(script, "errors"): errors, (script, "length"): length})
            pooled.update({("all", "errors"): errors, ("all", "length"): length})
    for script in ("spaced", "unspaced", "all"):
        errors, length = pooled[script, "errors"], pooled[script, "length"]
        if length:
            print(f"pooled {script}\t{100 * errors / length:.3f}%\t{errors}/{length}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
