"""Bits a character can be compared between tokenizers: computed by hand for models that find all symbols alike."""

from __future__ import annotations

import math

import pytest

from elman import LanguageModel, ModelConfig
from elman.text.tokenizers import train_tokenizer
from elman.text_model import TextModel

TEXT = "the cat and the dog and the cow"


def indifferent(kind, training, **options):
    """A model of this text's vocabulary that gives each of its V symbols the probability 1 / V."""
    tokenizer = train_tokenizer(kind, training, unknown=True, **options)
    model = LanguageModel(ModelConfig(tokenizer.vocab_size, hidden_size=2, num_layers=1), kernel="numpy")
    for array in model.parameters.values():
        array[...] = 0
    return TextModel(model, tokenizer)


def test_characters_and_words_of_one_text_are_charged_for_its_characters():
    chars, words = (indifferent(kind, TEXT).score(TEXT) for kind in ("char", "word"))
    # 12 letters and <unk>; 31 characters, the first of which is not scored
    assert (chars.characters, chars.tokens) == (30, 30)
    assert math.isclose(chars.bits_per_char, math.log2(len(set(TEXT)) + 1), rel_tol=1e-6)
    # the, cat, and, dog, cow, a space, <unk>; 8 words and 7 spaces, the first word not scored
    assert (words.characters, words.tokens) == (28, 14)
    assert math.isclose(words.bits_per_char, 14 * math.log2(7) / 28, rel_tol=1e-6)
    assert math.isclose(words.perplexity, 7, rel_tol=1e-6)


def test_an_unknown_word_costs_its_spelling_and_its_end():
    score = indifferent("word", TEXT).score("the naïve cat")
    # space, <unk>, space, cat; "naïve" has 6 bytes in UTF-8
    assert (score.tokens, score.unknown_tokens, score.characters, score.bytes) == (4, 1, 10, 11)
    assert math.isclose(score.nats_per_token, math.log(7), rel_tol=1e-6)
    assert math.isclose(score.bits_per_char, (4 * math.log2(7) + 8 * (6 + 1)) / 10, rel_tol=1e-6)
    assert math.isclose(score.bits_per_byte, (4 * math.log2(7) + 8 * (6 + 1)) / 11, rel_tol=1e-6)


def test_an_unknown_character_costs_its_spelling_too():
    score = indifferent("char", TEXT).score("the 狗")
    bits = 4 * math.log2(len(set(TEXT)) + 1) + 8 * (3 + 1)
    assert score.unknown_tokens == 1 and math.isclose(score.bits_per_char, bits / 4, rel_tol=1e-6)


def test_what_is_not_scored_or_left_out_costs_nothing():
    first = indifferent("word", TEXT).score("naïve the cat")
    assert (first.unknown_tokens, first.spelling, first.characters) == (0, 0.0, 8)
    skipped = indifferent("char", TEXT).score("the 狗", on_unknown="skip")
    assert (skipped.unknown_tokens, skipped.spelling, skipped.characters) == (0, 0.0, 3)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_smaller_vocabulary_does_not_make_a_text_look_more_predictable(kind):
    whole, small = indifferent(kind, TEXT).score(TEXT), indifferent(kind, TEXT, max_vocab=4).score(TEXT)
    assert small.unknown_tokens > 0 and small.perplexity < whole.perplexity
    assert small.bits_per_char > whole.bits_per_char


def test_generated_words_are_set_apart_from_the_prompt_where_blanks_are_no_tokens():
    model = indifferent("word", TEXT, word_splitter="whitespace")
    text = model.generate("the cat", length=3, seed=1)
    assert text.startswith(" ") and all(word in TEXT.split() for word in text.split())
    assert not model.generate("", length=3, seed=1).startswith(" ")
