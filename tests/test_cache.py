"""Ids on disk: read by slices, written whole or not at all."""

from __future__ import annotations

import os

import numpy as np
import pytest

from elman.batches import StreamWindows
from elman.errors import InputError
from elman.text import cache
from elman.text.tokenizers import ByteTokenizer, CharTokenizer

TEXT = "the river runs below the hill, and over stones it sings; " * 50


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LARGE", 100)
    return tmp_path / "cache"


def encode(text=TEXT, tokenizer=None, digest="x"):
    return cache.encode(
        [text[:70], text[70:]], tokenizer or CharTokenizer(sorted_letters(text), False), len(text), digest
    )


def sorted_letters(text):
    return "".join(sorted(set(text)))


def test_a_small_text_stays_in_memory(folder):
    ids = encode(TEXT[:99])
    assert isinstance(ids, np.ndarray) and not folder.exists()


def test_ids_of_a_large_text_are_two_bytes_on_disk_and_read_by_slices(folder):
    ids, wanted = encode(), CharTokenizer(sorted_letters(TEXT), False).encode(TEXT)
    (path,) = folder.iterdir()
    assert path.stat().st_size == 2 * len(TEXT) + 32 and len(ids) == len(TEXT)
    for part in (slice(None), slice(5, 9), slice(2840, None), slice(9, 5), slice(-3, None), slice(0, 99, 7)):
        np.testing.assert_array_equal(ids[part], wanted[part])


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "longer", "digest"])
def test_a_file_that_is_not_what_was_written_is_written_again(folder, damage):
    wanted = encode()[:]
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = {
        "cut": whole[:-40],
        "empty": b"",
        "changed": b"\1" + whole[1:],
        "longer": whole + b"\0\0",
        "digest": whole[:-1] + bytes([whole[-1] ^ 1]),
    }
    path.write_bytes(damaged[damage])
    np.testing.assert_array_equal(encode()[:], wanted)
    assert path.read_bytes() == whole and list(folder.iterdir()) == [path]


def test_a_file_that_is_cut_while_it_is_read_is_an_error_that_names_it(folder):
    ids = encode()
    (path,) = folder.iterdir()
    os.truncate(path, 100)
    assert len(ids[:50]) == 50
    with pytest.raises(InputError, match=r"the cache file .*\.ids was cut while it was read"):
        ids[:51]


def test_windows_over_a_file_are_those_over_memory(folder):
    ids, wanted = encode(), CharTokenizer(sorted_letters(TEXT), False).encode(TEXT)
    for ours, theirs in ((StreamWindows(ids, 7, 13), StreamWindows(wanted, 7, 13)),):
        for step in range(ours.steps_per_epoch + 1):
            np.testing.assert_array_equal(ours.batch(step).inputs, theirs.batch(step).inputs)
            np.testing.assert_array_equal(ours.batch(step).targets, theirs.batch(step).targets)


def test_the_cache_is_used_again_for_the_same_text_and_tokenizer_only(folder, monkeypatch):
    encode()
    encode(tokenizer=ByteTokenizer())
    encode(digest="y")
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(CharTokenizer, "encode_chunks", lambda *_: pytest.fail("encoded again"))
    encode()


@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt(), RuntimeError()])
def test_an_interrupted_build_leaves_nothing(folder, error):
    def chunks():
        yield TEXT
        raise error

    with pytest.raises(type(error)):
        cache.encode(chunks(), ByteTokenizer(), 1000, "x")
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_is_removed_after_a_day(folder):
    folder.mkdir()
    for name, age in (("old.part", 2 * 86_400), ("new.part", 60)):
        (folder / name).touch()
        os.utime(folder / name, ((folder / name).stat().st_mtime - age,) * 2)
    encode()
    assert {path.name for path in folder.iterdir() if path.suffix == ".part"} == {"new.part"}


def test_a_folder_that_cannot_be_written_is_one_clear_line(folder, tmp_path):
    folder.write_text("a file in its place")
    with pytest.raises(
        InputError, match=r"the cache folder .*cache cannot be written: .*; name another one in ELMAN_CACHE_DIR"
    ):
        encode()
