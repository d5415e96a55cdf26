"""Anything as a tokenizer, a text, an id or a file's bytes: what is promised of it, or an error that explains."""

from __future__ import annotations

import bz2
import copy
import encodings.aliases
import gzip
import json
import lzma
import subprocess
import sys
import warnings
from functools import cache
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elman.errors import ElmanError, InputError, ModelFileError
from elman.text.encodings import BadByteError, Decoder, codec_name
from elman.text.sources import open_text
from elman.text.tokenizers import (
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    chunks,
    tokenizer_from_json,
    train_tokenizer,
)

short = settings(max_examples=60, deadline=None)
long_form = settings(max_examples=4_000, deadline=None, suppress_health_check=list(HealthCheck))

KINDS = ["char", "byte", "word", "whitespace", "bpe"]
SEAMS = (
    "aZéß'’`-_.,: \t\r\n\n\u3000\x1f\x85\u2028019１²½\u0301\u0928\u093f\u200d\u200c\ufe0f\ufeff\ufffd\0"
    "我们在北京大学的々〇𠀀ひ한😀\U0001e8d0\U000e0100\U0010ffff"
)
HALVES = "\ud800\udbff\udc00\udfff"  # of characters, which a string of Python's may hold
whole_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    st.sampled_from(SEAMS), max_size=60
)
any_text = whole_text | st.text(st.sampled_from(SEAMS + HALVES), max_size=40) | st.text(max_size=40)


def train(kind: str, text: str, unknown: bool = True, **limits) -> Tokenizer:
    if kind == "whitespace":
        return train_tokenizer("word", text, unknown, word_splitter=kind, **limits)
    return train_tokenizer(kind, text, unknown, **limits)


@cache
def trained_bpe() -> BpeTokenizer:
    return BpeTokenizer.train("the cat sat on the mat, 我们在北京大学。\n\n  don't 12 12\r\n" * 9, 330)


def tokenizer_for(kind: str, text: str, unknown: bool = True) -> Tokenizer:
    """One that knows all of a text."""
    return trained_bpe() if kind == "bpe" else train(kind, text, unknown)


def is_whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# What a file says that it is a tokenizer


@cache
def sound() -> list[dict]:
    """The JSON of a tokenizer of each kind, and of some with unknown symbols, Chinese and a segmenter."""
    text = "the cat, 我们在北京\n don't"
    return [
        *(tokenizer_for(kind, text).to_json() for kind in KINDS),
        CharTokenizer("a\n\U0010ffff\ud800", unknown=False).to_json(),
        WordTokenizer(["a", "\n", "we"], False, segmenter=("jieba", "0.42.1")).to_json(),
    ]


json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([10**400, -1, 2**63])
)
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)
ODD = ["", " ", "\n", "\0", "<unk>", "<eos>", "\ud800", "a b", "a  b", "Ġ", "Ā", "😀", "x" * 5000, "1" * 41, "0.1\n"]
ODD += [
    "unicode",
    "whitespace",
    "bpe",
    "word",
    "char",
    "rjieba",
    [],
    {},
    [[]],
    ["a", "b"],
    ["a", "b", "c"],
    0,
    1,
    2**63,
    True,
]
others = json_values | st.sampled_from(ODD)


@st.composite
def mutated(draw) -> dict:
    """The JSON of a tokenizer with some values exchanged, left out, said twice or put in."""
    data = copy.deepcopy(draw(st.sampled_from(sound())))
    for _ in range(draw(st.integers(1, 3))):
        node = data
        for _ in range(draw(st.integers(0, 2))):  # a way down
            inner = list(node.values()) if isinstance(node, dict) else node
            inner = [value for value in inner if isinstance(value, dict | list) and value]
            if not inner:
                break
            node = draw(st.sampled_from(inner))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys)) if keys else "kind"
        action = draw(st.sampled_from(["exchange", "remove", "twice", "insert"]))
        value = copy.deepcopy(draw(others))
        if isinstance(node, list) and action in ("twice", "insert"):
            node.insert(key if keys else 0, node[key] if keys and action == "twice" else value)
        elif action == "remove" and keys:
            del node[key]
        elif isinstance(node, dict) and action == "insert":
            node[draw(st.text(max_size=5))] = value
        elif keys:
            node[key] = value
    return data


def check_json(data, text: str) -> None:
    try:
        tokenizer = tokenizer_from_json(data)
    except ModelFileError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    check_sound(tokenizer)
    assert tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json()))).to_json() == tokenizer.to_json()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # another version of the segmenter
        try:
            ids = tokenizer.encode(text, "skip")
        except InputError as error:  # a lone surrogate, or the segmenter that is named is not installed
            assert "surrogate" in str(error) or "is not installed" in str(error)
            return
    assert ids.dtype.kind == "u" and (ids < tokenizer.vocab_size).all()
    assert tokenizer.decode(ids) == text or tokenizer.kind in ("char", "word")


def check_sound(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    assert type(size) is int and size >= 1
    for special in (tokenizer.unknown_id, tokenizer.line_end_id):
        assert special is None or (type(special) is int and 0 <= special < size)
    assert all(isinstance(tokenizer.describe(token), str) for token in range(min(size, 500)))
    distinct = getattr(tokenizer, {"char": "characters", "word": "words", "bpe": "tokens"}.get(tokenizer.kind, ""), ())
    assert len(set(distinct)) == len(distinct) and "<unk>" not in list(distinct)
    if tokenizer.kind == "word":
        assert all(distinct) and (tokenizer.segmenter is None or tokenizer.segmenter[0] in ("rjieba", "jieba"))
    if tokenizer.kind == "bpe":
        assert {left + right for left, right in tokenizer.merges} <= set(distinct)
        assert {piece for pair in tokenizer.merges for piece in pair} <= set(distinct)
    decoder = tokenizer.decoder()
    assert "".join(map(decoder.feed, range(size))) + decoder.finish() == tokenizer.decode(range(size))


@given(
    data=json_values
    | st.fixed_dictionaries(
        {"kind": st.sampled_from(["char", "byte", "word", "bpe"])},
        optional={
            "characters": json_values,
            "unknown": json_values,
            "words": json_values,
            "word_splitter": json_values,
            "segmenter": json_values,
            "tokens": json_values,
            "merges": json_values,
        },
    ),
    text=any_text,
)
@short
def test_any_json(data, text):
    check_json(data, text)


@given(data=mutated(), text=any_text)
@short
def test_sound_json_with_faults(data, text):
    check_json(data, text)


@pytest.mark.slow
@given(data=mutated(), text=any_text)
@settings(long_form, max_examples=8_000)
def test_eight_thousand_jsons(data, text):
    check_json(data, text)


def test_json_that_is_sound_is_taken():
    for data in sound():
        assert tokenizer_from_json(data).to_json() == data


# A tokenizer.json of the library's


@st.composite
def mutated_file(draw) -> bytes:
    raw = sound_file()
    if draw(st.booleans()):
        data = json.loads(raw)
        node = data
        for _ in range(draw(st.integers(0, 3))):
            inner = [
                value for value in (node.values() if isinstance(node, dict) else node) if isinstance(value, dict | list)
            ]
            if not [value for value in inner if value]:
                break
            node = draw(st.sampled_from([value for value in inner if value]))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        if draw(st.booleans()):
            node[key] = copy.deepcopy(draw(others))
        else:
            del node[key]
        return json.dumps(data).encode()
    a = draw(st.integers(0, len(raw)))
    return raw[:a] + draw(st.binary(max_size=4)) + raw[a + draw(st.integers(0, 9)) :]


@cache
def sound_file() -> bytes:
    return trained_bpe()._library.to_str(pretty=True).encode()


def check_file(path, raw: bytes, text: str) -> None:
    path.write_bytes(raw)
    try:
        tokenizer = BpeTokenizer.read(path)
    except InputError as error:
        assert "\n" not in str(error) and path.name in str(error) and len(str(error)) < 1000
        return
    check_sound(tokenizer)
    ids = json.loads(raw)["model"]["vocab"]
    assert all(type(number) is int and tokenizer.tokens[number] == token for token, number in ids.items())
    if is_whole(text):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@given(raw=mutated_file() | st.binary(max_size=99), text=whole_text)
@short
def test_any_tokenizer_file(folder, raw, text):
    check_file(folder / "tokenizer.json", raw, text)


@pytest.mark.slow
@given(raw=mutated_file() | st.binary(max_size=99), text=whole_text)
@long_form
def test_four_thousand_tokenizer_files(folder, raw, text):
    check_file(folder / "tokenizer.json", raw, text)


# Texts


def check_text(kind: str, text: str, places: list[int], block: int) -> None:
    """It comes back as promised, and its ids are the same wherever it is cut; or its lone surrogate is named."""
    try:
        tokenizer = tokenizer_for(kind, text)
        ids = tokenizer.encode(text)
    except InputError as error:
        assert kind in ("byte", "bpe") and not is_whole(text) and "lone surrogate" in str(error)
        return
    check_sound(tokenizer)
    decoded, decoder = tokenizer.decode(ids), tokenizer.decoder()
    assert decoded == "".join(map(decoder.feed, ids.tolist())) + decoder.finish()
    if kind == "whitespace":
        assert tokenizer.encode(decoded).tolist() == ids.tolist()
        assert decoded.split() == text.replace("<eos>", "\n").replace("\n", " ").split()
    else:
        assert decoded == text
    borders = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    parts = [text[start:end] for start, end in pairwise(borders)]
    with patch.object(chunks, "BLOCK", block):
        again = [token for array in tokenizer.encode_chunks(parts) for token in array.tolist()]
        assert again == ids.tolist()
        if kind != "bpe":
            assert train(kind, parts).to_json() == tokenizer.to_json()


cuts = st.lists(st.integers(0, 60), max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text, places=cuts, block=st.integers(1, 9))
@example(text="", places=[], block=1)
@example(text="\ud83d\ude00 \ud800", places=[1], block=1)
@example(text="<eos> <unk>\n<unk>", places=[3], block=2)
@short
def test_any_text(kind, text, places, block):
    check_text(kind, text, places, block)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text, places=cuts, block=st.integers(1, 9))
@long_form
def test_four_thousand_texts(kind, text, places, block):
    check_text(kind, text, places, block)


LONG = {
    "line": "word ",
    "word": "a",
    "marks": "\u0301",
    "apostrophes": "a'",
    "blanks": " ",
    "lines": "\n",
    "digits": "1",
    "Chinese": "我们在北京大学",
    "planes": "".join(map(chr, [*range(0, 0xD800, 9), *range(0xE000, 0x110000, 99)])),
}


def check_long_text(kind: str, name: str, length: int, block: int) -> None:
    """Few places to cut it at, and longer than several blocks: what is slow on it would take hours."""
    text = "a" + LONG[name] * (length // len(LONG[name]) + 1)
    check_text(kind, text[:length], [1, 10, 100, length - 1], block)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("kind", ["word", "whitespace", "bpe"])
def test_long_texts(kind, name):
    check_long_text(kind, name, 20_000, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("kind", ["word", "whitespace", "bpe"])
def test_texts_of_several_blocks(kind, name):
    check_long_text(kind, name, 300_000, chunks.BLOCK)


@given(text=whole_text, max_vocab=st.integers(250, 400), min_count=st.integers(1, 3) | st.just(2**63 - 1))
@settings(short, max_examples=20)
def test_a_bpe_of_any_text(text, max_vocab, min_count):
    try:
        tokenizer = BpeTokenizer.train(text * 5, max_vocab, min_count)
    except InputError as error:
        assert max_vocab < 256 and "256 or more" in str(error)
        return
    check_sound(tokenizer)
    assert tokenizer.vocab_size <= max_vocab and tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["char", "word", "whitespace"])
@given(
    text=any_text, max_vocab=st.integers(1, 9) | st.just(2**63 - 1), min_count=st.integers(1, 3), unknown=st.booleans()
)
@short
def test_any_limit_of_a_vocabulary(kind, text, max_vocab, min_count, unknown):
    tokenizer = train(kind, text, unknown, max_vocab=max_vocab, min_count=min_count)
    assert tokenizer.vocab_size <= max_vocab
    if tokenizer.vocab_size:
        check_sound(tokenizer)
    try:
        ids = tokenizer.encode(text)
        assert (ids < tokenizer.vocab_size).all()
    except InputError:
        raise AssertionError("a vocabulary without <unk> does not know its own text") from None


@pytest.mark.parametrize("max_vocab", [1_000_001, 10**12, 2**63 - 1, 2**64, 10**400])
def test_a_bpe_vocabulary_beyond_memory_is_refused(max_vocab):
    """In a child: the library ends the process where it cannot make room."""
    program = f"""
from elman.errors import InputError
from elman.text.tokenizers import BpeTokenizer
try:
    BpeTokenizer.train("abc", {max_vocab})
except InputError as error:
    assert "max_vocab must be 1,000,000 or less" in str(error)
else:
    raise SystemExit(1)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=200)


def test_a_lone_surrogate_cannot_be_trained_on_as_bytes():
    with patch.object(chunks, "BLOCK", 4), pytest.raises(InputError, match=r"U\+D800 at offset 12"):
        BpeTokenizer.train(["some text ", "ab\ud800"])


# Ids

NO_IDS = [
    [-1],
    [2**31],
    [2**63 - 1],
    [-(2**63)],
    [2**64 - 1],
    [2**70],
    [1.0],
    [0.5],
    [None],
    ["a"],
    ["0"],
    [[0]],
    [True, 2**40],
]


def check_ids(tokenizer: Tokenizer, ids: list[int]) -> None:
    """Those of the vocabulary are decoded, in any form; one other is refused."""
    size = tokenizer.vocab_size
    fit = [token % size for token in ids]
    text, decoder = tokenizer.decode(fit), tokenizer.decoder()
    assert text == "".join(map(decoder.feed, fit)) + decoder.finish()
    for kind in ("u1", "i2", "u2", ">i4", "i8", "u8"):
        if size <= np.iinfo(kind).max:
            assert (
                tokenizer.decode(np.array(fit, kind))
                == tokenizer.decode(np.repeat(np.array(fit, kind), 2)[::2])
                == text
            )
    assert tokenizer.decode(iter(fit)) == tokenizer.decode(tuple(fit)) == text
    for wrong in [[size], [size + 1], [-size], *NO_IDS]:
        with pytest.raises(InputError):
            tokenizer.decode(fit + wrong)
    for token in (size, size + 1, -1, -size, 2**63, -(2**70)):
        with pytest.raises(InputError, match=f"ids must be from 0 to {size - 1}, not {token}"):
            tokenizer.decoder().feed(token)
        with pytest.raises(InputError):
            tokenizer.describe(token)


@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(0, 400), max_size=30))
@settings(short, max_examples=30)
def test_any_ids(kind, unknown, ids):
    check_ids(tokenizer_for(kind, "the cat, 我们\n don't", unknown), ids)


# Files of bytes

ENCODINGS = sorted({*encodings.aliases.aliases.values(), "utf_8_sig", "unicode_escape", "idna", "nonsense"})
raw_bytes = (
    st.binary(max_size=60)
    | any_text.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(
        lambda text, name: text.encode(name, "ignore"),
        whole_text,
        st.sampled_from(
            ["utf-16", "utf-16-be", "utf-32", "utf-7", "gb18030", "shift_jis", "iso2022_jp", "hz", "cp1252"]
        ),
    )
    | st.lists(
        st.sampled_from([b"\x1b$B", b"~{", b"~}", b"+2AA-", b"\\ud800", b"\\N{", b"\xff\xfe", b"\xed\xa0\x80", b"\r"])
    ).map(b"".join)
)


def pieces_of(decoder: Decoder, raw: bytes, block: int) -> str | BadByteError:
    try:
        return "".join(decoder.pieces(raw[at : at + block] for at in range(0, len(raw), block)))
    except BadByteError as error:
        return error


def check_decoding(raw: bytes, encoding: str, errors: str, block: int) -> None:
    """Text without byte-order marks and CRLF, the same for any blocks, or the byte that does not decode."""
    try:
        name = codec_name(encoding)
    except InputError:
        return
    if name in ("utf-16", "utf-32"):
        name += "-le"  # as the mark at the start says
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of unicode_escape
        text = pieces_of(Decoder(name, errors), raw, max(1, len(raw)))
        again = pieces_of(Decoder(name, errors), raw, block)
    if isinstance(text, BadByteError):
        assert isinstance(again, BadByteError)
        assert 0 <= text.offset < len(raw)
        if name.startswith("utf-8"):
            assert again.offset == text.offset
    else:
        assert text == again
        assert "\ufeff" not in text and "\r\n" not in text


@given(
    raw=raw_bytes,
    encoding=st.sampled_from(ENCODINGS),
    errors=st.sampled_from(["strict", "replace"]),
    block=st.integers(1, 9),
)
@settings(short, max_examples=300)
def test_any_bytes_in_any_encoding(raw, encoding, errors, block):
    check_decoding(raw, encoding, errors, block)


@pytest.mark.slow
@given(
    raw=raw_bytes,
    encoding=st.sampled_from(ENCODINGS),
    errors=st.sampled_from(["strict", "replace"]),
    block=st.integers(1, 9),
)
@settings(long_form, max_examples=10_000)
def test_ten_thousand_bytes_in_any_encoding(raw, encoding, errors, block):
    check_decoding(raw, encoding, errors, block)


COMPRESSORS = {".txt": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def check_open(folder, raw: bytes, suffix: str, damage: list[int], encoding: str | None, errors: str) -> None:
    stored = bytearray(COMPRESSORS[suffix](raw))
    for place in damage:
        if stored:
            stored[place % len(stored)] ^= 1 + place % 255
    path = folder / f"any{suffix}"
    path.write_bytes(bytes(stored) if damage != [0] else bytes(stored[: len(stored) // 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            text = open_text([path], encoding, errors)
            whole = text.read()
        except ElmanError as error:
            message = str(error)
            assert type(error) is InputError and "\n" not in message and len(message) < 1000
            assert path.name in message or "no text encoding" in message, message
            return
    assert len(whole) == text.characters > 0 and is_whole(whole) and "\ufeff" not in whole and "\r\n" not in whole


opening = {
    "raw": raw_bytes,
    "suffix": st.sampled_from([".txt", ".txt", *COMPRESSORS]),
    "damage": st.just([]) | st.just([]) | st.lists(st.integers(0, 10_000), max_size=2),
    "encoding": st.none() | st.sampled_from(ENCODINGS),
    "errors": st.sampled_from(["strict", "replace"]),
}


@given(**opening)
@example(raw=b"\r\xfe\xff", suffix=".txt", damage=[], encoding=None, errors="strict")  # was guessed to be UTF-16
@example(raw=b"+2AA-", suffix=".txt", damage=[], encoding="utf_7", errors="strict")
@short
def test_any_file(folder, raw, suffix, damage, encoding, errors):
    check_open(folder, raw, suffix, damage, encoding, errors)


@pytest.mark.slow
@given(**opening)
@long_form
def test_four_thousand_files(folder, raw, suffix, damage, encoding, errors):
    check_open(folder, raw, suffix, damage, encoding, errors)


@given(encoding=any_text, errors=any_text)
@settings(short, max_examples=50)
def test_any_name_of_an_encoding(folder, encoding, errors):
    path = folder / "fixed.txt"
    path.write_text("abc")
    for options in ((encoding, "strict"), ("utf-8", errors)):
        try:
            assert open_text([path], *options).read() == "abc"
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000


def test_bytes_as_ids_of_another_width():
    """They were read as the bytes of the array."""
    assert ByteTokenizer().decode(np.array([97, 98])) == "ab"
