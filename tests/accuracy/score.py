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


def is_spaced(name):
    return not re.match(r"zh|mix", name) and "-zh" not in name


def errors(name, expected, found):
    """Edit distance of a page of a document, and the length of its truth."""
    spaced = is_spaced(name)
    expected = normalise(expected, spaced)
    return Levenshtein.distance(expected, normalise(found, spaced)), len(expected)


def main(dataset, truth):
    read = pages_by_name(pathlib.Path(dataset))
    pooled = collections.Counter()
    for path in sorted(pathlib.Path(truth).glob("*.gt.txt")):
        name = path.name[: -len(".gt.txt")]
        wrong = length = 0
        pages = path.read_text("utf-8").rstrip("\f\n").split("\f")
        for number, page in enumerate(pages, 1):
            on_page, of = errors(name, page, read.get(name, {}).get(number, ""))
            wrong, length = wrong + on_page, length + of
        missing = "" if name in read else "\tnot in the dataset"
        print(f"{name}\t{100 * wrong / max(length, 1):.2f}%\t{wrong}/{length}{missing}")
        if name in read:
            script = "spaced" if is_spaced(name) else "unspaced"
            pooled.update({(script, "errors"): wrong, (script, "length"): length})
            pooled.update({("all", "errors"): wrong, ("all", "length"): length})
    for script in ("spaced", "unspaced", "all"):
        wrong, length = pooled[script, "errors"], pooled[script, "length"]
        if length:
            print(f"pooled {script}\t{100 * wrong / length:.3f}%\t{wrong}/{length}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
