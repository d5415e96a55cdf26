"""The model file: whole, verified, and refused in one line when anything about it is wrong."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import elman
from elman import checkpoint
from elman.errors import ElmanError, InputError, LaterFormatError, ModelFileError
from elman.text.tokenizers import CharTokenizer
from elman.text_model import TextModel

OPENING = b'"elman":"{\\"sha256\\":\\"'
ZEROS = "0" * 64
TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b.c": np.array([1.5, -2.0]),
    "scalar": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float32),
}
METADATA = {"kind": "thing", "text": 'quotes "\\ 狗 \0', "list": [1, None, 0.1, {"x": True}]}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "thing.safetensors"
    checkpoint.save(path, TENSORS, METADATA)
    return path


@pytest.fixture(scope="module")
def model() -> TextModel:
    tokenizer = CharTokenizer.train("abc", unknown=False)
    config = elman.ModelConfig(3, "lstm", hidden_size=2, num_layers=1)
    return TextModel(elman.LanguageModel(config), tokenizer)


@pytest.fixture
def model_parts(model, tmp_path):
    """Tensors, metadata and path of a model file, to be changed and saved again with a right digest."""
    path = tmp_path / "model.safetensors"
    model.save(path)
    tensors, metadata = checkpoint.load(path)
    return tensors, metadata, path


def refusal(path: Path, load=checkpoint.load, kind=ModelFileError) -> str:
    """What is said of the file, without its path, which holds the test's name."""
    with pytest.raises(ElmanError) as caught:
        load(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < len(str(path)) + 600
    return message.replace(str(path), "PATH")


def file_of(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file with this header and a right digest in it, wherever the opening of the digest stands."""
    content = struct.pack("<Q", len(header)) + header + data
    at = content.find(OPENING) + len(OPENING)
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + 64 :]


def header_of(inner: str, entries: str = "") -> bytes:
    return f'{{"__metadata__":{{"elman":{json.dumps(inner)}}}{entries}}}'.encode()


def inner_of(**values) -> str:
    return json.dumps({"sha256": ZEROS, **values}, separators=(",", ":"))


ONE_FLOAT = ',"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def test_tensors_and_metadata_come_back(saved):
    tensors, metadata = checkpoint.load(saved)
    assert metadata == METADATA and set(tensors) == set(TENSORS)
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype and tensor.shape == TENSORS[name].shape
        np.testing.assert_array_equal(tensor, TENSORS[name])
        assert tensor.flags.writeable


def test_tensors_that_are_not_contiguous_are_saved_as_they_look(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    checkpoint.save(tmp_path / "x", {"t": array.T, "part": array[:, ::2]}, {})
    tensors, _ = checkpoint.load(tmp_path / "x")
    np.testing.assert_array_equal(tensors["t"], array.T)
    np.testing.assert_array_equal(tensors["part"], array[:, ::2])


def test_equal_content_gives_equal_bytes(saved, tmp_path):
    checkpoint.save(tmp_path / "again", TENSORS, METADATA)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    tensors, metadata = checkpoint.load(saved)
    checkpoint.save(tmp_path / "third", tensors, metadata)
    assert (tmp_path / "third").read_bytes() == saved.read_bytes()


def test_all_whole_numbers_and_both_floats_come_back(tmp_path):
    dtypes = [np.dtype(code) for code in "bhilqBHILQfd"]
    tensors = {f"x.{dtype}": np.array([[1, 2, 100]]).astype(dtype) for dtype in dtypes}
    checkpoint.save(tmp_path / "x", tensors, {})
    loaded, _ = checkpoint.load(tmp_path / "x")
    assert {name: array.dtype for name, array in loaded.items()} == {name: tensors[name].dtype for name in tensors}
    assert all(loaded[name].tolist() == [[1, 2, 100]] and loaded[name].flags.aligned for name in tensors)


def test_the_tensors_share_one_block_of_memory(saved):
    tensors, _ = checkpoint.load(saved)
    blocks = {id(array.base if array.base.base is None else array.base.base) for array in tensors.values()}
    assert len(blocks) == 1


def test_what_the_writer_writes_begins_as_the_reader_wants_it(saved):
    assert saved.read_bytes()[8:].startswith(b'{"__metadata__":' + b"{" + OPENING)


def test_it_is_a_safetensors_file_with_a_single_metadata_key(saved):
    with safe_open(saved, framework="numpy") as file:
        assert set(file.keys()) == set(TENSORS)
        np.testing.assert_array_equal(file.get_tensor("a"), TENSORS["a"])
        assert list(file.metadata()) == ["elman"]
        text = file.metadata()["elman"]
    assert re.match(r'\{"sha256":"[0-9a-f]{64}"', text)
    assert json.loads(text)["format"] == checkpoint.FORMAT_VERSION == 1


def test_the_digest_is_over_the_file_with_its_digits_as_zeros(saved):
    content = saved.read_bytes()
    assert content.count(OPENING) == 1
    start = content.index(OPENING) + len(OPENING)
    digits = content[start : start + 64]
    assert digits == hashlib.sha256(content[:start] + b"0" * 64 + content[start + 64 :]).hexdigest().encode()


def test_a_crafted_file_with_a_right_digest_is_taken(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner_of(format=1, kind="thing"), ONE_FLOAT), struct.pack("<f", 2.5)))
    tensors, metadata = checkpoint.load(path)
    assert tensors["x"].tolist() == [2.5] and metadata == {"kind": "thing"}


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])  # 0x20 turns a digest's a into A
def test_every_flipped_byte_is_found(tmp_path, flip):
    path = tmp_path / "x"
    checkpoint.save(path, {"a": np.arange(3, dtype=np.float32)}, {"kind": "thing"})
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        try:
            checkpoint.load(path)
        except ModelFileError as error:
            assert "\n" not in str(error)
        else:
            pytest.fail(f"byte {position} flipped with {flip:#x} was not noticed")


def test_a_digest_in_capital_letters_is_refused(saved):
    content = saved.read_bytes()
    start = content.index(OPENING) + len(OPENING)
    saved.write_bytes(content[:start] + content[start : start + 64].upper() + content[start + 64 :])
    assert "altered or damaged" in refusal(saved)


def test_a_truncated_file_is_refused_at_every_length(saved):
    content = saved.read_bytes()
    for length in range(len(content)):
        saved.write_bytes(content[:length])
        assert re.search("truncated|not an elman model", refusal(saved)), length


def test_a_truncated_model_is_refused_at_many_lengths(model_parts):
    *_, path = model_parts
    content = path.read_bytes()
    for length in {*range(10), *np.linspace(0, len(content) - 1, 200).astype(int)}:
        path.write_bytes(content[:length])
        assert re.search("truncated|not an elman model", refusal(path, elman.load)), length


@pytest.mark.parametrize("more", [b"\0", b"x" * 1000])
def test_appended_bytes_are_found(saved, more):
    saved.write_bytes(saved.read_bytes() + more)
    assert "appended" in refusal(saved)


def test_other_safetensors_files_are_refused(tmp_path):
    for number, metadata in enumerate((None, {"format": "pt"}, {"elman": "5"}, {"elman": '{"format":1}'})):
        path = tmp_path / f"{number}.safetensors"
        save_file({"a": np.zeros(3)}, path, metadata)
        assert "not an elman model" in refusal(path)
        assert "not an elman model" in refusal(path, elman.load)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npz(), "zip"),
        (b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.", "pickle"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "HDF5"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 64, "gzip"),
        (b"First Citizen: Before we proceed any further", ""),
        (b'{"model": 1}', ""),
        (b"", ""),
        (b"\0" * 8, ""),
        (b"\0" * 100, ""),
        (b"\xff" * 8 + b"{" + b"\0" * 64, ""),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00{", ""),
    ],
)
def test_other_files_are_refused_and_named_where_they_are_known(tmp_path, content, said):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for load in (checkpoint.load, elman.load):
        message = refusal(path, load)
        assert "not an elman model" in message and said in message


def test_missing_files_and_directories_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "nothere")
    assert "irectory" in refusal(tmp_path)
    assert "there is no run folder or model file" in refusal(tmp_path / "nothere", elman.load)
    assert "has no model.safetensors in it" in refusal(tmp_path, elman.load)


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b" " * 50,
        b'{"a":1}',
        b'{"a":[1]}',
        b'{"a":{}}',
        b'{"a":{"data_offsets":[1]}}',
        b'{"a":{"data_offsets":["0","1"]}}',
        b'{"a":{"data_offsets":null}}',
        b'{"\xff":{"data_offsets":[0,0]}}',
        b'{"a":NaN}',
        b"{} trailing",
        b'{"__metadata__":{"elman":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b'{"a":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001,
        b'{"a":{"data_offsets":[0,' + b"9" * 5000 + b"]}}",
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "header" in refusal(path)


@pytest.mark.parametrize("header", [b"[]", b"[{}]", b"5", b'"{}"', b"null", b" {}"])
def test_a_header_that_is_no_object_is_refused(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "not an elman model" in refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":5}',
        b'{"__metadata__":[]}',
        b'{"__metadata__":{"elman":5}}',
        b'{"__metadata__":{"elman":null}}',
        b'{"__metadata__":{"other":"x"}}',
        b'{"__metadata__":{"elman":"{}"}}',
    ],
)
def test_metadata_that_is_not_ours_is_refused(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "not an elman model" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        file_of(header_of(inner_of(format=1)[:-1])),
        file_of(header_of(inner_of(format=1)[:-1] + ',"a":' + "[" * 100_000 + "]" * 100_000 + "}")),
        file_of(header_of(inner_of(format=1), f'{ONE_FLOAT},"__metadata__":{{"elman":5}}'), b"\0" * 4),
        file_of(header_of(inner_of(format=1), ',"__metadata__":{"elman":"[]"}')),
        file_of(header_of(inner_of(format=1), ',"__metadata__":{"elman":"{\\"format\\":1}"}')),
        file_of(b'{"__metadata__":{"elman":5},"x":{"data_offsets":[0,0],%s%s"}}' % (OPENING, b"0" * 64)),
        file_of(header_of(inner_of(format=1), ONE_FLOAT.replace("F32", "BF16").replace(",4]", ",2]")), b"\0" * 2),
        file_of(header_of(inner_of(format=1), ONE_FLOAT.replace("F32", "X9")), b"\0" * 4),
        file_of(header_of(inner_of(format=1), ONE_FLOAT.replace("[1]", "[3]")), b"\0" * 4),
        file_of(header_of(inner_of(format=1), ONE_FLOAT.replace("[1]", "[-1]")), b"\0" * 4),
        file_of(header_of(inner_of(format=1), ONE_FLOAT.replace("[0,4]", "[true,4]")), b"\0" * 4),
    ],
    ids=[
        *("not-json", "deep", "second-number", "second-list", "second-without-digest", "digest-elsewhere"),
        *("bf16", "type", "shape", "negative", "offsets"),
    ],
)
def test_a_crafted_file_that_makes_no_sense_is_refused_even_with_a_right_digest(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    refusal(path)
    refusal(path, elman.load)


def test_headers_are_checked_under_python_o_too(tmp_path):
    header = b'{"a":{"data_offsets":["0","1"]},"__metadata__":{"elman":"x"}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    code = (
        "import sys, elman\ntry: elman.load(sys.argv[1])\nexcept elman.ElmanError as error: print(type(error).__name__)"
    )
    command = [sys.executable, "-O", "-c", code, str(tmp_path / "x")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "ModelFileError\n"


def entry(name="x", dtype="F32", shape="[1]", offsets="[0,4]") -> str:
    return f',"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def crafted(entries: str, size: int, inner: str = inner_of(format=1), end: str = "") -> bytes:
    return file_of(header_of(inner, entries) + end.encode(), b"\0" * size)


NAMES = ("", ".x", "_x", "__metadata__", "0x", "a b", "a/b", "a\\n", "\\u0061", "é", "狗", "x" * 201)
UNUSED = ("F16", "BF16", "BOOL", "C64", "F8_E4M3", "X9", "F128")
NO_DTYPES = ("f32", "", "F32 ", " F32", "F" * 50)
NO_SHAPES = (
    *("1", "null", "[-1]", "[+1]", "[true]", "[1.0]", "[1e0]", "[01]", "[1,]", "[,1]", "[[1]]", '["1"]', "[ 1]"),
    *("[" + ",".join("1" * 9) + "]", "[99999999999999999999]"),
)
NO_OFFSETS = (
    "[true,4]",
    "[4.0,4]",
    "[4,4,4]",
    "[4]",
    "[04,4]",
    '["4",4]',
    "[4, 4]",
    "null",
    "4,4",
    "[-0,4]",
    "[[4],4]",
)
NO_ENDS = ("}", "x", " x", "\n", "\0", '{"a":1}', entry("y", offsets="[4,4]"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (crafted(entry() + entry(), 4), "'x' is there twice"),
        (crafted(entry() + entry(offsets="[4,8]"), 8), "'x' is there twice"),
        *[(crafted(entry(name), 4), "name|header|list of tensors") for name in NAMES],
        *[(crafted(entry(dtype=dtype), 4), f"is {dtype}, which") for dtype in UNUSED],
        *[(crafted(entry(dtype=dtype), 4), "list of tensors") for dtype in NO_DTYPES],
        (crafted(entry(shape="[2]"), 4), "as its shape says"),
        (crafted(entry(shape="[0]"), 4), "as its shape says"),
        (crafted(entry(dtype="F64"), 4), "as its shape says"),
        (crafted(entry(shape="[4611686018427387905]"), 4), "as its shape says"),  # times 4 it is 4, in 64 bits
        (crafted(entry(shape="[4294967297,4294967297,4294967297,4294967297]"), 4), "as its shape says"),
        (crafted(entry(shape="[0,4611686018427387904,4]", offsets="[0,0]"), 0), "no array can have"),
        (crafted(entry(shape="[0,9999999999999999999]", offsets="[0,0]"), 0), "no array can have"),
        *[(crafted(entry(shape=shape), 4), "list of tensors") for shape in NO_SHAPES],
        (crafted(entry(offsets="[1,5]"), 5), "where the one before ends"),
        (crafted(entry() + entry("y", offsets="[5,9]"), 9), "where the one before ends"),
        (crafted(entry() + entry("y", offsets="[2,6]"), 6), "where the one before ends"),
        (crafted(entry() + entry("y", offsets="[0,4]"), 4), "where the one before ends"),
        (crafted(entry(offsets="[4,8]") + entry("y"), 8), "where the one before ends"),
        (crafted(entry(offsets="[4,4]"), 4), "where the one before ends"),
        (crafted(entry("b", "U8", "[1]", "[0,1]") + entry(offsets="[1,5]"), 5), "where the one before"),  # not aligned
        *[(crafted(entry() + entry("y", "F32", "[0]", offsets), 4), "list of tensors") for offsets in NO_OFFSETS],
        *[(crafted(entry(), 4, end=end), "list of tensors") for end in NO_ENDS],
        (crafted(' "x":1', 0), "list of tensors"),
        (crafted(entry() + ',"y":1', 4), "list of tensors"),
        (crafted(entry() + ",", 4), "list of tensors"),
        (crafted(',"more":"x"}' + entry()[:-1], 4), "list of tensors"),  # a second key in the metadata
    ],
)
def test_a_list_of_tensors_that_save_would_not_write_is_refused(tmp_path, content, said):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert re.search(said, refusal(path))


@pytest.mark.parametrize("mark", ["]", " ", ",", "", "}}"])
def test_the_metadata_must_end_behind_the_text(tmp_path, mark):
    path, header = tmp_path / "x", header_of(inner_of(format=1)).decode()
    assert header.endswith('"}}')
    path.write_bytes(file_of(f"{header[:-2]}{mark}}}".encode()))
    assert "list of tensors" in refusal(path)


def test_a_model_file_is_no_pickle_whatever_the_length_of_its_header(tmp_path):
    for length in range(100, 400):
        checkpoint.save(tmp_path / "x", {}, {"text": "x" * length})
        if (tmp_path / "x").read_bytes()[0] == 0x80:
            assert checkpoint.load(tmp_path / "x") == ({}, {"text": "x" * length})
            return
    pytest.fail("no header has such a length")


def test_another_list_of_tensors_is_taken(tmp_path):
    path = tmp_path / "x"
    entries = entry("optimizer.first_moment.recurrent.layers.0.W_xh") + entry("b-1_.", "U8", "[4,1]", "[4,8]")
    path.write_bytes(
        crafted(entries + entry("A" * 200, "F64", "[7,0]", "[8,8]") + entry("y", shape="[]", offsets="[8,12]"), 12)
    )
    tensors, _ = checkpoint.load(path)
    assert [array.shape for array in tensors.values()] == [(1,), (4, 1), (7, 0), ()]


@pytest.mark.parametrize(
    "inner",
    [
        inner_of(format=1)[:-1] + ',"format":1}',
        inner_of(format=1)[:-1] + ',"sha256":""}',
        inner_of(format=1)[:-1] + ',"a":[{"b":1,"b":1}]}',
        inner_of(format=1)[:-1] + ',"a":' + "9" * 5000 + "}",
        inner_of(format=1) + "{}",
    ],
)
def test_metadata_that_save_would_not_write_is_refused(tmp_path, inner):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner)))
    assert "its metadata cannot be read" in refusal(path)


def test_a_header_that_is_not_ascii_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner_of(format=1, text="e")).replace(b'e\\"}', 'é\\"}'.encode())))
    assert "header cannot be read" in refusal(path)


@pytest.mark.parametrize(("limit", "said"), [(20_000, None), (20_001, "too many tensors")])
def test_so_many_tensors_can_be_saved_and_loaded(tmp_path, limit, said):
    tensors = {f"x.{number}": np.zeros(1, np.int8) for number in range(limit)}
    if said is None:
        checkpoint.save(tmp_path / "x", tensors, {})
        assert set(checkpoint.load(tmp_path / "x")[0]) == set(tensors)
    else:
        with pytest.raises(InputError, match=said):
            checkpoint.save(tmp_path / "x", tensors, {})
    entries = "".join(entry(name, "I8", "[0]", "[0,0]") for name in tensors)
    (tmp_path / "y").write_bytes(crafted(entries, 0))
    if said is None:
        assert len(checkpoint.load(tmp_path / "y")[0]) == limit
    else:
        assert said in refusal(tmp_path / "y")


def test_a_million_words_can_be_saved_and_loaded(tmp_path):
    words = [f"wörter{number}" for number in range(1_000_000)]
    checkpoint.save(tmp_path / "x", {}, {"words": words})
    assert checkpoint.load(tmp_path / "x")[1] == {"words": words}


def test_metadata_and_lists_beyond_the_limits_are_refused(tmp_path):
    text = "x" * 64_000_000
    with pytest.raises(InputError, match="too large"):
        checkpoint.save(tmp_path / "x", {}, {"text": text})
    (tmp_path / "x").write_bytes(file_of(header_of(inner_of(format=1, text=text))))
    assert "too large" in refusal(tmp_path / "x")
    (tmp_path / "x").write_bytes(file_of(header_of(inner_of(format=1), " " * 10_000_000)))
    assert "too many tensors" in refusal(tmp_path / "x")


@pytest.mark.parametrize("bracket", ["[", "{"])
def test_a_million_pairs_can_be_saved_and_loaded_and_four_times_as_many_not(tmp_path, bracket):
    empty = [] if bracket == "[" else {}
    checkpoint.save(tmp_path / "x", {}, {"pairs": [empty] * 1_000_000})
    assert checkpoint.load(tmp_path / "x")[1]["pairs"][-1] == empty
    with pytest.raises(InputError, match="too large"):
        checkpoint.save(tmp_path / "x", {}, {"pairs": [empty] * 4_000_000})
    (tmp_path / "y").write_bytes(file_of(header_of(inner_of(format=1, pairs=[empty] * 4_000_000))))
    assert "too large" in refusal(tmp_path / "y")


@pytest.mark.parametrize(
    "tensors",
    [
        *[{name: np.zeros(1)} for name in ("", ".x", "__metadata__", "a b", "狗", 'a"b', "a\nb", "x" * 201)],
        *[{"x": np.zeros(1, dtype)} for dtype in (bool, complex, object, np.float16, np.longdouble, "U3", "M8[s]")],
    ],
)
def test_what_could_not_be_loaded_is_not_saved(saved, tensors):
    before = saved.read_bytes()
    with pytest.raises(InputError, match="cannot be"):
        checkpoint.save(saved, tensors, {})
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("version", [2, 99, 10**4000])
def test_a_later_format_version_is_refused_with_advice(tmp_path, version):
    path = tmp_path / "x"
    for entries in ("", ',"later":{"dtype":"Q7","data_offsets":[0,0],"shape":[[]]}'):
        path.write_bytes(file_of(header_of(inner_of(format=version), entries)))
        for load in (checkpoint.load, elman.load):
            message = refusal(path, load, LaterFormatError)
            assert f"format version {str(version)[:20]}, but this elman reads version 1; upgrade elman" in message


def test_a_damaged_file_of_a_later_format_is_damaged(tmp_path):
    path = tmp_path / "x"
    content = file_of(header_of(inner_of(format=2)))
    path.write_bytes(content.replace(b"format", b"farmat"))
    assert "altered or damaged" in refusal(path)


@pytest.mark.parametrize(
    "inner", [inner_of(), *(inner_of(format=version) for version in (0, -1, "2", None, True, 1.0))]
)
def test_a_format_version_that_no_elman_writes_is_refused(tmp_path, inner):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner)))
    assert "no format version" in refusal(path)


# what is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path):
    path = tmp_path / "x"
    os.mkfifo(path)
    code = "import sys, elman\ntry: elman.load(sys.argv[1])\nexcept elman.ElmanError as error: print(error)"
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert found.stdout == f"{path}: not a file, but a device or a pipe\n"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_a_device_without_an_end_is_refused():
    for load in (checkpoint.load, elman.load):
        assert "a device" in refusal(Path("/dev/zero"), load)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files are made in Linux's way")
def test_a_large_file_is_refused_by_its_beginning_or_its_size(saved):
    content = saved.read_bytes()
    for start, said in ((content, "appended"), (b"PK\x03\x04", "zip"), (b"\0" * 100, "not begin")):
        saved.write_bytes(start)
        os.truncate(saved, 1 << 40)
        assert said in refusal(saved)


def test_a_checkpoint_given_as_a_model_is_refused(model_parts):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, metadata | {"kind": "checkpoint"})
    message = refusal(path, elman.load)
    assert "is a checkpoint, not a model" in message and "model.safetensors or the run folder" in message


def test_missing_extra_and_misshapen_tensors_are_refused_by_name(model_parts):
    tensors, metadata, path = model_parts
    W_hy = tensors["output.W_hy"]
    for changed, said in (
        ({name: tensor for name, tensor in tensors.items() if name != "output.W_hy"}, "output.W_hy is missing"),
        (tensors | {"output.more": W_hy}, "unknown parameter output.more"),
        (tensors | {"output.W_hy": W_hy.T.copy()}, r"output.W_hy is float32 \(2, 3\)"),
        (tensors | {"output.W_hy": W_hy[:, :1]}, r"output.W_hy is float32 \(3, 1\)"),
        (tensors | {"output.W_hy": W_hy.astype(np.float64)}, r"output.W_hy is float64"),
        (tensors | {"output.W_hy": W_hy.astype(np.int32)}, r"output.W_hy is int32"),
        ({}, "missing"),
    ):
        checkpoint.save(path, changed, metadata)
        assert re.search(said, refusal(path, elman.load))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "char", "characters": "ab", "unknown": False},
        {"kind": "char", "characters": "abc", "unknown": True},
        {"kind": "byte"},
        {"kind": "word"},
        None,
        "abc",
    ],
)
def test_a_tokenizer_that_is_not_the_models_is_refused(model_parts, change):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, metadata | {"tokenizer": change})
    message = refusal(path, elman.load)
    assert "vocabulary of 3" in message or "tokenizer" in message


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        "lstm",
        {},
        {"cell": "lstm"},
        {"vocab_size": 3, "hiden_size": 2},
        {"vocab_size": "3"},
        {"vocab_size": 3, "hidden_size": -1},
        {"vocab_size": 3, "cell": "transformer"},
        {"vocab_size": 3, "hidden_size": float("inf")},
        {"vocab_size": 3, "hidden_size": 10**400},
        {"vocab_size": 3, "hidden_size": 10**12},
    ],
)
def test_a_model_configuration_that_cannot_be_is_refused(model_parts, change):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, metadata | {"model": change})
    refusal(path, elman.load)


@pytest.mark.parametrize("change", [{"cell": ["lstm"]}, {"cell": "x" * 101}, {"dropout": {}}, {"x" * 101: 1}])
def test_settings_that_are_no_settings_are_not_shown(model_parts, change):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, metadata | {"model": metadata["model"] | change})
    assert "no model configuration" in refusal(path, elman.load)


def test_settings_nested_as_deeply_as_can_be_read_are_refused(model_parts):
    *_, path = model_parts
    for depth in range(800, 1010):
        text = inner_of(format=1, kind="model", model={"vocab_size": 3, "cell": 0})
        path.write_bytes(file_of(header_of(text.replace("0}}", "[" * depth + "]" * depth + "}}"))))
        assert re.search("no model configuration|metadata cannot be read", refusal(path, elman.load))


@pytest.mark.parametrize("training", [5, None, "lines", ["items"], {"items": "lines"}])
def test_training_settings_that_are_not_the_models_are_refused(model_parts, training):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, metadata | {"training": training})
    assert "training settings" in refusal(path, elman.load)
    checkpoint.save(path, tensors, metadata | {"training": {"items": None}})
    assert len(elman.load(path).generate(length=5)) == 5


@pytest.mark.parametrize("key", ["kind", "model", "tokenizer"])
def test_metadata_without_what_a_model_needs_is_refused(model_parts, key):
    tensors, metadata, path = model_parts
    checkpoint.save(path, tensors, {name: value for name, value in metadata.items() if name != key})
    refusal(path, elman.load)


def test_a_model_file_reopens_with_nothing_else(model, model_parts):
    *_, path = model_parts
    again = elman.load(path)
    assert again.language_model.config == model.language_model.config
    assert again.tokenizer.to_json() == model.tokenizer.to_json()
    for name, array in model.language_model.parameters.items():
        np.testing.assert_array_equal(again.language_model.parameters[name], array)
    assert again.generate("a", 30, seed=5) == model.generate("a", 30, seed=5)


# writing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(("holder", "function"), [(os, "fsync"), (Path, "replace")])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(saved, monkeypatch, error, holder, function):
    def fail(*args, **options):
        raise error

    before = saved.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(holder, function, fail)
        checkpoint.save(saved, {"b": np.ones(100)}, {})
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(
    ("holder", "function"), [(os, "fsync"), (Path, "replace"), (Path, "open"), (os, "open"), (os, "close")]
)
def test_every_failure_to_write_names_the_file_and_keeps_its_kind(saved, monkeypatch, holder, function, number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(holder, function, fail)
        checkpoint.write_atomically(saved, b"new")
    error = caught.value
    assert (error.errno, error.strerror, error.filename) == (number, os.strerror(number), str(saved))
    assert error.filename2 is None and error.__suppress_context__
    assert type(error) is type(OSError(number, "")) and list(saved.parent.iterdir()) == [saved]
    assert (saved.read_bytes() == b"new") == (holder is os and function != "fsync")  # when the folder is flushed


def test_an_error_while_the_temporary_is_removed_hides_nothing(saved, monkeypatch):
    def fail(number):
        def function(*args, **options):
            raise OSError(number, os.strerror(number))

        return function

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(os, "fsync", fail(errno.ENOSPC))
        patch.setattr(Path, "unlink", fail(errno.EROFS))
        checkpoint.write_atomically(saved, b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(saved))


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_file_too_large_for_the_disk_leaves_the_old_one_and_is_named(saved):
    code = """if True:
        import resource, sys
        import numpy as np
        from elman import checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.save(sys.argv[1], {"a": np.zeros(1_000_000)}, {})
        except OSError as error:
            print(error.errno, error.filename)
    """
    before = saved.read_bytes()
    found = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True)
    assert found.stdout == f"{errno.EFBIG} {saved}\n", found.stderr
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def test_parts_are_written_one_after_the_other(tmp_path):
    checkpoint.write_atomically(tmp_path / "x", b"one", memoryview(b"two"), b"", b"three")
    assert (tmp_path / "x").read_bytes() == b"onetwothree"


def test_the_content_is_flushed_to_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "x", []
    fsync = os.fsync

    def watch(descriptor):
        seen.append((path.exists(), os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    checkpoint.save(path, TENSORS, METADATA)
    assert seen[0] == (False, path.stat().st_size)


def test_nothing_is_left_beside_a_file_that_was_written(saved):
    checkpoint.save(saved, {}, {})
    assert list(saved.parent.iterdir()) == [saved]


def test_an_unwritable_place_is_an_oserror(tmp_path):
    with pytest.raises(OSError):
        checkpoint.save(tmp_path / "nothere" / "x", {}, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        checkpoint.save(tmp_path / "folder", {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_files_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        checkpoint.save(tmp_path / "x", TENSORS, METADATA)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_nothing_in_the_source_unpickles():
    forbidden = re.compile(
        r"^\s*(import|from)\s+(pickle|cPickle|_pickle|shelve|marshal|dill|joblib|cloudpickle)\b"
        r"|allow_pickle\s*=\s*True|\bnp\.load\(|torch\.load\(|\beval\(|\bexec\(",
        re.MULTILINE,
    )
    texts = {file.name: file.read_text(encoding="utf-8") for file in Path(elman.__file__).parent.rglob("*.py")}
    assert len(texts) > 30
    own = "eval(code, {}, values)"  # a factor in the source of a cell, never anything of a file
    assert texts["unroll.py"].count(own) == 1
    texts["unroll.py"] = texts["unroll.py"].replace(own, "")
    assert not [name for name, text in texts.items() if forbidden.search(text)]
