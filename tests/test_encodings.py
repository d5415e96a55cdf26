"""Encodings: what a file's bytes become, whether its encoding is named or found out, and what is said where not."""

from __future__ import annotations

import codecs
import functools
import hashlib
import itertools
import random

import charset_normalizer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import corpus
from elman.errors import InputError
from elman.text import files, pieces
from elman.text.encodings import Decoder
from elman.text.sources import open_text

CHINESE = (
    "满纸荒唐言，一把辛酸泪！都云作者痴，谁解其中味？\n此开卷第一回也。作者自云：因曾历过一番梦幻之后，故将真事隐去。\n"
)
OLD_CHINESE = (
    "滿紙荒唐言，一把辛酸淚！都云作者癡，誰解其中味？\n此開卷第一回也。作者自云：因曾歷過一番夢幻之後，故將真事隱去。\n"
)
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。\n"
)
KOREAN = "모든 국민은 법 앞에 평등하다.\n대한민국의 주권은 국민에게 있고, 모든 권력은 국민으로부터 나온다.\n"
FRENCH = "Longtemps, je me suis couché de bonne heure.\nParfois, à peine ma bougie éteinte, mes yeux se fermaient.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга.\nКаждая несчастливая семья несчастлива по-своему.\n"
WORLD = "naïve 狗 \U0001f600 пёс\n"
TEXTS = {
    "utf-8": WORLD,
    "utf-8-sig": WORLD,
    "utf-16": WORLD,
    "utf-32": WORLD,
    "gbk": CHINESE,
    "gb18030": CHINESE,
    "big5": OLD_CHINESE,
    "shift_jis": JAPANESE,
    "euc-jp": JAPANESE,
    "euc-kr": KOREAN,
    "cp1252": FRENCH,
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
}


@pytest.fixture(params=[1, 2, 3, 7, files.BLOCK], ids=lambda size: f"blocks of {size}")
def block(request, monkeypatch) -> int:
    """Files are read in blocks of this size, and nothing is kept in memory."""
    monkeypatch.setattr(files, "BLOCK", request.param)
    monkeypatch.setattr(pieces, "_KEPT", 0)
    return request.param


@pytest.fixture
def write(tmp_path):
    def write_file(data: bytes, name: str = "a.txt"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write_file


def refusal(path, *options) -> str:
    with pytest.raises(InputError) as caught:
        open_text([path], *options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_text_comes_back_from_disk_when_its_encoding_is_named(write, block, encoding):
    text = open_text([write(TEXTS[encoding].encode(encoding))], encoding)
    assert text.read() == TEXTS[encoding] and text.characters == len(TEXTS[encoding])
    assert not any("guessed" in note for note in text.notes)


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_text_comes_back_from_disk_when_its_encoding_is_not_named(write, block, encoding):
    text = open_text([write(TEXTS[encoding].encode(encoding))])
    assert text.read() == TEXTS[encoding] and text.characters == len(TEXTS[encoding])
    assert text.sha256 == hashlib.sha256(TEXTS[encoding].encode()).hexdigest()
    assert any("guessed" in note for note in text.notes) == (not encoding.startswith("utf"))


@pytest.mark.parametrize(
    ("data", "encoding", "found"),
    [
        (WORLD.encode(), None, "utf-8"),
        (WORLD.encode("utf-8-sig"), None, "utf-8"),
        (WORLD.encode("utf-8-sig"), "utf-8", "utf-8"),
        (WORLD.encode("utf-8-sig"), "UTF_8_SIG", "utf-8"),
        (codecs.BOM_UTF16_BE + WORLD.encode("utf-16-be"), None, "utf-16-be"),
        (codecs.BOM_UTF16_BE + WORLD.encode("utf-16-be"), "utf-16", "utf-16-be"),
        (codecs.BOM_UTF16_LE + WORLD.encode("utf-16-le"), "UTF-16LE", "utf-16-le"),
        (WORLD.encode("utf-16-be"), "utf-16-be", "utf-16-be"),
        (codecs.BOM_UTF32_LE + WORLD.encode("utf-32-le"), None, "utf-32-le"),
        (codecs.BOM_UTF32_BE + WORLD.encode("utf-32-be"), "utf-32", "utf-32-be"),
        (("\ufeff" + WORLD).encode("gb18030"), "gb18030", "gb18030"),
    ],
)
def test_a_mark_tells_the_encoding_and_is_left_out(write, block, data, encoding, found):
    text = open_text([write(data)], encoding)
    assert (text.read(), text.encodings) == (WORLD, (found,))
    marked = data != WORLD.encode("utf-16-be") and data != WORLD.encode()
    assert text.notes == ("a.txt: a byte-order mark left out",) * marked


@pytest.mark.parametrize("name", ["utf-16", "utf-32"])
def test_utf_16_without_the_order_of_its_bytes_is_refused(write, name):
    path = write(WORLD.encode(f"{name}-be"))
    advice = f"give --encoding {name}-le or {name}-be"
    assert refusal(path, name) == f"{path} has no byte-order mark, which {name} needs; {advice}"
    assert open_text([path], f"{name}-be").read() == WORLD
    assert "has no byte-order mark" in refusal(write(WORLD.encode("utf-8-sig")), name)
    assert "is empty" in refusal(write(b""), name)


@pytest.mark.parametrize("encoding", ["gbk", "gb2312", "gb18030"])
def test_what_is_named_stays_itself_and_what_is_guessed_is_the_widest_of_its_kind(write, encoding):
    path = write(CHINESE.encode(encoding))
    assert open_text([path], encoding).encodings == (encoding,)
    guessed = open_text([path])
    assert guessed.encodings == ("gb18030",)
    assert guessed.notes == ("a.txt: read as gb18030 (guessed, 99% sure; --encoding names another)",)


@pytest.mark.parametrize("encoding", ["gbk", "gb2312"])
def test_the_widest_is_taken_also_where_the_detector_names_another(write, monkeypatch, encoding):
    isolated = functools.partial(charset_normalizer.from_bytes, cp_isolation=[encoding])
    monkeypatch.setattr(charset_normalizer, "from_bytes", isolated)
    assert open_text([write(CHINESE.encode(encoding))]).encodings == ("gb18030",)


def test_of_readings_that_are_equally_good_the_usual_one_is_taken_and_is_not_sure(write):
    text = open_text([write("It costs £5 per mañana\n".encode("cp1252"))])
    assert text.read() == "It costs £5 per mañana\n" and text.encodings == ("cp1252",)
    sure = int(text.notes[0].partition("guessed, ")[2].partition("%")[0])
    assert 0 < sure <= 50


@pytest.mark.parametrize("size", [7, files.BLOCK])
def test_a_guess_looks_at_lines_that_are_not_ascii_wherever_they_are(write, monkeypatch, size):
    monkeypatch.setattr(files, "BLOCK", size)
    ascii_lines = "A line of plain English that says nothing.\n" * 7000
    content = ascii_lines + "ё\n" + ascii_lines + RUSSIAN * 20
    text = open_text([write(content.encode("cp1251"))])
    assert text.encodings == ("cp1251",) and text.read() == content


@pytest.mark.parametrize("cut", range(2))
def test_a_guess_does_not_look_at_half_a_line(write, cut):
    content = CHINESE + "a" * (files.BLOCK - 1000 + cut) + "\n" + CHINESE.replace("\n", "") * 20
    text = open_text([write(content.encode("gb18030"))])
    assert text.encodings == ("gb18030",) and text.read() == content


@pytest.mark.parametrize("cut", range(4))
def test_a_guess_is_made_where_no_line_ends(write, cut):
    poem = CHINESE.replace("\n", "")
    content = "a" * cut + "\U00020000" + poem * (1 + (3 << 20) // len(poem.encode("gb18030")))
    text = open_text([write(content.encode("gb18030"))])
    assert text.encodings == ("gb18030",) and text.read() == content


def test_a_guess_that_does_not_hold_for_the_whole_file_is_refused(write):
    data = (CHINESE * 30_000).encode("gb18030")
    path = write(data + b"\xff" + data)
    message = refusal(path)
    advice = (
        "name another with --encoding, for example gb18030 for Chinese or cp1252 for Western text, "
        "or give --encoding-errors replace to have U+FFFD in its place"
    )
    bad = f"byte 0xff at offset {len(data)} does not decode"
    assert message == f"{path} is not gb18030 text (a guess, 99% sure): {bad}; {advice}"
    text = open_text([path], None, "replace")
    assert text.read() == CHINESE * 30_000 + "\ufffd" + CHINESE * 30_000
    assert text.notes[1] == "a.txt: 1 place that does not decode became U+FFFD"


def test_bytes_that_are_text_in_no_encoding_are_refused(write):
    path = write(b"abc\n" + bytes(range(128, 256)) * 8)
    assert f"{path} is not utf-8 text: byte 0x80 at offset 4 does not decode, and no other encoding fits" in refusal(
        path
    )
    text = open_text([path], None, "replace")
    assert text.read().startswith("abc\n\ufffd") and text.encodings == ("utf-8",)


@pytest.mark.parametrize(
    ("data", "encoding", "offset"),
    [
        ("狗ab" * 9, "utf-8", None),
        ("狗ab" * 9, "gb18030", None),
        ("犬ab" * 9, "shift_jis", None),
        ("狗ab" * 9, "utf-16-le", None),
    ],
)
def test_a_byte_that_does_not_decode_is_named_with_its_offset(write, block, data, encoding, offset):
    bad = {"utf-16-le": b"\x00\xdca\0", "utf-8": b"\x80"}.get(encoding, b"\xff")
    good = data.encode(encoding)
    for name in (encoding, *([None] if encoding == "utf-8" else [])):
        path = write(good + bad + good)
        assert f"byte 0x{bad[0]:02x} at offset {len(good)} does not decode" in refusal(path, name)
    last = data.rstrip("ab")[-1].encode(encoding)
    path = write(good + last[:-1])
    assert f"byte 0x{last[0]:02x} at offset {len(good)} does not decode" in refusal(path, encoding)


@pytest.mark.parametrize("distance", range(-4, 5))
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le"])
def test_the_offset_is_right_at_the_border_of_real_blocks(write, encoding, distance):
    good = ("狗" * (files.BLOCK // len("狗".encode(encoding)) + distance)).encode(encoding)
    bad = {"utf-16-le": b"\x00\xdc"}.get(encoding, b"\xff")
    assert f"at offset {len(good)} does not decode" in refusal(write(good + bad + good), encoding)


def test_utf_8_with_damage_is_no_other_encoding(write, block):
    good = WORLD.encode()
    path = write(good + b"\x80" + good)
    advice = "mend it, or give --encoding-errors replace to have U+FFFD in its place"
    assert refusal(path) == f"{path} is utf-8 text, but byte 0x80 at offset {len(good)} does not decode; {advice}"
    text = open_text([path], None, "replace")
    assert text.read() == WORLD + "\ufffd" + WORLD
    assert text.notes == ("a.txt: 1 place that does not decode became U+FFFD",)


def test_a_marked_text_with_damage_is_refused_in_the_encoding_of_its_mark(write, block):
    assert "is not utf-8 text: byte 0xff at offset 4" in refusal(write(codecs.BOM_UTF8 + b"a\xff"))
    assert "is not utf-16-le text: byte 0x61 at offset 2" in refusal(write(codecs.BOM_UTF16_LE + b"a"))


def test_only_what_did_not_decode_counts_as_replaced(write, block):
    text = open_text([write("\ufffd狗".encode() + b"\xff\xe7\x8ba" + "\ufffd".encode())], "utf-8", "replace")
    assert text.read() == "\ufffd狗\ufffd\ufffda\ufffd"
    assert text.notes == ("a.txt: 2 places that do not decode became U+FFFD",)


def test_an_encoding_that_is_named_wins(write):
    assert open_text([write(CHINESE.encode("gbk"))], "latin-1").read() == CHINESE.encode("gbk").decode("latin-1")
    assert "byte 0xff at offset 0" in refusal(write(WORLD.encode("utf-16")), "utf-8")


@pytest.mark.parametrize("encoding", ["klingon", "", "rot13", "hex", "base64", "zlib", "undefined", "punycode", "u\0f"])
def test_what_is_no_text_encoding_is_refused_by_name(write, encoding):
    said = f"no text encoding is called {encoding!r}; usual ones are utf-8, gb18030, cp1252"
    assert refusal(write(b"text \xff"), encoding) == said
    assert refusal("hello", encoding) == said


def test_how_errors_are_met_is_checked(write):
    assert refusal(write(b"a"), None, "ignore") == "encoding_errors must be one of strict, replace, not 'ignore'"


def test_half_a_character_is_no_text(write, block):
    path = write(b"ab+3gDYPQ-")  # U+DE00, U+D83D: as JSON, sorted, they would become one character
    assert refusal(path, "utf-7") == f"{path} holds half a character (U+DE00) at offset 2; mend it"


# normalisation


def test_line_ends_and_marks_are_normalised_and_notes_say_so(write, block):
    data = "\ufeff\ufeffeins\r\nzwei\r\n\rdrei\r\ufeff\nvier\n\rfünf\r".encode()
    text = open_text([write(data)])
    assert text.read() == "eins\nzwei\n\rdrei\nvier\n\rfünf\r"
    assert text.notes == (
        "a.txt: a byte-order mark left out",
        "a.txt: 2 byte-order marks inside left out",
        "a.txt: 3 CRLF line ends became LF",
    )


def test_a_line_end_is_not_made_of_two_files(write, block):
    paths = [write(b"a\r", "a.txt"), write(b"\nb", "b.txt")]
    assert open_text(paths).read() == "a\r\nb"


@given(
    st.text(st.sampled_from("\r\n\ufeff a狗é\U0001f600")),
    st.sampled_from(["utf-8", "utf-16-le", "gb18030"]),
    st.lists(st.integers(0, 40)),
)
def test_normalised_text_does_not_depend_on_the_blocks(content, encoding, cuts):
    data = content.encode(encoding)
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder(encoding, "strict")
    found = list(decoder.pieces(data[start:stop] for start, stop in itertools.pairwise(at)))
    plain = content.replace("\ufeff", "")
    assert "".join(found) == plain.replace("\r\n", "\n") and "" not in found
    cleaned = decoder.cleaned
    assert (cleaned.mark + cleaned.marks_inside, cleaned.crlf) == (content.count("\ufeff"), plain.count("\r\n"))


# binary files


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x89PNG\r\n\x1a\n", "it begins as PNG does"),
        (b"%PDF-1.7\n", "it begins as PDF does"),
        (b"PK\x03\x04word/document.xml", "it begins as zip does"),
        (b"\x1f\x8b\x08", "it begins as gzip does"),
        (random.Random(0).randbytes(5000), "it holds NUL bytes"),
        (bytes(range(1, 32)) * 3 + b"some text between", "much of it is control characters"),
        ("plain English".encode("utf-16-le"), "if it is UTF-16 without a byte-order mark, give --encoding utf-16-le"),
        ("plain English".encode("utf-16-be"), "if it is UTF-16 without a byte-order mark, give --encoding utf-16-be"),
    ],
)
def test_a_binary_file_is_refused_unless_its_encoding_is_named(write, block, data, why):
    path = write(data)
    message = refusal(path)
    assert message.startswith(f"{path} looks like a binary file: ") and why in message
    assert open_text([path], "cp437").read() == data.decode("cp437").replace("\r\n", "\n")


def test_what_terminals_and_old_editors_write_is_text(write):
    data = b"\x1b[31mred\x1b[0m\a\b\f\r\n\x1a"
    assert open_text([write(data)]).read() == data.decode().replace("\r\n", "\n")
    assert open_text([write(b"a text with one mistake \x01")]).characters == 25


# corpora of this machine


def test_the_dream_of_the_red_chamber_is_recognised():
    path = corpus("zh_hongloumeng.gbk.txt")
    text = open_text([path])
    assert text.encodings == ("gb18030",) and text.characters == 879_195 and len(set(text.read())) == 4_447
    assert text.notes == (f"{path.name}: read as gb18030 (guessed, 99% sure; --encoding names another)",)
    assert "is not utf-8 text: byte 0x" in refusal(path, "utf-8")


def test_water_margin_is_cleaned():
    path = corpus("zh_shuihu.txt")
    text = open_text([path])
    assert text.read() == path.read_bytes().decode().replace("\ufeff", "").replace("\r\n", "\n")
    assert text.notes == (
        "zh_shuihu.txt: a byte-order mark inside left out",
        "zh_shuihu.txt: 5,255 CRLF line ends became LF",
    )
