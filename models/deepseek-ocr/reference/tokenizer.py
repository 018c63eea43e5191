"""Writes the tokenizers of the shrunken checkpoints.

    python models/deepseek-ocr/reference/tokenizer.py

Byte-level BPE in the form of the published file, small enough for the shrunken vocabularies: ids
0 and 1 are the ends of the text, the image's slot is where the checkpoint's config.json has it,
the other markers stand beside it. Every byte that UTF-8 can hold has a token, so any text can be
written. The larger vocabulary is filled up with merges, learned from the sentences below.
"""

import collections
import json
import re
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tiny"
BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
SENTENCES = """
The page is read line by line, and its blocks are put in order: a title, some text, a table.
A table has rows and cells; an image has a caption; an equation stands by itself.
Convert the document to markdown. Free OCR. Parse the figure. OCR this image.
Describe this image in detail. Locate the thing in the image.
title text sub_title image image_caption table table_caption table_footnote equation
[[120, 260, 480, 520]] [[80, 600, 920, 780]] [[0, 0, 999, 999]] [[100, 50, 900, 90]]
What is printed on paper and what is written by hand are both read as they are, without a guess.
Before noon the harbor was quiet; three boats had left with nets, ropes and fresh water.
Measured over several months, growth followed temperature more closely than rainfall did.
Nobody signed the letter, yet everyone in the village knew whose careful writing it was.
Prices rose by 12 percent in 2024, 7 percent in 2025 and hardly at all during the summer.
# First heading
## Second heading
- one thing
- another thing
<table></table> <center></center> \\( x^{2} \\) \\[ y_{1} = 3 \\]
"""


def characters():
    """The character of each byte: printable ones are themselves, the others come after U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    named = {byte: chr(byte) for byte in plain}
    named.update({byte: chr(0x100 + index) for index, byte in enumerate(others)})
    return named


def merges(n_merges, named):
    """The pairs of the sentences' words, commonest first; of equals, the first in order."""
    words = re.findall(r" ?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\s", SENTENCES)
    pieces = [[named[byte] for byte in word.encode()] for word in words]
    found = []
    while len(found) < n_merges:
        counts = collections.Counter(pair for word in pieces for pair in zip(word, word[1:]))
        known = {"".join(pair) for pair in found}
        pair, _ = min(
            ((pair, n) for pair, n in counts.items() if "".join(pair) not in known),
            key=lambda item: (-item[1], item[0]),
        )
        found.append(pair)
        for word in pieces:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == pair:
                    word[at : at + 2] = ["".join(pair)]
                at += 1
    return found


def tokenizer(folder):
    config = json.loads((folder / "config.json").read_text())
    n_ids, image = config["vocab_size"], config["fixture_extra"]["image_token_id"]
    markers = ["<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"]
    tags = ["<td>", "</td>", "<tr>", "</tr>"]
    special = {BOS: config["bos_token_id"], EOS: config["eos_token_id"], PAD: 2}
    special.update({marker: image + index for index, marker in enumerate(markers)})
    first_tag = image + len(markers) if image + 10 < n_ids else image - len(tags)
    special.update({tag: first_tag + index for index, tag in enumerate(tags)})
    if image + 11 < n_ids:
        special.update({"<|User|>": image + 10, "<|Assistant|>": image + 11})
    named = characters()
    # 0xC0, 0xC1 and what is above 0xF4 never occur in UTF-8.
    in_text = [byte for byte in range(0xF5) if byte not in (0xC0, 0xC1)]
    alphabet = [named[byte] for byte in in_text]
    free = [index for index in range(n_ids) if index not in special.values()]
    pairs = merges(len(free) - len(alphabet), named)
    ordinary = alphabet + ["".join(pair) for pair in pairs]
    vocabulary = {**special, **dict(zip(ordinary, free, strict=True))}
    added = [
        {
            "id": index,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for content, index in sorted(special.items(), key=lambda item: item[1])
    ]

    def split(expression):
        return {
            "type": "Split",
            "pattern": {"Regex": expression},
            "behavior": "Isolated",
            "invert": False,
        }

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                split(r"\p{N}{1,3}"),
                split(r"[一-龥぀-ゟ゠-ヿ]+"),
                split(r" ?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|\s*[\r\n]+|\s+(?!\S)|\s+"),
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": [list(pair) for pair in pairs],
        },
    }


for folder in (FIXTURES, FIXTURES / "ocr2"):
    text = json.dumps(tokenizer(folder), ensure_ascii=False, indent=1)
    (folder / "tokenizer.json").write_text(text + "\n")
