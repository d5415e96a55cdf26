"""The model file: whole, verified, and refused in one line when anything about it is wrong."""

from __future__ import annotations

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
from elman.errors import ElmanError, ModelFileError
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


def refusal(path: Path, load=checkpoint.load) -> str:
    """What is said of the file, without its path, which holds the test's name."""
    with pytest.raises(ElmanError) as caught:
        load(path)
    assert type(caught.value) is ModelFileError
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
    assert "not a run folder: there is no model.safetensors" in refusal(tmp_path, elman.load)


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


def test_a_header_with_a_key_twice_gives_one_tensor_or_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner_of(format=1), ONE_FLOAT + ONE_FLOAT), struct.pack("<f", 2.5)))
    try:
        tensors, _ = checkpoint.load(path)
    except ModelFileError:
        return
    assert list(tensors) == ["x"] and tensors["x"].tolist() == [2.5]


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_another_format_version_is_refused_with_advice(tmp_path, version):
    path = tmp_path / "x"
    path.write_bytes(file_of(header_of(inner_of(format=version))))
    message = refusal(path)
    assert f"format version {version}" in message and "upgrade elman" in message


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
    files = sorted(Path(elman.__file__).parent.rglob("*.py"))
    assert len(files) > 30
    assert not [file.name for file in files if forbidden.search(file.read_text(encoding="utf-8"))]
