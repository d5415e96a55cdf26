"""How files are damaged and crafted for test_damaged_files.py: at random in every way, and headers that swell."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

ZEROS = "0" * 64
OPENING = b'{"__metadata__":{"elman":"{\\"sha256\\":\\"'


def with_right_digest(content: bytes) -> bytes:
    """The file with its digest where zeros stand for it, at its right place or elsewhere."""
    at = content.find(ZEROS.encode())
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + 64 :]


def file_of(header: str, data: bytes = b"") -> bytes:
    """A file with this header, not yet with a digest."""
    raw = header.encode("utf-8", "replace")
    return len(raw).to_bytes(8, "little") + raw + data


def damage(rng: random.Random, original: bytes) -> tuple[str, bytes]:
    """A file with some bytes changed, its digest as it was, and how they were."""
    changed, change = bytearray(original), rng.choice(DAMAGES)
    while changed == original:
        change(rng, changed)
    return change.__name__, bytes(changed)


def craft(rng: random.Random, original: bytes) -> tuple[str, bytes]:
    """A file that says something else, with a right digest, and what was changed."""
    parts, names = Parts(original), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        change = rng.choice(CRAFTS)
        try:
            change(rng, parts)
        except (LookupError, ValueError, TypeError, RecursionError):  # of what an earlier change left
            continue
        names.append(change.__name__)
    return "+".join(names), parts.join()


def flip_a_bit(rng: random.Random, content: bytearray) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def change_bytes(rng: random.Random, content: bytearray) -> None:
    for _ in range(rng.choice([1, 2, 10, 100])):
        content[rng.randrange(len(content))] = rng.randrange(256)


def truncate(rng: random.Random, content: bytearray) -> None:
    del content[rng.choice([rng.randrange(len(content)), len(content) - 1, rng.randrange(60)]) :]


def append(rng: random.Random, content: bytearray) -> None:
    content += rng.choice([b"\0", b" ", b"}", content[-8:], bytes(content), rng.randbytes(rng.randrange(1, 99))])


def insert(rng: random.Random, content: bytearray) -> None:
    at = rng.randrange(len(content))
    content[at:at] = rng.choice([b"\0", b" ", b"0", b'"', rng.randbytes(rng.randrange(1, 99))])


def delete(rng: random.Random, content: bytearray) -> None:
    at = rng.randrange(len(content))
    del content[at : at + rng.choice([1, 4, 8, 64, 1000])]


def swap_blocks(rng: random.Random, content: bytearray) -> None:
    size = rng.choice([1, 4, 8, 64])
    a, b = (rng.randrange(len(content) // size) * size for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


def repeat_a_block(rng: random.Random, content: bytearray) -> None:
    size, at = rng.choice([1, 8, 64, 512]), rng.randrange(len(content))
    content[at:at] = content[at : at + size] * rng.choice([1, 2, 50])


def zero_a_block(rng: random.Random, content: bytearray) -> None:
    at, size = rng.randrange(len(content)), rng.choice([1, 8, 64, 512, 4096])
    block = content[at : at + size]
    content[at : at + size] = rng.choice([b"\0", b"\xff"]) * len(block)


def change_the_headers_size(rng: random.Random, content: bytearray) -> None:
    size = int.from_bytes(content[:8], "little")
    others = (0, 1, 2, 40, 2**24, 74 * 10**6, 10**8, 2**31, 2**32, 2**63, 2**64 - 1, len(content), len(content) - 8)
    sizes = (size + 1, size - 1, size + 8, size - 8, size * 256, rng.randrange(2 * size), *others)
    content[:8] = rng.choice(sizes).to_bytes(8, "little")


DAMAGES = (
    *(flip_a_bit, change_bytes, truncate, append, insert, delete, swap_blocks, repeat_a_block, zero_a_block),
    change_the_headers_size,
)


def header_of(text: str, rows: str = "", before: str = "") -> str:
    """A header: TEXT, the list of tensors behind it, and what may stand before it."""
    return f'{{{before}"__metadata__":{{"elman":{json.dumps(text)}}}{rows}}}'


class Parts:
    """TEXT as an object, the list of tensors as rows of JSON texts, and the data."""

    def __init__(self, content: bytes):
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        self.metadata = json.loads(header.pop("__metadata__")["elman"])
        self.metadata["sha256"] = ZEROS
        self.rows = [
            [name, row["dtype"], json.dumps(row["shape"], separators=(",", ":")), *map(str, row["data_offsets"])]
            for name, row in header.items()
        ]
        self.data = content[start:]
        self.blank = self.end = ""
        self.raw: dict[str, str] = {}  # what is written for a string of the metadata

    def join(self) -> bytes:
        """The file, with a right digest."""
        text = json.dumps(self.metadata, separators=(",", ":"))
        for mark, raw in self.raw.items():
            text = text.replace(json.dumps(mark), raw)
        rows = "".join(
            f',"{name}":{{"dtype":"{dtype}",{self.blank}"shape":{shape},"data_offsets":[{begin},{end}]}}'
            for name, dtype, shape, begin, end in self.rows
        )
        return with_right_digest(file_of(header_of(text, rows) + self.end, self.data))


def a_number(rng: random.Random) -> str:
    numbers = (0, 1, 2, 3, 4, 7, 8, 255, 2**24, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**12)
    return str(rng.choice([*numbers, *(-number for number in numbers), 10**300, 10**4000]))


def a_value(rng: random.Random, depth: int = 0) -> str:
    """Some JSON, or what a careless parser takes for it."""
    simple = ("null", "true", "false", '""', "{}", "[]", "0.5", "-0.0", "1e400", "-1e400", "NaN", "Infinity", "1e-400")
    texts = ("lstm", "char", "word", "a\nb", "\x00", "\x1b[31m", "狗", "\ud800", "<unk>", "\n", "float16", "checkpoint")
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(simple)
    if kind < 6:
        return a_number(rng)
    if kind < 8:
        return json.dumps(rng.choice(texts))
    if kind == 8:
        return rng.choice(
            ['"' + "x" * 20_000 + '"', "9" * 5000, "[" * 5000 + "]" * 5000, '{"a":' * 900 + "1" + "}" * 900]
        )
    if kind == 9:
        return rng.choice(
            ["", "'a'", "01", "[1,]", '{"a":1,"a":1}', "\\", '"\\q"', "[" * 50_000, "nul", "[0" + ",0" * 20_000 + "]"]
        )
    parts = [a_value(rng, depth + 1) for _ in range(rng.randrange(4) if depth < 3 else 0)]
    if kind == 10:
        return "[" + ",".join(parts) + "]"
    return "{" + ",".join(f'"{i}":{part}' for i, part in enumerate(parts)) + "}"


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) inside a JSON value, some of those in long lists."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys[:3] + keys[-9:] if len(keys) > 50 else keys:
        yield value, key
        yield from places(value[key])


def a_place(rng: random.Random, parts: Parts) -> tuple[Any, Any]:
    """One inside the model, the tokenizer or anything; not the digest."""
    inside = rng.choice([parts.metadata, parts.metadata.get("model"), parts.metadata.get("tokenizer")])
    found = [(holder, key) for holder, key in places(inside) if key != "sha256"]
    return rng.choice(found or [(parts.metadata, "format")])


def change_a_value(rng: random.Random, parts: Parts) -> None:
    holder, key = a_place(rng, parts)
    mark = f"mark {len(parts.raw)}"
    parts.raw[mark] = a_value(rng)
    holder[key] = mark


def nudge_a_value(rng: random.Random, parts: Parts) -> None:
    """Another value of the same type."""
    holder, key = a_place(rng, parts)
    match holder[key]:
        case bool(value):
            holder[key] = not value
        case int(value):
            holder[key] = rng.choice([value + 1, value - 1, -value, 2 * value, 0])
        case float(value):
            holder[key] = rng.choice([value + 1, -value, value * 1e300, 0.0])
        case str(value):
            holder[key] = rng.choice([value + "x", value[1:], value.upper(), value * 2, value[::-1], "lstm", "rnn"])
        case list(value):
            holder[key] = rng.choice([value[1:], value[::-1], value + value[:1], [value], value * 2])
        case _:
            holder[key] = rng.choice([0, "", [], None])


def remove_a_key(rng: random.Random, parts: Parts) -> None:
    holder, key = a_place(rng, parts)
    del holder[key]


def add_a_key(rng: random.Random, parts: Parts) -> None:
    holder, key = a_place(rng, parts)
    mark = f"mark {len(parts.raw)}"
    parts.raw[mark] = a_value(rng)
    if isinstance(holder, dict):
        names = (f"{key}s", "", "x" * 5000, "hiden_size", "a\nb", "狗", "\ud800", "__class__", "elman", "more")
        holder[rng.choice(names)] = mark
    else:
        holder.append(mark)


def repeat_a_key(rng: random.Random, parts: Parts) -> None:
    holder, key = a_place(rng, parts)
    if isinstance(holder, dict):
        parts.raw["twice"] = f"{json.dumps(key)}:0,{json.dumps(key)}"
        holder["twice"] = holder.pop(key)
    else:
        holder.insert(0, holder[key])


def change_a_dtype(rng: random.Random, parts: Parts) -> None:
    known = ("F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
    others = ("F16", "BF16", "BOOL", "F8_E4M3", "C64", "f32", "", "X" * 2000, "F32\\n", "\\u0046", "I128", "Q1")
    rng.choice(parts.rows)[1] = rng.choice(known + others)


def change_a_shape(rng: random.Random, parts: Parts) -> None:
    row = rng.choice(parts.rows)
    shape = json.loads(row[2])
    harmless = ([*shape, 1], [1, *shape], shape[::-1], [int(np.prod(shape))], [1] * 5 + shape)
    harmful = (
        [],
        [0],
        [*shape, 0],
        [*shape, 2],
        shape[1:],
        [-length for length in shape],
        [True, *shape],
        [1.0, *shape],
    )
    odd = ("", "null", "1", "[1,]", "[[1]]", "[01]", "[ 1]", "[1e0]", "[" + "1," * 99 + "1]", "[" * 9999, '["1"]')
    big = f"[{a_number(rng)},{a_number(rng)}]"
    row[2] = rng.choice([*map(json.dumps, harmless), *map(json.dumps, harmful), *odd, big]).replace(", ", ",")


def change_an_offset(rng: random.Random, parts: Parts) -> None:
    row, column = rng.choice(parts.rows), rng.choice([3, 4])
    near = int(row[column]) + rng.choice([-8, -4, -1, 1, 4, 8])
    row[column] = rng.choice(
        [str(near), str(near), a_number(rng), "true", "null", "0.0", "00", '"0"', "", "[0]", "1,2"]
    )


def empty_a_tensor(rng: random.Random, parts: Parts) -> None:
    row = rng.choice(parts.rows)
    row[4] = row[3]
    row[2] = rng.choice(["[0]", f"[0,{a_number(rng)}]", f"[{a_number(rng)},0,{a_number(rng)}]", row[2]])


def change_a_name(rng: random.Random, parts: Parts) -> None:
    row = rng.choice(parts.rows)
    names = (
        rng.choice(parts.rows)[0],
        "",
        ".x",
        "x",
        "__metadata__",
        "x" * 200,
        "x" * 201,
        "x" * 99_999,
        "a b",
        "a\\nb",
    )
    row[0] = rng.choice([*names, "狗", "\\u0061", 'a\\"b', 'a"b', "../../x", "a\0b", row[0] + ".x", row[0].upper()])


def move_rows(rng: random.Random, parts: Parts) -> None:
    a, b = rng.randrange(len(parts.rows)), rng.randrange(len(parts.rows))
    parts.rows[a], parts.rows[b] = parts.rows[b], parts.rows[a]


def add_a_row(rng: random.Random, parts: Parts) -> None:
    """An empty tensor, or one more with data, or a row again."""
    size = len(parts.data)
    kind = rng.randrange(3)
    if kind == 0:
        at = rng.randrange(len(parts.rows))
        parts.rows.insert(at, ["empty", "F32", "[0]", parts.rows[at][3], parts.rows[at][3]])
    elif kind == 1:
        parts.rows.append(["more", "U8", "[8]", str(size), str(size + 8)])
        parts.data += bytes(8)
    else:
        parts.rows.append(list(rng.choice(parts.rows)))


def remove_a_row(rng: random.Random, parts: Parts) -> None:
    row = parts.rows.pop(rng.choice([0, -1, rng.randrange(len(parts.rows))]))
    if rng.random() < 0.5 and row[4] == str(len(parts.data)):
        parts.data = parts.data[: int(row[3])]


def change_the_data(rng: random.Random, parts: Parts) -> None:
    """Numbers that the network never had: NaN, infinity, anything; or more or fewer of them."""
    at = rng.randrange(len(parts.data) // 8) * 8
    parts.data = rng.choice(
        [
            parts.data[:at] + rng.randbytes(8) + parts.data[at + 8 :],
            parts.data[:at] + b"\xff" * 8 + parts.data[at + 8 :],
            parts.data[:at] + bytes.fromhex("0000807f") * 2 + parts.data[at + 8 :],
            parts.data[:at],
            parts.data + bytes(8),
        ]
    )


def change_the_writing(rng: random.Random, parts: Parts) -> None:
    """The same said in another way, or something behind it."""
    parts.blank = rng.choice(["", " ", "\n", '"more":1,', '"dtype":"F32",'])
    parts.end = rng.choice(["", " ", " " * 8, "\n", "}", "\0", "x", " " * 10_000_001 if rng.random() < 0.05 else " "])


CRAFTS = (
    *(change_a_value, change_a_value, change_a_value, nudge_a_value, nudge_a_value, remove_a_key, add_a_key),
    *(repeat_a_key, change_a_dtype, change_a_shape, change_an_offset, empty_a_tensor, change_a_name, move_rows),
    *(add_a_row, remove_a_row, change_the_data, change_the_writing),
)


MILLION = 1_000_000
BEGUN = f'{{"sha256":"{ZEROS}","format":1'
ROW = ',"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def bombs() -> Iterator[tuple[str, bytes]]:
    """Headers of a megabyte to ten that are much larger when they are parsed, by name."""
    for name, rows in _lists_of_tensors():
        yield f"{name} behind", with_right_digest(file_of(header_of(BEGUN + "}", rows)))
    yield f"{name} before", with_right_digest(file_of(header_of(BEGUN + "}", before=rows[1:] + ",")))
    for name, value in _values():
        right = f'{BEGUN},"a":{value}}}'
        wrong = f'{BEGUN},"a":[{",".join([value] * (4 * MILLION // len(value)))}]}}'
        yield f"TEXT of {name}", with_right_digest(file_of(header_of(right)))
        yield f"TEXT of {name}, digest wrong", file_of(header_of(wrong))
    for name, metadata in _models():
        text = BEGUN + "," + json.dumps({"kind": "model", **metadata})[1:]
        yield f"model of {name}", with_right_digest(file_of(header_of(text)))
    for size in (74 * MILLION, 10**8, 2**32, 2**63, 2**64 - 1):
        yield f"{size} bytes that are not there", size.to_bytes(8, "little") + OPENING + ZEROS.encode()


def _lists_of_tensors() -> Iterator[tuple[str, str]]:
    yield "deep lists without an end", ',"a":' + "[" * 4 * MILLION
    yield "deep lists", ',"a":' + "[" * 2 * MILLION + "]" * 2 * MILLION
    yield "deep objects", ',"a":{"a":' * MILLION
    yield "the same key", ',"a":0' * MILLION
    yield "keys", "".join(f',"x{number}":{{}}' for number in range(MILLION // 2))
    yield "lists", ',"a":[' + "[]," * MILLION + "0]"
    yield "the same tensor", ROW * (9 * MILLION // len(ROW))
    yield "the same tensor 20,000 times", ROW * 20_000
    yield "tensors", "".join(ROW.replace("x", f"x{number}") for number in range(150_000))
    yield "offsets", ',"data_offsets":[0,0]' * (MILLION // 3)
    yield "a long name", ROW.replace("x", "x" * 9 * MILLION)
    yield "a long shape", ROW.replace("[0]", "[" + "0," * 4 * MILLION + "0]")
    yield "a long dtype", ROW.replace("F32", "F" * 9 * MILLION)
    yield "long numbers", ROW.replace("0", "9" * 3 * MILLION)
    yield "escapes", ROW.replace("x", "\\u0041" * MILLION)
    yield "backslashes", ROW.replace("x", "\\" * (8 * MILLION + 1))
    yield "quotes", '"' * 9 * MILLION


def _values() -> Iterator[tuple[str, str]]:
    """JSON of a megabyte, which may be valid."""

    def many(unit: str) -> str:
        return "[" + ",".join([unit] * (MILLION // len(unit + ","))) + "]"

    yield "deep lists", "[" * (MILLION // 2) + "]" * (MILLION // 2)
    yield "deep objects", '{"a":' * (MILLION // 6) + "0" + "}" * (MILLION // 6)
    for unit in ("[]", "{}", '{"":0}', "[[]]", "0.1", "1e9", "12345", '"ab"', '"\\ud83d\\ude00"', "[[[[[]]]]]", "null"):
        yield unit, many(unit)
    yield "keys", "{" + ",".join(f'"{number}":0' for number in range(MILLION // 9)) + "}"
    yield "the same key", "{" + ",".join(['"a":0'] * (MILLION // 6)) + "}"
    yield "a long number", "9" * MILLION
    yield "a long fraction", "0." + "1" * MILLION
    yield "a long exponent", "1e" + "1" * MILLION
    yield "a wide character", '"' + "x" * MILLION + '\\ud83d\\ude00"'
    yield "backslashes", '"' + "\\" * MILLION + '"'


def _models() -> Iterator[tuple[str, dict[str, Any]]]:
    long, model = "x" * 2 * MILLION, {"vocab_size": 3, "cell": "lstm"}
    words = {"kind": "word", "unknown": False, "word_splitter": "unicode", "segmenter": None}
    yield "a long kind", {"kind": long}
    yield "a long tokenizer", {"model": model, "tokenizer": {"kind": long}}
    for name, more in (
        ("a long cell", {"cell": long}),
        ("a cell in a list", {"cell": [long]}),
        ("a long key", {long: 1}),
        ("a deep size", {"hidden_size": json.loads("[" * 900 + "]" * 900)}),
        ("keys", {f"x{number}": 1 for number in range(100_000)}),
        ("large sizes", {"hidden_size": 2**24, "num_layers": 1000, "vocab_size": 2**31 - 1}),
    ):
        yield name, {"model": model | more, "tokenizer": {"kind": "byte"}}
    for name, tokenizer in (
        ("characters", {"kind": "char", "characters": "".join(map(chr, range(300_000))), "unknown": False}),
        ("words", words | {"words": [str(number) for number in range(100_000)]}),
        ("the same word", words | {"words": ["a"] * 200_000}),
        ("pieces", {"kind": "bpe", "tokens": [str(number) for number in range(100_000)], "merges": []}),
        ("merges", {"kind": "bpe", "tokens": ["a"], "merges": [["a", "a"]] * 100_000}),
        ("merges as texts", {"kind": "bpe", "tokens": ["a"], "merges": ["a " * MILLION]}),
    ):
        yield name, {"model": model, "tokenizer": tokenizer}
