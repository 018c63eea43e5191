#!/usr/bin/env python3
"""Reads a dataset back with other people's readers and compares what they see.

Usage: read_back.py OUT [--digest-rows N]

Every table and split of the newest version is read with pyarrow, DuckDB, Polars and `datasets`.
Each must see the rows that the version file promises, the nested columns, and the embedded
images as images.  The digest of the rows is computed here a second time, from pyarrow's values,
so that the rule in the documentation is enough to check it.

Needs: pyarrow, duckdb, polars, datasets, pillow, numpy.  No network.  Exit 1 on disagreement.
"""

import argparse
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

TABLES = ["pages", "documents", "errors"]
# Columns that tell of a run rather than of the content.
RUN_COLUMNS = {"attempt", "attempts", "job_id", "shard_idx"}


def newest_version(out: Path) -> dict:
    files = sorted((out / "versions").glob("*.json"))
    if not files:
        sys.exit(f"{out} has no version")
    return json.loads(files[-1].read_text(encoding="utf-8"))


def groups(version: dict):
    """(table, split) -> entries of its files; tables without splits have None."""
    found = {}
    for entry in version["files"]:
        found.setdefault((entry["table"], entry["split"]), []).append(entry)
    return dict(sorted(found.items(), key=lambda pair: (TABLES.index(pair[0][0]), str(pair[0][1]))))


# What each reader says of a table: rows, elements of nested columns, code points, images.


def see_pyarrow(table: str, files: list[str]) -> dict:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    seen = {"rows": data.num_rows}
    if table == "pages":
        image_bytes = pc.struct_field(data["image"], "bytes")
        seen["blocks"] = pc.sum(pc.list_value_length(data["layout"])).as_py() or 0
        seen["chars"] = pc.sum(pc.utf8_length(data["text"])).as_py() or 0
        seen["images"] = data.num_rows - image_bytes.null_count
    if table == "errors":
        seen["tried"] = pc.sum(pc.list_value_length(data["engines_tried"])).as_py() or 0
    return seen


def see_duckdb(table: str, files: list[str]) -> dict:
    import duckdb

    source = "read_parquet([{}])".format(", ".join("'{}'".format(f.replace("'", "''")) for f in files))
    columns = {
        "pages": "count(*), sum(len(layout)), sum(length(text)), count(image.bytes)",
        "documents": "count(*)",
        "errors": "count(*), sum(len(engines_tried))",
    }[table]
    values = duckdb.sql(f"SELECT {columns} FROM {source}").fetchall()[0]
    names = {
        "pages": ["rows", "blocks", "chars", "images"],
        "documents": ["rows"],
        "errors": ["rows", "tried"],
    }[table]
    return {name: int(value or 0) for name, value in zip(names, values)}


def see_polars(table: str, files: list[str]) -> dict:
    import polars as pl

    columns = [pl.len().alias("rows")]
    if table == "pages":
        columns += [
            pl.col("layout").list.len().sum().alias("blocks"),
            pl.col("text").str.len_chars().sum().alias("chars"),
            pl.col("image").struct.field("bytes").is_not_null().sum().alias("images"),
        ]
    if table == "errors":
        columns.append(pl.col("engines_tried").list.len().sum().alias("tried"))
    row = pl.scan_parquet(files).select(columns).collect().to_dicts()[0]
    return {name: int(value or 0) for name, value in row.items()}


def see_datasets(out: Path, table: str, split: str, cache: str, problems: list[str]) -> dict:
    from datasets import Image, load_dataset

    data = load_dataset(str(out), table, split=split, cache_dir=cache)
    seen = {"rows": len(data)}
    if table == "pages":
        if not isinstance(data.features["image"], Image):
            problems.append(f"datasets takes image for {data.features['image']}")
            return seen
        seen["images"] = 0
        for image in data["image"]:
            if image is not None:
                image.load()
                seen["images"] += 1
        plain = data.remove_columns(["image"])
        seen["blocks"] = sum(len(row) for row in plain["layout"])
        seen["chars"] = sum(len(row) for row in plain["text"])
        labels = [block["label"] for row in plain["layout"] for block in row]
        if any(label is None for label in labels):
            problems.append("datasets sees a block without a label")
    if table == "errors":
        seen["tried"] = sum(len(row) for row in data["engines_tried"])
    return seen


# The digest of rows, by its documentation.


def canonical(value, arrow_type) -> str:
    import numpy as np
    import pyarrow.types as types

    if types.is_struct(arrow_type):
        members = []
        for at in sorted(range(arrow_type.num_fields), key=lambda at: arrow_type.field(at).name):
            field = arrow_type.field(at)
            if value.get(field.name) is not None:
                member = canonical(value[field.name], field.type)
                members.append(f"{json.dumps(field.name)}:{member}")
        return "{" + ",".join(members) + "}"
    if types.is_list(arrow_type):
        elements = (
            "null" if element is None else canonical(element, arrow_type.value_type)
            for element in value
        )
        return "[" + ",".join(elements) + "]"
    if types.is_float32(arrow_type):
        return np.format_float_positional(np.float32(value), unique=True, trim="-")
    if types.is_binary(arrow_type):
        return json.dumps(hashlib.sha256(value).hexdigest())
    return json.dumps(value, ensure_ascii=False)


def digest(file: str) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file, partitioning=None)
    kept = [
        field for field in table.schema if field.name not in RUN_COLUMNS and not field.name.endswith("_ms")
    ]
    row_type = pa.struct(kept)
    total = 0
    for row in table.select([field.name for field in kept]).to_pylist():
        text = canonical(row, row_type)
        total += int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest(), "big")
    return f"{total % 2**256:064x}"


def check_images(files: list[str], problems: list[str]) -> None:
    """Every embedded image opens and has the size that its row says."""
    import pyarrow.parquet as pq
    from PIL import Image

    for file in files:
        columns = ["page_id", "image_width", "image_height", "image"]
        for row in pq.read_table(file, columns=columns, partitioning=None).to_pylist():
            if row["image"] is None or row["image"]["bytes"] is None:
                continue
            with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                image.load()
                if image.size != (row["image_width"], row["image_height"]):
                    problems.append(f"{row['page_id']}: image is {image.size}, row says otherwise")


def check_card(out: Path, version: dict, problems: list[str]) -> None:
    """The paths of the card's configurations are the live files, no more and no fewer."""
    import yaml

    text = (out / "README.md").read_text(encoding="utf-8")
    card = yaml.safe_load(text.split("---\n")[1])
    listed = {
        (config["config_name"], None if config["config_name"] != "pages" else data["split"]): sorted(
            str(path.relative_to(out)) for pattern in data["path"] for path in out.glob(pattern)
        )
        for config in card.get("configs", [])
        for data in config["data_files"]
    }
    live = {key: sorted(entry["path"] for entry in entries) for key, entries in groups(version).items()}
    if listed != live:
        problems.append(f"README.md lists {listed}, the version {live}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--digest-rows", type=int, default=20_000, help="largest file whose digest is computed here"
    )
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    version = newest_version(out)
    problems: list[str] = []
    lines = []
    with tempfile.TemporaryDirectory() as cache:
        for (table, split), entries in groups(version).items():
            files = [str(out / entry["path"]) for entry in entries]
            seen = {
                "pyarrow": see_pyarrow(table, files),
                "duckdb": see_duckdb(table, files),
                "polars": see_polars(table, files),
                "datasets": see_datasets(out, table, split or "train", cache, problems),
            }
            name = f"{table}/{split}" if split else table
            promised = {"rows": sum(entry["rows"] for entry in entries)}
            if table == "pages":
                promised["chars"] = sum(entry["totals"]["text_chars"] for entry in entries)
            for reader, values in seen.items():
                lines.append((name, reader, values))
                for key, value in values.items():
                    expected = promised.get(key, seen["pyarrow"].get(key))
                    if value != expected:
                        problems.append(f"{name}: {reader} sees {key} {value}, expected {expected}")
            if table == "pages":
                check_images(files, problems)
            for entry, file in zip(entries, files):
                if entry["rows"] <= arguments.digest_rows and digest(file) != entry["rows_digest"]:
                    problems.append(f"{entry['path']}: rows_digest is {digest(file)}")
        check_card(out, version, problems)
    print(f"{out}, version {version['version']}")
    for name, reader, values in lines:
        told = "  ".join(f"{key} {value}" for key, value in values.items())
        print(f"  {name:<18} {reader:<9} {told}")
    for problem in problems:
        print(f"DISAGREEMENT {problem}")
    print("all readers agree" if not problems else f"{len(problems)} disagreements")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
