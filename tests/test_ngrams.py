"""What a model has to beat: n-grams by hand, against a slow twin, and the published figures; xz against itself."""

from __future__ import annotations

import hashlib
import lzma
import math
import tracemalloc
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import corpus
from elman.errors import InputError
from elman.text.corpora import python_topics
from elman.text.ngrams import witten_bell, xz_nats
from elman.text.tokenizers import CharTokenizer

SHAKESPEARE_TRAINS_ON = 1_003_854  # characters; nanoGPT's split


def slow_witten_bell(train, valid, V, max_order):
    """The same with dictionaries and recursion, a token at a time."""
    followed = defaultdict(Counter)
    for i, w in enumerate(train):
        for n in range(min(i, max_order - 1) + 1):
            followed[tuple(train[i - n : i])][w] += 1

    def p(w, h):
        lower = p(w, h[1:]) if h else 1 / V
        if h not in followed:
            return lower
        after = followed[h]
        return (after[w] + len(after) * lower) / (after.total() + len(after))

    text, N = [*train, *valid], len(train)
    return [
        -sum(math.log(p(text[i], tuple(text[max(0, i - order + 1) : i]))) for i in range(N, len(text))) / len(valid)
        for order in range(1, max_order + 1)
    ]


def ids_of(letters: str) -> np.ndarray:
    return np.array(["abcd".index(letter) for letter in letters])


def mean_nats(*probabilities: Fraction) -> float:
    return -sum(math.log(p) for p in probabilities) / len(probabilities)


@st.composite
def texts(draw):
    """(train, valid, V): few distinct ids, so that contexts come again, of a small or a large vocabulary."""
    V = draw(st.sampled_from([1, 2, 3, 5, 2**22, 5_000_000]))
    symbols = draw(st.lists(st.integers(0, V - 1), min_size=1, max_size=4))
    ids = st.lists(st.sampled_from(symbols), min_size=1, max_size=60)
    return draw(ids), draw(ids), V


def test_probabilities_by_hand():
    # a and b came 2 times of 5, c once, d never: P(w) = (c(w) + 3/4) / (5 + 3)
    a, b, d = Fraction(11, 32), Fraction(11, 32), Fraction(3, 32)
    # order 2: c was followed by nothing; a twice by b; b by a and c; d is new
    a_after_c = a
    b_after_a = (2 + 1 * b) / (2 + 1)
    d_after_b = (0 + 2 * d) / (2 + 2)
    b_after_d = b
    # order 3: bc, ca and bd were never followed; ab was, by a and c
    d_after_ab = (0 + 2 * d_after_b) / (2 + 2)
    assert witten_bell(ids_of("ababc"), ids_of("abdb"), 4, 3) == pytest.approx(
        [
            mean_nats(a, b, d, b),
            mean_nats(a_after_c, b_after_a, d_after_b, b_after_d),
            mean_nats(a_after_c, b_after_a, d_after_ab, b_after_d),
        ],
        rel=1e-14,
    )


def test_the_first_validation_tokens_follow_the_training_text():
    # P(b) = (1 + 2/2) / (3 + 2); after a came b, once: (1 + P(b)) / (1 + 1); nothing ever came after ba
    nats = witten_bell(ids_of("aba"), ids_of("b"), 2, 5)
    assert nats == pytest.approx([mean_nats(Fraction(2, 5))] + [mean_nats(Fraction(7, 10))] * 4, rel=1e-14)


def test_what_follows_the_last_training_token_is_not_counted_with_the_training_text():
    # the a at the end is one of the 2 that P(a) counts, and no context: nothing came after it in the training text
    nats = witten_bell(ids_of("ba"), ids_of("ab"), 2, 2)
    assert nats == pytest.approx([mean_nats(Fraction(1, 2), Fraction(1, 2))] * 2, rel=1e-14)


@given(text=texts(), max_order=st.integers(1, 9))
@example(text=([0], [0], 1), max_order=9)  # orders longer than both texts together
@settings(deadline=None)
def test_agrees_with_dictionaries(text, max_order):
    train, valid, V = text
    expected = slow_witten_bell(train, valid, V, max_order)
    assert witten_bell(np.array(train), np.array(valid), V, max_order) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(train=st.lists(st.integers(0, 3), min_size=1, max_size=60), more=st.integers(0, 3))
@settings(deadline=None)
def test_probabilities_sum_to_one_over_the_vocabulary(train, more):
    V = 4 + more
    nats = np.array([witten_bell(np.array(train), np.array([w]), V, 5) for w in range(V)])
    np.testing.assert_allclose(np.exp(-nats).sum(axis=0), 1, rtol=1e-12)


def test_long_contexts_of_a_large_vocabulary_stay_apart():
    # 2**22 to the power of 3 is beyond 64 bits: packed whole, contexts that differ in their oldest token are the same
    V = 2**22
    rng = np.random.default_rng(0)
    train, valid = rng.choice([0, 2**16, V - 1], 3000).tolist(), rng.choice([0, 2**16, V - 1], 500).tolist()
    expected = slow_witten_bell(train, valid, V, 8)
    assert witten_bell(np.array(train), np.array(valid), V, 8) == pytest.approx(expected, rel=1e-12)


def test_a_probability_too_small_for_a_float_is_finite_nats():
    # 1000 times a, then b: each order n divides by the 1000 - n + 1 that came after its context, and 1
    nats = witten_bell(np.zeros(1000, int), np.array([1]), 2, 300)
    expected = math.log(2) + np.cumsum(np.log(1002 - np.arange(1, 301)))
    assert expected[-1] > 1000
    np.testing.assert_allclose(nats, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_the_type_of_the_ids_does_not_matter(dtype):
    ids = np.random.default_rng(0).integers(0, 100, 500)
    expected = witten_bell(ids[:400], ids[400:], 100, 4)
    assert witten_bell(ids[:400].astype(dtype), ids[400:].astype(dtype), np.uint8(100), 4) == expected
    assert witten_bell(ids[:400].astype(dtype), ids[400:], 100, 4) == expected


def test_memory_goes_with_the_text_not_with_the_vocabulary():
    ids = np.random.default_rng(0).integers(0, 5_000_000, 20_000)
    tracemalloc.start()
    witten_bell(ids[:18_000], ids[18_000:], 5_000_000, 6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * len(ids)


def test_a_verse_agrees_with_dictionaries(verse):
    tokenizer = CharTokenizer.train(verse, unknown=True)
    ids = tokenizer.encode(verse[:900] + "¿" + verse[900:1200])
    train, valid = ids[:700], ids[700:]
    expected = slow_witten_bell(train.tolist(), valid.tolist(), tokenizer.vocab_size, 7)
    assert witten_bell(train, valid, tokenizer.vocab_size, 7) == pytest.approx(expected, rel=1e-12)


def figures(train_text: str, valid_text: str, unknown: bool) -> list[float]:
    tokenizer = CharTokenizer.train(train_text, unknown)
    return witten_bell(tokenizer.encode(train_text), tokenizer.encode(valid_text), tokenizer.vocab_size, 7)


def test_the_figures_of_tiny_shakespeare():
    text = corpus("tinyshakespeare.txt").read_text(encoding="utf-8")
    train_text, valid_text = text[:SHAKESPEARE_TRAINS_ON], text[SHAKESPEARE_TRAINS_ON:]
    expected = [3.347, 2.486, 2.049, 1.774, 1.669, 1.698, 1.779]
    assert [round(nats, 3) for nats in figures(train_text, valid_text, unknown=False)] == expected
    assert round(xz_nats([train_text], [valid_text]), 3) == 1.746


def test_the_figures_of_the_built_in_corpus():
    text = python_topics()
    if not hashlib.sha256(text.encode()).hexdigest().startswith("2a95af4ac93f5b71"):
        pytest.skip("the figures are of the text of Python 3.11.7, and this Python has another")
    cut_at = int(len(text) * 0.9)
    # 3.237 has been published for order 1: the last digit was off, dictionaries give 3.23754 too
    expected = [3.2375, 2.3182, 1.7116, 1.4041, 1.3201, 1.3392, 1.3866]
    assert [round(nats, 4) for nats in figures(text[:cut_at], text[cut_at:], unknown=True)] == expected


@pytest.mark.parametrize(
    ("train", "valid", "V", "max_order", "message"),
    [
        (np.array([], int), np.array([0]), 2, 6, r"train_ids must be at least 1 whole number in one row.*\(0,\)"),
        (np.array([0]), np.array([], int), 2, 6, r"valid_ids must be at least 1 whole number in one row.*\(0,\)"),
        (np.array([[0]]), np.array([0]), 2, 6, r"train_ids must be .* one row, not int64 \(1, 1\)"),
        (np.array([0]), np.array([0.5]), 2, 6, r"valid_ids must be .* whole number .*, not float64"),
        (np.array([0, 2]), np.array([0]), 2, 6, "train_ids must be from 0 to 1, not 0 to 2"),
        (np.array([0]), np.array([1, -1]), 2, 6, "valid_ids must be from 0 to 1, not -1 to 1"),
        (np.array([0]), np.array([0]), 0, 6, "train_ids must be from 0 to -1"),
        (np.array([0]), np.array([0]), 2, 0, "max_order must be a whole number 1 or more, not 0"),
    ],
)
def test_bad_arguments_are_refused(train, valid, V, max_order, message):
    with pytest.raises(InputError, match=message):
        witten_bell(train, valid, V, max_order)


def xz_size(text: str) -> int:
    return len(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))


def test_xz_nats_is_what_the_validation_text_adds_to_the_file(verse):
    train, valid = verse[:1000], "¿a heron? 狗" + verse[1000:1100] + "zyxwvutsrqponm"
    added = xz_size(train + valid) - xz_size(train)
    assert added > 0
    assert xz_nats([train], [valid]) == pytest.approx(added * 8 * math.log(2) / len(valid), rel=1e-14)


def test_xz_nats_does_not_depend_on_the_pieces(verse):
    train, valid = verse[:1000] + "狗" + verse[1000:2000], "the stone is a heron, ¿no? " + verse[50:300]
    whole = xz_nats([train], [valid])
    assert xz_nats(iter([train[:3], "", train[3:1500], train[1500:]]), iter([valid[:30], valid[30:]])) == whole
    assert xz_nats(train, valid) == whole  # a letter at a time


def test_xz_nats_uses_the_training_text(verse):
    valid = verse[2000:2500]
    assert xz_nats([verse[:2000]], [valid]) < 0.1 < 1 < xz_nats([], [valid])


def test_xz_nats_of_nothing_is_refused():
    with pytest.raises(InputError, match="the validation text is empty"):
        xz_nats(["some text"], ["", ""])
