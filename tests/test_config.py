"""Settings: defaults, every refusal by name, TOML, and how presets, files and options become one."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.config import TABLES, ModelConfig, SampleConfig, TrainConfig, field_names, read_toml, to_toml
from elman.errors import InputError
from elman.presets import DEFAULT_PRESET, PRESETS, resolve
from elman.schedules import learning_rate

NOT_NUMBERS = [True, False, "3", [3], {}, math.nan, math.inf, -math.inf]
NOT_WHOLE = [*NOT_NUMBERS, 1.0, 2.5]
COUNT = [*NOT_WHOLE, None, 0, -1]
OPTIONAL_COUNT = [*NOT_WHOLE, 0, -1]
NATURAL = [*NOT_WHOLE, None, -1]
OPTIONAL_NATURAL = [*NOT_WHOLE, -1]
POSITIVE = [*NOT_NUMBERS, None, 0, 0.0, -1e-9]
OPTIONAL_POSITIVE = [*NOT_NUMBERS, 0, 0.0, -1e-9]
NOT_NEGATIVE = [*NOT_NUMBERS, None, -1e-9]
OPTIONAL_NOT_NEGATIVE = [*NOT_NUMBERS, -1e-9]
BELOW_ONE = [*NOT_NUMBERS, None, -0.1, 1, 1.0, 1.5]
CHOICE = ["", "nonsense", None, 3, True, ["lstm"]]
TRUTH = [None, 0, 1, "true", 0.5]
OPTIONAL_TEXT = [3, True, b"utf-8"]

BAD = {
    ModelConfig: {
        "vocab_size": COUNT,
        "cell": [*CHOICE, "LSTM", "RNN"],
        "hidden_size": COUNT,
        "num_layers": COUNT,
        "embedding_size": OPTIONAL_COUNT,
        "dropout": BELOW_ONE,
        "tie_weights": TRUTH,
        "dtype": [*CHOICE, "float16", float],
        "initialization": [*CHOICE, "normal"],
        "variational_dropout": TRUTH,
        "embedding_dropout": BELOW_ONE,
    },
    TrainConfig: {
        "tokenizer": [None, 3, True, ["lstm"]],  # its names are checked where one is made: it may be a file's
        "word_splitter": [*CHOICE, "Unicode"],
        "max_vocab": OPTIONAL_COUNT,
        "min_count": COUNT,
        "items": [choice for choice in CHOICE if choice is not None],
        "encoding": OPTIONAL_TEXT,
        "encoding_errors": [*CHOICE, "ignore"],
        "valid_fraction": BELOW_ONE,
        "batch_size": COUNT,
        "seq_length": COUNT,
        "tail": CHOICE,
        "optimizer": [*CHOICE, "Adam"],
        "learning_rate": POSITIVE,
        "weight_decay": OPTIONAL_NOT_NEGATIVE,
        "schedule": CHOICE,
        "warmup_steps": NATURAL,
        "clip_norm": OPTIONAL_POSITIVE,
        "clip_value": OPTIONAL_POSITIVE,
        "reduction": CHOICE,
        "activation_regularization": NOT_NEGATIVE,
        "steps": OPTIONAL_COUNT,
        "epochs": OPTIONAL_COUNT,
        "minutes": OPTIONAL_POSITIVE,
        "patience": OPTIONAL_COUNT,
        "eval_every": OPTIONAL_NATURAL,
        "eval_tokens": COUNT,
        "sample_every": OPTIONAL_NATURAL,
        "sample_length": COUNT,
        "checkpoint_every": OPTIONAL_NATURAL,
        "keep": COUNT,
        "on_nan": [*CHOICE, "rolback"],
        "log_every": COUNT,
        "seed": NATURAL,
        "precision": [*CHOICE, "bf61"],
    },
    SampleConfig: {
        "length": NATURAL,
        "temperature": [*NOT_NUMBERS, None, -0.1],
        "top_k": NATURAL,
        "top_p": [*NOT_NUMBERS, None, 0, 0.0, -0.5, 1.0001, 2],
        "seed": NATURAL,
    },
}
GOOD = {
    ModelConfig: {
        "vocab_size": [1, 10**6],
        "cell": ["rnn", "rnn-relu", "gru", "lstm"],
        "hidden_size": [1],
        "num_layers": [1, 5],
        "embedding_size": [None, 1],
        "dropout": [0, 0.0, 0.999],
        "variational_dropout": [True, False],
        "embedding_dropout": [0, 0.0],
        "dtype": ["float32", "float64"],
        "initialization": ["uniform", "normal-0.01", "uniform-0.1"],
    },
    TrainConfig: {
        "tokenizer": ["char", "byte", "word", "bpe", "own/tokenizer.json"],
        "word_splitter": ["unicode", "whitespace"],
        "max_vocab": [None, 1, 50_000],
        "min_count": [1, 3],
        "items": [None, "lines"],
        "encoding": [None, "gb18030"],
        "encoding_errors": ["strict", "replace"],
        "valid_fraction": [0, 0.5, 0.99],
        "learning_rate": [1, 1e-300],
        "warmup_steps": [0, 5],
        "clip_norm": [None, 1, 1e-9],
        "activation_regularization": [0, 0.0, 2.5],
        "steps": [None, 1],
        "minutes": [None, 0.01, 5],
        "eval_every": [None, 0, 1],
        "seed": [0, 2**64],
        "precision": ["float32", "bf16", "auto"],
    },
    SampleConfig: {"length": [0, 1], "temperature": [0, 0.0, 1e-9, 5], "top_k": [0, 9], "top_p": [1, 1.0, 1e-9]},
}


def make(kind: type, **values):
    return kind(**{"vocab_size": 5, **values} if kind is ModelConfig else values)


def cases(table):
    return [
        pytest.param(kind, field, value, id=f"{kind.__name__}-{field}-{number}")
        for kind, fields in table.items()
        for field, values in fields.items()
        for number, value in enumerate(values)
    ]


def refusal(function, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_table_of_refusals_covers_every_field():
    assert {kind: list(fields) for kind, fields in BAD.items()} == {kind: field_names(kind) for kind in TABLES.values()}


@pytest.mark.parametrize(("kind", "field", "value"), cases(BAD))
def test_a_wrong_type_or_value_is_refused_with_the_name_of_the_field(kind, field, value):
    message = refusal(make, kind, **{field: value})
    assert message.startswith(f"{field} must be ") and (repr(value) in message or message.endswith("not nan"))


@pytest.mark.parametrize(("kind", "field", "value"), cases(GOOD))
def test_values_at_the_edge_are_taken(kind, field, value):
    assert getattr(make(kind, **{field: value}), field) == value


@pytest.mark.parametrize("kind", TABLES.values())
@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["above", "below"])
def test_a_number_too_large_for_a_float_is_taken_or_refused_by_name(kind, value):
    for field, bad in BAD[kind].items():
        if -1 in bad or -0.1 in bad or -0.5 in bad or -1e-9 in bad:
            try:
                make(kind, **{field: value})
            except InputError as error:
                assert str(error).startswith(f"{field} must be ")


def test_defaults_are_those_of_the_contract():
    assert dataclasses.asdict(ModelConfig(65)) == {
        "vocab_size": 65,
        "cell": "lstm",
        "hidden_size": 128,
        "num_layers": 2,
        "embedding_size": None,
        "dropout": 0.0,
        "tie_weights": False,
        "dtype": "float32",
        "initialization": "uniform",
        "variational_dropout": False,
        "embedding_dropout": 0.0,
    }
    assert dataclasses.asdict(SampleConfig()) == {
        "length": 300,
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "seed": 0,
    }
    train = TrainConfig()
    assert (train.tokenizer, train.encoding, train.valid_fraction, train.eval_tokens) == ("char", None, 0.1, 200_000)
    assert (train.tail, train.reduction, train.schedule) == ("keep", "mean", "constant")
    assert train.steps is train.epochs is train.minutes is train.clip_norm is train.clip_value is None


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(5).hidden_size = 7


def test_a_choice_that_is_nearly_right_is_corrected():
    assert refusal(ModelConfig, 5, cell="lsmt").endswith("not 'lsmt'. Did you mean lstm?")


def test_a_range_is_said_in_words_that_can_be_read_aloud():
    assert "above 0" in refusal(SampleConfig, top_p=0.0) and "e-324" not in refusal(SampleConfig, top_p=0.0)
    assert refusal(TrainConfig, learning_rate=0) == "learning_rate must be a number above 0, not 0"
    assert refusal(ModelConfig, 5, dropout=1.0) == "dropout must be a number from 0 to below 1, not 1.0"
    assert refusal(ModelConfig, 5, hidden_size=0) == "hidden_size must be a whole number 1 or more, not 0"


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 1, "epochs": 1},
        {"steps": 1, "minutes": 1},
        {"epochs": 1, "minutes": 1},
        {"clip_norm": 1.0, "clip_value": 1.0},
    ],
)
def test_options_that_exclude_each_other_are_both_named(options):
    first, second = options
    assert refusal(TrainConfig, **options).startswith(f"{first} and {second} exclude each other")


@pytest.mark.parametrize("embedding_size", [None, 64])
def test_tied_weights_need_an_embedding_as_large_as_the_hidden_state(embedding_size):
    message = refusal(ModelConfig, 5, hidden_size=128, embedding_size=embedding_size, tie_weights=True)
    assert message == f"tie_weights needs embedding_size equal to hidden_size (128), not {embedding_size}"
    assert ModelConfig(5, hidden_size=128, embedding_size=128, tie_weights=True).tie_weights


# TOML


def toml(tmp_path, content: str | bytes):
    path = tmp_path / "elman.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("model", "train", "sample"),
    [
        (ModelConfig(5), TrainConfig(), SampleConfig()),
        (
            ModelConfig(9, "gru", 7, 3, 7, 0.25, True, "float64", "normal-0.01"),
            TrainConfig(encoding='x"\\\n狗', learning_rate=1e-5, clip_value=5.0, minutes=0.5, eval_every=0, seed=2**40),
            SampleConfig(0, 1e-3, 5, 0.5, 3),
        ),
    ],
)
def test_settings_written_as_toml_read_back_equal(tmp_path, model, train, sample):
    tables = {name: dataclasses.asdict(config) for name, config in zip(TABLES, (model, train, sample), strict=True)}
    read = read_toml(toml(tmp_path, to_toml(**tables)))
    assert (ModelConfig(**read["model"]), TrainConfig(**read["train"]), SampleConfig(**read["sample"])) == (
        model,
        train,
        sample,
    )
    assert not any(value is None for table in read.values() for value in table.values())


@given(learning_rate=st.floats(1e-300, 1e300), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=50, deadline=None)
def test_numbers_survive_toml_exactly(tmp_path_factory, learning_rate, seed):
    path = tmp_path_factory.getbasetemp() / "numbers.toml"
    path.write_text(to_toml(train={"learning_rate": learning_rate, "seed": seed}))
    assert read_toml(path)["train"] == {"learning_rate": learning_rate, "seed": seed}


def test_tables_that_are_absent_are_empty(tmp_path):
    assert read_toml(toml(tmp_path, "")) == {"model": {}, "train": {}, "sample": {}}
    assert read_toml(toml(tmp_path, "[train]\nsteps = 3"))["train"] == {"steps": 3}


def test_an_unknown_key_is_refused_with_the_nearest_right_one(tmp_path):
    message = refusal(read_toml, toml(tmp_path, "[model]\nhiden_size = 3"))
    assert "[model]" in message and "'hiden_size'" in message and "Did you mean hidden_size?" in message
    message = refusal(read_toml, toml(tmp_path, "[sample]\nxqz = 3"))
    assert "'xqz'" in message and "The keys are length, temperature, top_k, top_p, seed." in message
    assert "'cell'" in refusal(read_toml, toml(tmp_path, '[train]\ncell = "lstm"'))


@pytest.mark.parametrize("content", ["[modle]\ncell = 'lstm'", "steps = 3", "model = 3", "[[train]]\nsteps = 3"])
def test_an_unknown_table_or_a_stray_entry_is_refused(tmp_path, content):
    message = refusal(read_toml, toml(tmp_path, content))
    assert (
        "elman.toml" in message and "is not one of the tables" in message and "[model], [train] and [sample]" in message
    )


@pytest.mark.parametrize(
    "content",
    [
        "[model",
        "cell = lstm",
        "a = 1\na = 2",
        b"[model]\ncell = '\xff'",
        "\0",
        pytest.param("[train]\nsteps = 1" + "0" * 5000, id="huge"),
        pytest.param("a = " + "[" * 100_000, id="deep"),
    ],
)
def test_what_is_not_toml_is_refused(tmp_path, content):
    assert "elman.toml is not a TOML file" in refusal(read_toml, toml(tmp_path, content))


def test_a_configuration_file_that_cannot_be_read_is_refused(tmp_path):
    assert "nothere.toml: No such file" in refusal(read_toml, tmp_path / "nothere.toml")
    assert "directory" in refusal(read_toml, tmp_path)


# presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_resolves_and_its_values_are_those_it_states(name):
    recipe = resolve(name)
    for key, value in PRESETS[name].model.items():
        assert recipe.model[key] == value
    for key, value in PRESETS[name].train.items():
        assert getattr(recipe.train, key) == value
    assert PRESETS[name].summary and DEFAULT_PRESET in PRESETS


def fitted(tokens, **options):
    recipe = resolve("char-lstm", None, options, tokens)
    return recipe.model["num_layers"], recipe.model["dropout"], recipe.train.minutes


def test_the_default_preset_fits_itself_to_the_text_and_the_minutes():
    assert fitted(1_000_000, minutes=0.17)[0] == 1
    assert fitted(1_000_000, minutes=0.5)[0] == fitted(1_000_000, minutes=30)[0] == 2
    assert resolve("char-lstm", None, {"minutes": 3}, 10**6).model["hidden_size"] == 256
    assert resolve("char-lstm", None, {"minutes": 30}, 10**6).model["hidden_size"] == 384
    assert resolve("char-lstm", None, {"minutes": 30, "hidden_size": 99}, 10**6).model["hidden_size"] == 99
    often, once = (resolve("char-lstm", None, {"minutes": 3}, tokens) for tokens in (100_000, 15_000_000))
    assert often.model["embedding_dropout"] == 0.05 and once.model["embedding_dropout"] < 0.002
    assert often.train.weight_decay == 0.1 and once.train.weight_decay < 0.052
    by_minutes = [fitted(1_000_000, minutes=minutes)[1] for minutes in (0.1, 1, 3, 30, 1000)]
    assert by_minutes == sorted(by_minutes) and by_minutes[0] < 0.05 < by_minutes[1] < by_minutes[3] <= 0.6
    by_size = [fitted(tokens, minutes=3)[1] for tokens in (2, 10_000, 10**6, 10**9)]
    assert by_size == sorted(by_size, reverse=True) and by_size[0] == 0.6 and by_size[-1] == 0


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.fit])
def test_a_preset_that_fits_itself_drops_more_the_more_often_a_text_is_read(name):
    def dropped(tokens, minutes):
        return resolve(name, None, {"minutes": minutes}, tokens).model["dropout"]

    by_minutes = [dropped(500_000, minutes) for minutes in (1e-3, 0.1, 1, 3, 10, 30, 1e6)]
    by_size = [dropped(tokens, 3) for tokens in (1, 10**4, 10**5, 10**6, 10**7, 10**8, 10**12)]
    assert by_minutes == sorted(by_minutes) and by_size == sorted(by_size, reverse=True)
    assert by_minutes[0] < by_minutes[3] < by_minutes[5] <= 0.6 and by_size[0] > 0.3 and by_size[-1] == 0


def test_a_preset_for_words_or_names_reads_its_texts_as_such():
    names, words = resolve("names").train, resolve("word-lstm").train
    assert (names.items, names.tokenizer, names.minutes, PRESETS["names"].corpus) == ("lines", "char", 1, "names")
    assert (words.items, words.tokenizer, words.max_vocab) == (None, "word", 10_000)


def test_a_hidden_size_takes_a_tied_embedding_with_it():
    model = resolve("word-lstm", {"model": {"hidden_size": 50}}).model
    assert (model["hidden_size"], model["embedding_size"], model["tie_weights"]) == (50, 50, True)
    assert resolve("char-lstm", None, {"hidden_size": 50}).model["embedding_size"] == 64
    options = {"hidden_size": 50, "embedding_size": 60}
    assert "tie_weights needs embedding_size equal to hidden_size (50), not 60" in refusal(
        resolve, "word-lstm", None, options
    )


def test_rows_of_an_embedding_that_is_taken_away_are_not_dropped():
    assert resolve("names").model["embedding_dropout"] > 0
    assert "embedding_dropout" not in resolve("names", None, {"embedding_size": None}).model
    assert "needs an embedding" in refusal(resolve, "names", None, {"embedding_size": None, "embedding_dropout": 0.1})


def test_weight_decay_is_of_adamw_alone():
    assert TrainConfig(optimizer="adamw", weight_decay=0.0).weight_decay == 0
    assert "weight_decay is of the optimizer adamw, not of adam" in refusal(TrainConfig, weight_decay=0.1)
    train = resolve("char-lstm", None, {"optimizer": "sgd"}).train
    assert (train.optimizer, train.weight_decay) == ("sgd", None)
    assert resolve("char-lstm", {"train": {"optimizer": "adamw"}}).train.weight_decay > 0
    assert "not of rmsprop" in refusal(resolve, "char-lstm", None, {"optimizer": "rmsprop", "weight_decay": 0.1})


def test_options_and_files_are_laid_over_what_a_preset_fits():
    assert fitted(1_000_000) == fitted(1_000_000, minutes=3)
    assert fitted(1_000_000, steps=5)[:2] == fitted(1_000_000, minutes=3)[:2]
    assert fitted(1_000_000, minutes=30, dropout=0.05, num_layers=4)[:2] == (4, 0.05)
    recipe = resolve("char-lstm", {"model": {"num_layers": 3}, "train": {"minutes": 0.1}}, None, 1_000_000)
    assert recipe.model["num_layers"] == 3 and recipe.model["dropout"] == fitted(1_000_000, minutes=0.1)[1]
    assert "precision" not in recipe.model and recipe.train.precision == "auto"


@pytest.mark.parametrize(("name", "window"), [("min-char-rnn", 25), ("hello", 4)])
def test_the_tutorials_presets_have_their_values(name, window):
    recipe = resolve(name)
    model = ModelConfig(5, **recipe.model)
    assert (model.cell, model.hidden_size, model.num_layers, model.embedding_size) == ("rnn", 100, 1, None)
    assert (model.initialization, model.dropout, model.dtype) == ("normal-0.01", 0.0, "float32")
    train = recipe.train
    assert (train.batch_size, train.seq_length, train.reduction, train.valid_fraction) == (1, window, "sum", 0.0)
    assert (train.optimizer, train.learning_rate, train.schedule, train.warmup_steps) == ("adagrad", 0.1, "constant", 0)
    assert (train.clip_value, train.clip_norm, train.tokenizer) == (5.0, None, "char")


def test_zaremba_small_has_the_papers_values():
    recipe = resolve("zaremba-small")
    model = ModelConfig(10_000, **recipe.model)
    assert (model.cell, model.num_layers, model.hidden_size, model.embedding_size) == ("lstm", 2, 200, 200)
    assert (model.initialization, model.dropout, model.tie_weights) == ("uniform-0.1", 0.0, False)
    train = recipe.train
    assert (train.batch_size, train.seq_length, train.epochs, train.optimizer) == (20, 20, 13, "sgd")
    # Its loss is a sum over the steps of a window and a mean over the streams: 20 times the mean.
    assert (train.reduction, train.learning_rate / train.seq_length, train.clip_norm * train.seq_length) == (
        "mean",
        1,
        5,
    )
    epochs = [learning_rate(train.schedule, 1.0, (epoch + 0.5) / 13) for epoch in range(13)]
    assert epochs == [1, 1, 1, 1, *(0.5**halved for halved in range(1, 10))]
    firsts = [learning_rate(train.schedule, 1.0, 77 * epoch / (77 * 13)) for epoch in range(13)]
    assert firsts == epochs
    assert (train.tokenizer, train.word_splitter, train.max_vocab) == ("word", "whitespace", 10_000)


def test_only_min_char_rnn_wraps_as_tutorial_3_does_and_only_hello_brings_its_text():
    assert resolve("min-char-rnn").train.tail == "drop" and resolve("hello").train.tail == "keep"
    assert PRESETS["hello"].corpus == "hello" and PRESETS["min-char-rnn"].corpus is None


def test_a_file_is_laid_over_the_preset_and_options_over_both():
    tables = {"model": {"hidden_size": 7, "num_layers": 3}, "train": {"batch_size": 5, "seed": 1}, "sample": {}}
    recipe = resolve("min-char-rnn", tables, {"hidden_size": 9, "seed": 2})
    assert recipe.model == {"cell": "rnn", "hidden_size": 9, "num_layers": 3, "initialization": "normal-0.01"}
    assert (recipe.train.batch_size, recipe.train.seed, recipe.train.seq_length) == (5, 2, 25)


@pytest.mark.parametrize("layer", ["file", "options"])
@pytest.mark.parametrize("stop", [{"epochs": 2}, {"minutes": 1.5}, {"steps": 7}])
def test_a_later_stop_replaces_an_earlier_one(layer, stop):
    train = (resolve("hello", {"train": stop}) if layer == "file" else resolve("hello", None, stop)).train
    expected = {"steps": None, "epochs": None, "minutes": None} | stop
    assert {name: getattr(train, name) for name in expected} == expected


def test_a_later_clip_replaces_an_earlier_one():
    train = resolve("min-char-rnn", {"train": {"clip_norm": 1.0}}).train
    assert (train.clip_norm, train.clip_value) == (1.0, None)
    train = resolve("min-char-rnn", {"train": {"clip_norm": 1.0}}, {"clip_value": 2.0}).train
    assert (train.clip_norm, train.clip_value) == (None, 2.0)


def test_options_of_one_layer_still_exclude_each_other():
    assert "exclude each other" in refusal(resolve, "hello", None, {"steps": 1, "epochs": 1})
    assert "exclude each other" in refusal(resolve, "hello", {"train": {"clip_norm": 1.0, "clip_value": 1.0}})


def test_without_a_stop_training_takes_three_minutes():
    assert resolve("char-lstm").train.minutes == 3 and resolve("hello").train.minutes is None
    assert resolve("char-lstm", {"train": {"steps": 5}}).train.minutes is None


def test_an_unknown_preset_is_refused_with_the_nearest_right_one():
    message = refusal(resolve, "min-char-run")
    assert "'min-char-run'" in message and "char-lstm" in message and message.endswith("Did you mean min-char-rnn?")


def test_an_unknown_option_is_refused_with_the_nearest_right_one():
    assert refusal(resolve, "hello", None, {"hiden_size": 3}).endswith("Did you mean hidden_size?")


def test_the_vocabulary_is_no_option():
    assert "vocab_size is not an option" in refusal(resolve, "hello", None, {"vocab_size": 5})
    assert "vocab_size is not an option" in refusal(resolve, "hello", {"model": {"vocab_size": 5}})


def test_values_are_checked_before_any_text_is_read():
    assert refusal(resolve, "hello", None, {"hidden_size": 0}).startswith("hidden_size")
    assert refusal(resolve, "hello", {"train": {"batch_size": 0}}).startswith("batch_size")
