"""From logits and uniforms to ids: each rule by hand, and the frequencies of many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from elman import LanguageModel, ModelConfig, SampleConfig
from elman.errors import InputError, NonFiniteError
from elman.sampling import sample

P = np.array([0.15, 0.5, 0.05, 0.3])  # the likeliest are ids 1, 3, 0, 2
LOGITS = np.log(P)
BELOW_1 = math.nextafter(1, 0)


def draw(logits, uniforms, **options):
    uniforms = np.asarray(uniforms, float)
    return sample(np.broadcast_to(logits, (len(uniforms), len(logits))), uniforms, **options).tolist()


def drawn(logits, **options):
    return set(draw(logits, [*np.linspace(0, 1, 1000, endpoint=False), BELOW_1], **options))


def test_temperature_0_is_greedy_and_takes_the_lowest_of_equal_ids():
    logits = np.array([[0.0, 2, 1], [5, 5, 5], [-1, -3, -1], [-np.inf, -np.inf, -7]])
    for uniform in (0.0, 0.5, BELOW_1):
        assert sample(logits, np.full(4, uniform), temperature=0).tolist() == [1, 0, 0, 2]
        assert sample(logits, np.full(4, uniform), temperature=0, top_k=2, top_p=0.9).tolist() == [1, 0, 0, 2]


def test_top_k_1_equals_greedy():
    rng = np.random.default_rng(0)
    logits = rng.integers(-3, 3, (500, 6)).astype(np.float32)  # many ties
    greedy = sample(logits, rng.random(500), temperature=0)
    for temperature in (0.1, 1.0, 50.0):
        assert np.array_equal(sample(logits, rng.random(500), temperature, top_k=1), greedy)


def test_a_draw_inverts_the_cumulative_distribution():
    # 0 up to 0.15, 1 up to 0.65, 2 up to 0.7, 3 up to 1
    assert draw(LOGITS, [0, 0.14, 0.16, 0.64, 0.66, 0.69, 0.71, BELOW_1]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert draw(LOGITS + 1000, [0.14, 0.16]) == [0, 1]  # a constant changes nothing
    assert draw(np.zeros(4), [0, 0.25, 0.5, 0.75, BELOW_1]) == [0, 1, 2, 3, 3]
    impossible = np.array([-np.inf, 0, -np.inf, 0, -np.inf])
    assert draw(impossible, [0, 0.49, 0.5, BELOW_1]) == [1, 1, 3, 3]


def test_without_limits_ids_are_numpys_choices():
    p = np.random.default_rng(1).dirichlet(np.ones(20))
    uniforms = np.random.default_rng(2).random(500)
    choices = np.random.default_rng(2).choice(20, 500, p=p)
    assert np.array_equal(draw(np.log(p), uniforms), choices)


def test_temperature_divides_the_logits():
    logits = np.log([1.0, 9.0])
    assert draw(logits, [0.09, 0.11]) == [0, 1]  # 1 : 9
    assert draw(logits, [0.24, 0.26], temperature=2.0) == [0, 1]  # 1 : 3
    assert draw(logits, [0.012, 0.013], temperature=0.5) == [0, 1]  # 1 : 81
    assert draw(logits, [0.49, 0.51], temperature=1e6) == [0, 1]  # almost 1 : 1


def test_top_k_keeps_the_k_likeliest_in_proportion():
    assert [drawn(LOGITS, top_k=k) for k in (1, 2, 3)] == [{1}, {1, 3}, {0, 1, 3}]
    assert [drawn(LOGITS, top_k=k) for k in (0, 4, 9)] == [{0, 1, 2, 3}] * 3
    assert draw(LOGITS, [0.62, 0.63], top_k=2) == [1, 3]  # 0.5 : 0.3 is 0.625 : 0.375
    assert drawn(np.zeros(4), top_k=2) == {0, 1}


def test_top_p_keeps_the_fewest_likeliest_that_reach_p_in_proportion():
    kept = {1e-9: {1}, 0.49: {1}, 0.51: {1, 3}, 0.79: {1, 3}, 0.81: {0, 1, 3}, 0.94: {0, 1, 3}, 0.96: {0, 1, 2, 3}}
    assert {p: drawn(LOGITS, top_p=p) for p in kept} == kept
    assert drawn(LOGITS, top_p=1.0) == {0, 1, 2, 3}
    assert [drawn(np.zeros(4), top_p=p) for p in (0.25, 0.5, 0.75)] == [{0}, {0, 1}, {0, 1, 2}]  # reached exactly
    assert draw(LOGITS, [0.62, 0.63], top_p=0.7) == [1, 3]


def test_top_p_counts_what_temperature_and_top_k_left():
    assert drawn(LOGITS, top_k=2, top_p=0.6) == {1}  # of 0.625 and 0.375
    assert drawn(LOGITS, top_k=2, top_p=0.64) == {1, 3}
    assert drawn(np.log([1.0, 9.0]), temperature=2.0, top_p=0.8) == {0, 1}  # of 0.25 and 0.75
    assert drawn(np.log([1.0, 9.0]), temperature=0.5, top_p=0.98) == {1}  # of 1/82 and 81/82


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.5, 5, 0.8)])
def test_frequencies_of_20000_draws_are_those_of_the_softmax(temperature, top_k, top_p):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal(8).astype(np.float32) * 2
    p = np.exp(logits.astype(float) / temperature)
    order = np.argsort(-p)
    if top_k:
        p[order[top_k:]] = 0
    p /= p.sum()
    if top_p < 1:
        p[order[np.searchsorted(np.cumsum(p[order]), top_p) + 1 :]] = 0
        p /= p.sum()
        assert 1 < np.count_nonzero(p) < 5
    n = 20_000
    counts = np.bincount(draw(logits, rng.random(n), temperature=temperature, top_k=top_k, top_p=top_p), minlength=8)
    assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p))).all()  # so what has no probability is never drawn


def test_what_has_no_probability_is_never_drawn():
    for logits in ([0.0, -5000.0, -np.inf], [-np.inf, -np.inf, 3.0]):
        best = int(np.argmax(logits))
        assert draw(np.array(logits), [0, 0.5, BELOW_1]) == [best] * 3
        assert draw(np.array(logits, np.float32), [0, 0.5, BELOW_1], top_k=2, top_p=0.99) == [best] * 3


@pytest.mark.parametrize("uniform", [0.0, BELOW_1])
def test_the_ends_of_the_uniforms_give_the_first_and_the_last_of_many_ids(uniform):
    rng = np.random.default_rng(2)
    for size in (1, 2, 3, 65, 3000):
        for dtype in (np.float32, np.float64):
            logits = rng.standard_normal((20, size)).astype(dtype)
            wanted = 0 if uniform == 0 else size - 1
            assert np.array_equal(sample(logits, np.full(20, uniform)), np.full(20, wanted))


def test_each_row_has_its_own_logits_and_uniform():
    logits = np.stack([LOGITS, LOGITS[::-1], LOGITS])
    ids = sample(logits, np.array([0.6, 0.6, 0.1]))
    assert ids.tolist() == [1, 2, 0]
    assert np.issubdtype(ids.dtype, np.integer)


def test_the_same_uniforms_give_the_same_ids_and_the_logits_stay():
    rng = np.random.default_rng(3)
    logits, uniforms = rng.standard_normal((50, 9)).astype(np.float32), rng.random(50)
    before = logits.tobytes()
    runs = [sample(logits, uniforms, 0.8, 5, 0.95).tolist() for _ in "12"]
    assert runs[0] == runs[1]
    assert logits.tobytes() == before


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6])
def test_a_tiny_temperature_takes_the_likeliest_without_overflow(temperature):
    logits = np.random.default_rng(4).standard_normal((50, 9)) * 100
    for dtype in (np.float32, np.float64):
        ids = sample(logits.astype(dtype), np.full(50, BELOW_1), temperature)
        assert np.array_equal(ids, logits.argmax(axis=1))
    assert draw(np.zeros(4), [0.3], temperature=temperature) == [1]  # equal ids stay equal


def test_the_tiniest_temperature_takes_the_likeliest_without_a_warning():
    for temperature, size in ((5e-324, 1.0), (1e-308, 10.0), (1e-300, 1e10)):
        assert draw(np.array([0, size, -size]), [BELOW_1], temperature=temperature) == [1]


def test_a_huge_temperature_draws_all_alike():
    assert draw(LOGITS, [0.24, 0.26, 0.51, 0.76], temperature=1e300) == [0, 1, 2, 3]


# Generating


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {}, {"temperature": 1.3, "top_k": 3}, {"top_p": 0.6}])
def test_generate_feeds_each_drawn_id_back_with_one_uniform_an_id(options):
    lm, prompt = LanguageModel(ModelConfig(6, "lstm", 5, 2), seed=1), np.array([3, 1, 4])
    config = SampleConfig(length=20, seed=9, **options)
    uniforms = np.random.default_rng(9).random(20)
    logits, state = lm.forward(prompt[:, np.newaxis])
    logits, by_hand = logits[-1], []
    for uniform in uniforms:
        ids = sample(logits, np.array([uniform]), config.temperature, config.top_k, config.top_p)
        by_hand.append(int(ids[0]))
        logits, state = lm.step(ids, state)
    assert list(lm.generate(prompt, config)) == by_hand
    assert list(lm.generate(prompt, config, rng=np.random.default_rng(9))) == by_hand
    shorter = SampleConfig(length=7, seed=9, **options)
    assert list(lm.generate(prompt, shorter)) == by_hand[:7]
    _, state = lm.forward(prompt[:2, np.newaxis])
    assert list(lm.generate(prompt[2:], config, state)) == by_hand  # the rest of the prompt after its state


def test_generate_refuses_an_empty_prompt_before_the_first_id_is_asked_for():
    lm = LanguageModel(ModelConfig(6, "gru", 5))
    for prompt in (np.zeros(0, int), np.zeros((1, 1), int), np.int64(3)):
        with pytest.raises(InputError, match="a prompt is one row of at least 1 token"):
            lm.generate(prompt, SampleConfig())
    assert list(lm.generate(np.array([1]), SampleConfig(length=0))) == []
    with pytest.raises(InputError, match="ids must be from 0 to 5, not 6 to 6"):
        list(lm.generate(np.array([6]), SampleConfig(length=1)))


def test_logits_that_are_not_numbers_and_a_temperature_below_0_are_refused():
    with pytest.raises(NonFiniteError, match="broken"):
        sample(np.array([[np.nan, 5.0]]), np.array([0.5]))
    with pytest.raises(InputError, match="temperature"):
        sample(np.array([[1.0, 5.0]]), np.array([0.5]), temperature=-0.5)
