"""Anything at all as a configuration: settings that are sound, or one line that names what is wrong with them."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import typing
from datetime import timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elman.config import TABLES, ModelConfig, SampleConfig, TrainConfig, field_names, read_toml, to_toml
from elman.errors import InputError
from elman.presets import PRESETS, resolve

short = settings(max_examples=150, deadline=None)
long_form = settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))

KEYS = sorted({name for kind in TABLES.values() for name in field_names(kind)})
SOUND = to_toml(
    model=dataclasses.asdict(ModelConfig(9, "gru", 7, 3, 7, 0.25, True, "float64", "normal-0.01")),
    train=dataclasses.asdict(TrainConfig(encoding='x"\\\n狗', learning_rate=1e-5, clip_value=5.0, minutes=0.5)),
    sample=dataclasses.asdict(SampleConfig(0, 1e-3, 5, 0.5, 3)),
)
CHOICES = ["lstm", "gru", "float64", "uniform", "lines", "replace", "drop", "adagrad", "cosine", "sum", "whitespace"]


class Shouting:
    """Its repr has many long lines."""

    def __repr__(self) -> str:
        return "what?\n" * 1000


def endless() -> list:
    """A list in a list in a list, deeper than Python shows."""
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


# What TOML can hold, and what only Python can

offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(lambda d: timedelta(minutes=d.seconds // 60))
integers = st.integers() | st.sampled_from([2**31, 2**63, -(2**63) - 1, 2**64, 2**128, 10**400, -(10**400), 10**4000])
floats = st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1 - 2**-53, 1e308, 0.1, 2.5])
scalars = (
    st.booleans()
    | integers
    | floats
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(CHOICES)
    | st.dates()
    | st.datetimes()
    | st.builds(lambda d, o: d.replace(tzinfo=timezone(o)), st.datetimes(), offsets)
    | st.times()
)
toml_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=9,
)
keys = st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
toml_tables = st.dictionaries(
    st.sampled_from([*TABLES, *TABLES, "modle", "", "a.b"]),
    st.dictionaries(keys, toml_values, max_size=5) | toml_values,
)
python_values = (
    toml_values
    | st.text(max_size=20)
    | st.binary(max_size=9)
    | st.sampled_from(
        [None, 10**5000, -(10**5000), "x" * 5000, "\ud800", Decimal("0.5"), Fraction(1, 3), Fraction(10**400)]
    )
    | st.sampled_from([1j, object(), int, len, Shouting(), endless(), b"\xff" * 1000, ..., {1, 2}, range(3), Path("a")])
    | st.sampled_from([np.int64(3), np.uint8(7), np.int64(-1), np.float32(0.5), np.float64(0.25), np.float16(np.nan)])
    | st.sampled_from(
        [np.bool_(True), np.str_("gru"), np.array(3), np.array([3]), np.array(["lstm"]), np.zeros((99, 99))]
    )
    | st.sampled_from([np.longdouble(1) - np.longdouble(2) ** -60, np.datetime64("2020-01-01"), np.void(b"a")])
)


def as_read(tables: dict) -> dict:
    """The settings of a file's tables, as training and sampling make them."""
    model = ModelConfig(**{"vocab_size": 5} | tables["model"])
    return {"model": model, "train": TrainConfig(**tables["train"]), "sample": SampleConfig(**tables["sample"])}


def check_types(config) -> None:
    """Every field is of its annotated type, finite, and from its choices."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value, kinds = getattr(config, name), typing.get_args(hint)
        if type(None) in kinds:
            if value is None:
                continue
            hint = kinds[0]
        if typing.get_origin(hint) is typing.Literal:
            assert isinstance(value, str) and value in typing.get_args(hint), name
        elif hint is str:
            assert isinstance(value, str), name
        else:
            assert type(value) is hint and math.isfinite(value), name
            assert value >= 0 and (hint is bool or value < 2**128), name


def checked(function, *args, names: list[str], **options):
    """What the function gives, or None where it refuses, in one line that has one of the names."""
    try:
        return function(*args, **options)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and "\r" not in message and len(message) < 1000, message[:2000]
        assert any(name in message for name in names), message
        return None


def check_file(path: Path) -> None:
    tables = checked(read_toml, path, names=[path.name])
    if tables is None:
        return
    assert list(tables) == list(TABLES)
    configs = checked(as_read, tables, names=KEYS)
    checked(resolve, "hello", tables, names=KEYS)
    if configs is not None:
        check_round_trip(path, configs)


def check_round_trip(path: Path, configs: dict) -> None:
    for config in configs.values():
        check_types(config)
    path.write_text(to_toml(**{name: dataclasses.asdict(config) for name, config in configs.items()}), encoding="utf-8")
    assert as_read(read_toml(path)) == configs


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "settings.toml"


# Files


def check_bytes(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    check_file(path)


@example(b"\xef\xbb\xbf[train]\nsteps = 3\n")
@example(b"\xff\xfe[\0t\0r\0")
@example(b"[train]\nsteps = 3\n\0")
@example(b"[train]\r\nsteps = 3\rlog_every = 2")
@example(b"[model]\nhidden_size = 1" + b"0" * 4000)
@example(b"[train]\nclip_norm = 1e999")
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@short
def test_any_bytes(path, raw):
    check_bytes(path, raw)


@st.composite
def mutated(draw) -> bytes:
    """A sound file with some stretches of it left out, said twice, moved or replaced."""
    raw = SOUND.encode()
    for _ in range(draw(st.integers(1, 4))):
        a, b = sorted(draw(st.integers(0, len(raw))) for _ in "ab")
        b = min(b, a + draw(st.integers(0, 40)))
        other = draw(st.integers(0, len(raw)))
        pieces = [
            b"",
            raw[a:b] * 2,
            raw[other : other + 30],
            draw(st.binary(max_size=5)),
            b"\n",
            b'"',
            b"[",
            b"=",
            b"-",
        ]
        raw = raw[:a] + draw(st.sampled_from(pieces)) + raw[b:]
    return raw


@given(raw=mutated())
@short
def test_sound_files_with_faults(path, raw):
    check_bytes(path, raw)


@given(tables=toml_tables)
@short
def test_any_tables_keys_and_values(path, tables):
    check_bytes(path, tomli_w.dumps(tables).encode())


@pytest.mark.slow
@given(
    raw=st.one_of(mutated(), toml_tables.map(lambda tables: tomli_w.dumps(tables).encode()), st.binary(max_size=300))
)
@long_form
def test_five_thousand_files(path, raw):
    check_bytes(path, raw)


def test_a_byte_order_mark_is_passed_over(path):
    path.write_bytes(b"\xef\xbb\xbf[train]\nsteps = 3\n")
    assert read_toml(path)["train"] == {"steps": 3}


# Each of these took an hour or the memory, or waited for ever, or its message was as long as the file.

MILLION = {
    "line": "[train]\n# " + "x" * 10**6,
    "text": f'[train]\ntokenizer = "{"x" * 10**6}"',
    "key": "[train]\n" + "x" * 10**6 + " = 1",
    "table": "[" + "x" * 10**6 + "]",
    "long table": "[" + "x" * 90_000 + "]",
    "table twice": f"[{'x' * 9000}]\n" * 2,
    "quoted key": '[train]\n"' + "\\n" * 10**5 + '" = 1',
    "short quoted key": '[train]\n"' + "\\n" * 10**4 + '" = 1',
    "array": "a = [" + "1," * 500_000 + "]",
    "dots": "a." * 500_000 + "a = 1",
    "fewer dots": "a." * 45_000 + "a = 1",
    "dots in brackets": "[" + "a." * 45_000 + "a]",
    "dots in braces": "[train]\nsteps = {" + "a." * 45_000 + "a = 1}",
    "nothing": "\n" * 10**6,
    "brackets": "a = " + "[" * 90_000,
    "braces": "a = " + "{a=" * 30_000,
    "tables": "".join(f"[a{i}]\n" for i in range(10_000)),
    "digits": "[train]\nseed = 1" + "0" * 90_000,
}


def special_files(folder: Path) -> list[Path]:
    paths = [
        folder,
        folder / "nothing",
        folder / "no" / "folder",
        folder / ("x" * 300),
        Path("/dev/zero"),
        Path("/dev/full"),
    ]
    paths += [folder / "pipe", folder / "loop", folder / "closed"]
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "closed").write_text("")
    (folder / "closed").chmod(0)
    return paths


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_huge_and_special_files_are_answered_at_once(tmp_path):
    """In a child, which is stopped if it waits: once all of this is seconds."""
    subprocess.run([sys.executable, __file__, tmp_path], check=True, timeout=200)


def check_huge_and_special_files(folder: Path) -> None:
    import resource

    limit = 2 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name, text in MILLION.items():
        file = folder / "settings.toml"
        file.write_text(text)
        tables = checked(read_toml, file, names=["settings.toml"])
        assert tables is None or name in ("text", "nothing"), name
    for special in special_files(folder):
        tables = checked(read_toml, special, names=[str(special)])
        assert tables is None or special.name == "closed", special  # which root may read
    checked(read_toml, "a\0b", names=["a"])
    checked(read_toml, "", names=["configuration file ."])


# Values


def check_values(path: Path, kind: type, values: dict) -> None:
    config = checked(kind, **values, names=list(values) or KEYS)
    if config is None:
        return
    check_types(config)
    assert all(isinstance(value, bool) == isinstance(getattr(config, name), bool) for name, value in values.items())
    table = next(name for name in TABLES if TABLES[name] is kind)
    if not any(isinstance(value, str) and has_surrogate(value) for value in values.values()):
        check_round_trip(path, as_read({name: {} for name in TABLES}) | {table: config})


def has_surrogate(text: str) -> bool:
    """Half a character, which no file can hold; a path in another encoding than the terminal's has them."""
    return max(text, default="") >= "\ud800" and any("\ud800" <= character <= "\udfff" for character in text)


@st.composite
def random_values(draw) -> tuple[type, dict]:
    kind = draw(st.sampled_from(list(TABLES.values())))
    values = draw(st.dictionaries(st.sampled_from(field_names(kind)), python_values, max_size=3))
    return kind, {"vocab_size": 5} | values if kind is ModelConfig else values


@given(drawn=random_values())
@settings(short, max_examples=600)
def test_any_values(path, drawn):
    check_values(path, *drawn)


@pytest.mark.slow
@given(drawn=random_values())
@long_form
def test_five_thousand_values(path, drawn):
    check_values(path, *drawn)


@pytest.mark.parametrize("kind", TABLES.values())
@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), "x" * 10**6, Shouting(), endless(), np.array([3]), np.array(["lstm"]), np.zeros((99, 99))],
    ids=["digits", "negative digits", "long text", "long repr", "deep", "array", "array of text", "large array"],
)
def test_a_value_that_cannot_be_shown_is_refused_in_one_short_line(kind, value):
    for name in field_names(kind):
        checked(kind, **{"vocab_size": 5} | {name: value} if kind is ModelConfig else {name: value}, names=[name])


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (ModelConfig, {"vocab_size": np.int64(5), "dropout": 0}, {"vocab_size": 5, "dropout": 0.0}),
        (TrainConfig, {"learning_rate": np.float32(0.5), "minutes": 3}, {"learning_rate": 0.5, "minutes": 3.0}),
        (SampleConfig, {"temperature": Fraction(1, 2), "top_p": np.float64(1)}, {"temperature": 0.5, "top_p": 1.0}),
    ],
)
def test_numbers_are_those_of_python(kind, values, expected):
    config = kind(**values)
    for name, value in expected.items():
        assert getattr(config, name) == value and type(getattr(config, name)) is type(value)


def test_a_seed_has_at_most_128_bits():
    assert TrainConfig(seed=2**128 - 1).seed == SampleConfig(seed=2**128 - 1).seed == 2**128 - 1
    for kind in (TrainConfig, SampleConfig):
        with pytest.raises(InputError, match="seed must be a whole number of at most"):
            kind(seed=2**128)


# Presets

options = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), python_values, max_size=4)


def check_resolve(preset: str, tables: dict, given_options: dict) -> None:
    keys = [*given_options, *(key for table in tables.values() for key in table)]
    recipe = checked(resolve, preset, tables, given_options, names=["no preset", "unknown option", *keys])
    if recipe is not None:
        check_types(recipe.train)
        check_types(ModelConfig(5, **recipe.model))


@given(
    preset=st.sampled_from([*PRESETS, *PRESETS]) | st.text(max_size=20),
    tables=st.fixed_dictionaries({}, optional={"model": options, "train": options, "sample": options}),
    given_options=options,
)
@short
def test_any_preset_tables_and_options(preset, tables, given_options):
    check_resolve(preset, tables, given_options)


@pytest.mark.slow
@given(
    preset=st.sampled_from([*PRESETS, *PRESETS]) | st.text(max_size=20),
    tables=st.fixed_dictionaries({}, optional={"model": options, "train": options}),
    given_options=options,
)
@long_form
def test_five_thousand_recipes(preset, tables, given_options):
    check_resolve(preset, tables, given_options)


@pytest.mark.parametrize("name", ["x" * 10**6, "\n" * 1000, "\ud800", "", "char\0lstm"])
def test_a_name_that_is_none_is_refused_in_one_short_line(name):
    checked(resolve, name, names=["no preset"])
    checked(resolve, "hello", None, {name: 3}, names=["unknown option"])


if __name__ == "__main__":
    check_huge_and_special_files(Path(sys.argv[1]))
