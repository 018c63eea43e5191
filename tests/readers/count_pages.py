#!/usr/bin/env python3
"""Counts the pages of a dataset against what its inputs are known to hold.

Usage: count_pages.py DATASET KNOWN.json

DATASET is a folder or s3://bucket/prefix; for the latter the environment names the server
(QUIRE_TEST_S3_ENDPOINT) and the identity (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
KNOWN.json says how many pages each document has: {"doc_id": pages}.

Prints JSON: rows of pages and errors, and the pages that are lost, duplicated or unknown.  Reads
Parquet with pyarrow and shares no code with what wrote it.
"""

import collections
import json
import os
import sys

import pyarrow.fs
import pyarrow.parquet


def opened(dataset: str):
    if not dataset.startswith("s3://"):
        return pyarrow.fs.LocalFileSystem(), dataset.rstrip("/")
    scheme, _, host = os.environ["QUIRE_TEST_S3_ENDPOINT"].partition("://")
    store = pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=host,
        scheme=scheme,
        region=os.environ.get("AWS_REGION", "us-east-1"),
    )
    return store, dataset.removeprefix("s3://").rstrip("/")


def newest_version(store, root: str) -> dict:
    found = store.get_file_info(pyarrow.fs.FileSelector(f"{root}/versions"))
    names = sorted(info.path for info in found if info.path.endswith(".json"))
    if not names:
        sys.exit(f"{root} has no version")
    with store.open_input_stream(names[-1]) as file:
        return json.loads(file.read())


def main() -> None:
    dataset, known_path = sys.argv[1:]
    with open(known_path, encoding="utf-8") as file:
        known = json.load(file)
    store, root = opened(dataset)
    version = newest_version(store, root)
    seen = collections.Counter()
    rows = collections.Counter()
    for entry in version["files"]:
        if entry["table"] not in ("pages", "errors"):
            continue
        path = f"{root}/{entry['path']}"
        table = pyarrow.parquet.read_table(
            path, columns=["doc_id", "page_number"], filesystem=store, partitioning=None
        )
        rows[entry["table"]] += table.num_rows
        documents = table["doc_id"].to_pylist()
        numbers = table["page_number"].to_pylist()
        seen.update((doc, number or 0) for doc, number in zip(documents, numbers, strict=True))

    expected = {(doc, number) for doc, n in known.items() for number in range(1, n + 1)}
    named = lambda keys: sorted(f"{doc}-{number:06}" for doc, number in keys)  # noqa: E731
    json.dump(
        {
            "pages": rows["pages"],
            "errors": rows["errors"],
            "lost": named(expected - seen.keys()),
            "duplicated": named(key for key, count in seen.items() if count > 1),
            "unknown": named(seen.keys() - expected),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
