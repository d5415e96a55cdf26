"""The page of elman trace in a real browser: it shows the numbers of the model, and nothing else gets in or out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from elman.pages.trace_page import SNAPSHOTS, trace_page
from elman.workflows.trace import trace

HOSTILE = "</script><script>window.hacked=1</script>\"'<img src=x onerror='window.hacked=1'>\x1b[31m\u202ee\u0301&amp;"


@pytest.fixture(scope="module")
def records() -> dict[str, dict]:
    return {
        "hello": trace("hello", vocab="helo", updates=200, snapshots=SNAPSHOTS),
        "wide": trace("a wide one", cell="lstm", hidden_size=40, num_layers=2, embedding_size=20, updates=3),
        "hostile": trace(HOSTILE, cell="gru", hidden_size=4),
        "long": trace("ab" * 50, hidden_size=3),
        "lstm": trace("hello", cell="lstm"),
        "gru": trace("hello", cell="gru", hidden_size=16),
        "layers": trace("hello world", cell="lstm", num_layers=2),
        "hostile everywhere": hostile_everywhere(),
    }


def hostile_everywhere() -> dict:
    """A record as of a model file whose symbols are whole words of markup, in a folder with such a name."""
    record = trace("ab")
    for about in [*record["quantities"].values(), *record["parameters"].values()]:
        about |= {"equation": HOSTILE, "code": HOSTILE, "file": HOSTILE, "tutorial": HOSTILE}
    return record | {"glyphs": [f"{HOSTILE} a", f"{HOSTILE} b"], "model": HOSTILE, "notes": [HOSTILE], "cell": HOSTILE}


@pytest.fixture
def page_of(records, open_page, tmp_path):
    """Open the page of a record."""

    def opened(name: str, **options):
        path = tmp_path / f"{name}.html"
        path.write_text(trace_page(records[name]), encoding="utf-8")
        return open_page(path, **options)

    return opened


def move(page, slider: str, value: int) -> None:
    page.locator(slider).fill(str(value))


def numbers(page, selector: str) -> list[float]:
    """The numbers of a table row, without the symbols beside them."""
    cells = page.locator(f"{selector} td [data-index]")
    texts = cells.evaluate_all("all => all.map(each => each.lastChild.textContent)")
    return [float(text) for text in texts]


def values(record: dict, key: str, step: int, shot: int = 0) -> list[float]:
    return record["snapshots"][shot]["steps"][step]["values"][key]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_quantity_of_a_step_is_in_the_tables(page_of, records, direction):
    page, record = page_of("hello"), records["hello"]
    page.check(f"input[value={direction}]")
    for step in range(4):
        move(page, "#step", step)
        for key, about in record["quantities"].items():
            row = f'tr[data-key="{key}"]'
            if about["direction"] == direction:
                np.testing.assert_allclose(numbers(page, row), values(record, key, step), rtol=1e-5)
            else:
                assert page.locator(row).count() == 0


def test_the_figure_shows_the_numbers_with_the_target_green_and_the_others_red(page_of, records):
    page, record = page_of("hello"), records["hello"]
    scores = page.locator('svg [data-key="logits"][data-step="0"] text[data-index]')
    shown = [float(text) for text in scores.all_text_contents()]
    np.testing.assert_allclose(shown, values(record, "logits", 0), atol=6e-4)
    colours = scores.evaluate_all("all => all.map(each => getComputedStyle(each).fill)")
    assert record["targets"][0] == 1
    assert colours == ["rgb(179, 38, 30)", "rgb(20, 121, 60)", "rgb(179, 38, 30)", "rgb(179, 38, 30)"]
    for key in ("layers.0.h", "one_hot"):
        shown = page.locator(f'svg [data-key="{key}"][data-step="2"] text[data-index]').all_text_contents()
        np.testing.assert_allclose([float(text) for text in shown], values(record, key, 2), atol=6e-4)
    # inputs below, hidden in the middle, scores above, time to the right
    tops = [
        page.locator(f'svg [data-key="{key}"][data-step="1"]').bounding_box()["y"]
        for key in ("logits", "layers.0.h", "one_hot")
    ]
    assert tops == sorted(tops)
    lefts = [page.locator(f'svg [data-key="layers.0.h"][data-step="{t}"]').bounding_box()["x"] for t in range(4)]
    assert lefts == sorted(set(lefts))
    assert {"W_xh", "W_hh", "W_hy"} <= set(page.locator("svg text").all_text_contents())


@pytest.mark.parametrize(("direction", "h", "c"), [("forward", "h", "c"), ("backward", "d_h", "d_c")])
def test_the_two_ways_of_an_lstm_through_time_are_drawn(page_of, records, direction, h, c):
    page, record = page_of("layers"), records["layers"]
    page.check(f"input[value={direction}]")
    for layer in range(2):
        key = f"layers.{layer}.{c}"
        shown = page.locator(f'svg [data-key="{key}"][data-step="2"] text[data-index]').all_text_contents()
        np.testing.assert_allclose([float(text) for text in shown], values(record, key, 2), atol=6e-4)
    arrows = page.locator("svg line.arrow + path + text").all_text_contents()
    assert arrows.count("W_hh") == arrows.count(c) == arrows.count("o·tanh") == 2 * len(record["inputs"])
    assert f"{h} and" in page.locator("#caption").inner_text() and "two ways" in page.locator("#caption").inner_text()


def test_cells_without_a_cell_state_have_one_way_through_time(page_of):
    page = page_of("gru")
    assert page.locator("svg line.arrow").count() == 4 * 3
    assert "two ways" not in page.locator("#caption").inner_text()


OVERLAPS = """() => {
    const all = [...document.querySelectorAll("svg text, svg .frame, svg [data-column]")]
        .map(each => [each.textContent || "frame", each.getBBox()]);
    const inside = ([, a], [, b]) => a.x >= b.x && a.x + a.width <= b.x + b.width
        && a.y >= b.y && a.y + a.height <= b.y + b.height;
    const meet = ([, a], [, b]) => a.x < b.x + b.width && b.x < a.x + a.width
        && a.y + 2 < b.y + b.height && b.y + 2 < a.y + a.height;
    const cross = (a, b) => meet(a, b) && !inside(a, b) && !inside(b, a);
    return all.flatMap((a, i) => all.slice(i + 1).filter(b => cross(a, b)).map(b => [a[0], b[0]]));
}"""


@pytest.mark.parametrize("name", ["hello", "lstm", "gru", "layers", "wide", "hostile"])
def test_nothing_in_the_figure_overlaps(page_of, name):
    page = page_of(name)
    for direction in ("forward", "backward"):
        page.check(f"input[value={direction}]")
        assert page.evaluate(OVERLAPS) == []


def test_the_training_slider_moves_from_the_first_update_to_the_last(page_of, records):
    page, record = page_of("hello"), records["hello"]
    shots = record["snapshots"]
    assert len(shots) == SNAPSHOTS and (shots[0]["update"], shots[-1]["update"]) == (0, 200)
    before = page.locator("#shot-shown").inner_text()
    move(page, "#shot", len(shots) - 1)
    summary = page.locator("#summary").inner_text()
    assert "loss 5.58239 nats before training" in summary and summary.endswith("200 updates, the sum of 4 steps")
    assert before.startswith("after 0 of 200 updates, loss 5.58")
    after, _, loss = page.locator("#shot-shown").inner_text().partition(", loss ")
    assert after == "after 200 of 200 updates" and float(loss) == pytest.approx(shots[-1]["loss"], rel=1e-5)
    np.testing.assert_allclose(
        numbers(page, 'tr[data-key="layers.0.h"]'), values(record, "layers.0.h", 0, -1), rtol=1e-5
    )
    np.testing.assert_allclose(
        numbers(page, 'tr[data-weights="output.b_y"]'), shots[-1]["parameters"]["output.b_y"], rtol=1e-5
    )


def test_without_training_there_is_no_slider_for_it(page_of):
    assert not page_of("hostile").locator("#training").is_visible()


@pytest.mark.parametrize("name", ["hello", "hostile"])
def test_the_gradients_grow_with_the_steps_back_to_those_of_the_code(page_of, records, name):
    page, record = page_of(name), records[name]
    page.check("input[value=backward]")
    last = len(record["inputs"]) - 1
    shot = record["snapshots"][0]
    for step in (last, last - 1, 0):
        move(page, "#step", step)
        shown = json.loads(
            page.evaluate("JSON.stringify(Object.fromEntries([...gradients].map(([n, g]) => [n, [...g]])))")
        )
        assert list(shown) == list(record["parameters"])
        for parameter, sums in shot["steps"][step]["accumulated"].items():
            np.testing.assert_allclose(shown[parameter], np.ravel(sums), rtol=1e-4, atol=1e-7)
    if name == "hello":
        for parameter, gradient in shot["gradients"].items():
            cells = numbers(page, f'tr[data-parameter="{parameter}"]')
            np.testing.assert_allclose(cells, np.ravel(gradient), rtol=1e-4, atol=1e-7)


def assert_explained(page, record: dict, key: str) -> None:
    about = record["quantities"][key]
    assert page.locator("#detail .equation").inner_text() == about["equation"]
    assert page.locator("#detail .line").inner_text() == about["code"]
    assert f"{about['file']}:{about['line']}" in page.locator("#detail").inner_text()


def test_hovering_focusing_and_tapping_show_equation_line_and_value(page_of, records):
    record = records["hello"]
    page = page_of("hello", has_touch=True)
    assert "Hover, focus or tap" in page.locator("#detail").inner_text()
    page.hover('tr[data-key="layers.0.gates_h"] th')
    assert_explained(page, record, "layers.0.gates_h")
    page.hover('tr[data-key="layers.0.h"] [data-index="1"]')
    assert_explained(page, record, "layers.0.h")
    value = float(page.locator("#detail .value").inner_text().removeprefix("h[1] = "))
    assert value == pytest.approx(values(record, "layers.0.h", 0)[1], rel=1e-5)
    page.focus('tr[data-key="probabilities"]')
    assert_explained(page, record, "probabilities")
    page.keyboard.press("Tab")
    assert_explained(page, record, "loss")
    page.tap('svg [data-key="logits"][data-step="2"] [data-index="3"]')
    assert_explained(page, record, "logits")
    assert page.locator("#detail .value").inner_text().startswith("logits[o] = ")
    assert page.locator("#step").input_value() == "2", "a tap on the figure goes to that step"
    page.focus('svg [data-key="layers.0.h"][data-step="3"]')
    assert_explained(page, record, "layers.0.h")
    assert "step 3" in page.locator("#detail").inner_text()
    page.check("input[value=backward]")
    page.focus('tr[data-parameter="recurrent.layers.0.W_hh"]')
    assert page.locator("#detail .equation").inner_text() == "d_W_hh = Σ_t d_aᵀ h_prev"


def test_every_quantity_explains_itself(page_of, records):
    record = records["wide"]
    page = page_of("wide")
    for direction in ("forward", "backward"):
        page.check(f"input[value={direction}]")
        for key, about in record["quantities"].items():
            if about["direction"] == direction:
                page.focus(f'tr[data-key="{key}"]')
                assert_explained(page, record, key)


def test_a_wide_vector_is_a_strip_with_its_numbers_on_hover(page_of, records):
    page, record = page_of("wide"), records["wide"]
    move(page, "#step", 4)
    page.hover('tr[data-key="layers.1.h"] [data-index="37"]')
    shown = float(page.locator("#detail .value").inner_text().removeprefix("h[37] = "))
    assert shown == pytest.approx(values(record, "layers.1.h", 4)[37], rel=1e-5)
    page.check("input[value=backward]")
    move(page, "#step", 0)
    canvas = page.locator('tr[data-parameter="recurrent.layers.1.W_hh"] canvas')
    zoom = canvas.bounding_box()["width"] / 40
    canvas.hover(position={"x": 3.5 * zoom, "y": 7.5 * zoom})
    place, _, value = page.locator("#detail .value").inner_text().partition(" = ")
    gate, row, column = place.removeprefix("d_W_hh[").removesuffix("]").replace(",", "").split()
    row, column = int(row), int(column)
    assert gate == "i"
    assert abs(row - 7) <= 1 and abs(column - 3) <= 1
    gradient = record["snapshots"][0]["gradients"]["recurrent.layers.1.W_hh"]
    assert float(value) == pytest.approx(gradient[row][column], rel=1e-4, abs=1e-9)


def labels_of(page, row: str) -> tuple[list[str], list[str]]:
    """The labels beside and above the numbers of a weight."""
    row = f'tr[data-weights="{row}"] '
    beside = page.locator(f"{row}.line > .label, {row}.side > .label").all_text_contents()
    return beside, page.locator(f"{row}.numbers > .label, {row}.top > .label").all_text_contents()


def test_the_rows_of_the_weights_are_labelled_with_gates_and_symbols(page_of):
    page, layer = page_of("lstm"), "recurrent.layers.0"
    rows = [label for gate in "ifgo" for label in (gate, "", "")]
    assert labels_of(page, f"{layer}.W_xh") == (["", *rows], list("helo"))
    assert labels_of(page, f"{layer}.W_hh") == (rows, [])
    assert labels_of(page, f"{layer}.b_h") == (list("ifgo"), [])
    lines = page.locator(f'tr[data-weights="{layer}.b_h"] .numbers')
    assert lines.evaluate_all("all => all.map(each => each.children.length)") == [3, 3, 3, 3]
    assert labels_of(page, "output.W_hy") == (list("helo"), [])
    assert page.locator('tr[data-weights="output.b_y"] small').all_text_contents() == ["output.b_y", *"helo"]
    page.hover(f'tr[data-weights="{layer}.W_xh"] [data-index="17"]')
    assert page.locator("#detail .value").inner_text().startswith("W_xh[f 1, e] = ")


def test_the_blocks_of_a_drawn_weight_are_labelled(page_of):
    page, layer = page_of("gru"), "recurrent.layers.0"
    assert labels_of(page, f"{layer}.W_xh") == (list("rzn"), list("helo"))
    assert labels_of(page, f"{layer}.W_hh") == (list("rzn"), [])
    assert labels_of(page, f"{layer}.b_h") == (list("rzn"), [])
    assert labels_of(page, f"{layer}.b_hn") == (["n"], [])
    rows = page.locator(f'tr[data-weights="{layer}.b_h"] .numbers').evaluate_all(
        "all => all.map(each => new Set([...each.children].map(cell => cell.getBoundingClientRect().top)).size)"
    )
    assert rows == [1, 1, 1]
    canvas = page.locator(f'tr[data-weights="{layer}.W_hh"] canvas').bounding_box()
    tops = page.locator(f'tr[data-weights="{layer}.W_hh"] .side > .label').evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().top + scrollY)"
    )
    first = page.evaluate("scrollY") + canvas["y"]
    np.testing.assert_allclose(tops, [first + k * canvas["height"] / 3 for k in range(3)], atol=3)


def test_weights_of_an_rnn_have_no_gates_and_those_of_an_embedding_symbols(page_of):
    page = page_of("hello")
    assert labels_of(page, "recurrent.layers.0.W_xh") == ([], list("helo"))
    assert labels_of(page, "recurrent.layers.0.W_hh") == labels_of(page, "recurrent.layers.0.b_h") == ([], [])
    page = page_of("wide")
    assert labels_of(page, "recurrent.layers.0.W_xh")[1] == []
    assert labels_of(page, "embedding.E")[0] == list("a␣wideon")


def test_the_caption_says_what_the_colours_are(page_of):
    for name, target in (
        ("lstm", "that of the target green, the others red"),
        ("hostile", "the target framed in green"),
    ):
        page = page_of(name)
        for direction in ("forward", "backward"):
            page.check(f"input[value={direction}]")
            caption = page.locator("#caption").inner_text()
            assert target in caption and "red positive, blue negative" in caption
            assert "each row by its own largest size" in caption


def test_the_panel_is_one_line_before_anything_is_chosen_and_covers_nothing(page_of):
    page = page_of("lstm", width=390, height=844)
    heights = []
    for chosen in (False, True):
        if chosen:
            page.focus('tr[data-key="layers.0.h"]')
        page.wait_for_function("parseFloat(document.body.style.paddingBottom) >= find('detail').offsetHeight")
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        panel, tables = (page.locator(each).bounding_box() for each in ("#detail", "#tables"))
        assert tables["y"] + tables["height"] <= panel["y"] + 1
        heights.append(panel["height"])
    text = page.evaluate("shown = null, detail(), [find('detail').firstChild.scrollWidth, find('detail').clientWidth]")
    assert heights[0] < 45 < heights[1] and text[0] <= text[1]


def test_of_a_long_text_the_figure_draws_what_lies_around_the_step(page_of):
    page = page_of("long")
    boxes = page.locator('svg [data-key="layers.0.h"]')
    assert boxes.count() == 16
    move(page, "#step", 98)
    steps = boxes.evaluate_all("all => all.map(each => Number(each.dataset.step))")
    assert steps == list(range(83, 99))
    assert "Steps 83 to 98 of 99" in page.locator("#caption").inner_text()
    frame = page.locator("#network").bounding_box()
    box = page.locator('svg [data-key="layers.0.h"][data-step="98"]').bounding_box()
    assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]


def test_hostile_symbols_are_text(page_of, records):
    page, record = page_of("hostile"), records["hostile"]
    assert page.locator("img, script[src], iframe").count() == 0
    assert page.locator("script").count() == 2
    shown = page.locator("#title").inner_text()
    assert shown == "".join(record["glyphs"][token] for token in [*record["inputs"], record["targets"][-1]])
    assert "<img␣src=x␣onerror=" in shown and "\\x1b[31m\\u202e" in shown
    move(page, "#step", 20)
    page.focus('tr[data-key="logits"]')


def test_hostile_words_and_paths_are_text(page_of):
    page = page_of("hostile everywhere")
    for direction in ("forward", "backward"):
        page.check(f"input[value={direction}]")
        page.focus('tr[data-key="logits"]' if direction == "forward" else "tr[data-parameter]")
        assert HOSTILE in page.locator("#detail .equation").text_content()
        assert page.locator("img, script[src], iframe").count() == 0 and page.locator("script").count() == 2
    assert page.locator("#notes li").text_content() == HOSTILE


@pytest.mark.parametrize("name", ["wide", "hostile", "long"])
def test_the_page_never_scrolls_sideways_and_has_dark_colours(page_of, name):
    page = page_of(name)
    for width, dark, direction in ((1280, False, "forward"), (390, False, "backward"), (390, True, "forward")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.check(f"input[value={direction}]")
        page.focus("tr[data-key]")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("#detail").bounding_box()["height"] < 300
        paper, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        assert (paper == "rgb(255, 255, 255)") is not dark and paper != ink
