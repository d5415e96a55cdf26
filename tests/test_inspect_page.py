"""The page of an inspection in a real browser."""

from __future__ import annotations

import base64
import re
import time

import numpy as np
import pytest

from elman.pages.page import render
from elman.text.tokenizers import CharTokenizer
from elman.text_model import TextModel
from elman.workflows.inspect import inspect
from test_inspect import QUOTED, text_model

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\x1b[31mred\x1b]0;t\x07\u202e&lt;"
)
COLOURS = "spans => spans.slice(0, 200).map(span => span.style.backgroundColor)"


def page_of(folder, record, title="m"):
    path = folder / "page.html"
    path.write_text(render("inspect", title, record), encoding="utf-8")
    return path


def record_of(folder, model: TextModel, content: str, **options):
    model.save(folder / "m.safetensors")
    (folder / "t.txt").write_text(content, encoding="utf-8", newline="")
    return inspect(folder / "m.safetensors", folder / "t.txt", **options)


@pytest.fixture(scope="module")
def quoted(tmp_path_factory):
    """A record of a small model, and its page."""
    folder = tmp_path_factory.mktemp("page")
    record = record_of(folder, text_model("lstm", QUOTED, dtype="float64"), QUOTED)
    return record, page_of(folder, record)


def colours(page):
    return page.locator("#text span").evaluate_all(COLOURS)


def h_of(record, unit):
    level = np.frombuffer(base64.b64decode(record["levels"]["units"][unit]), np.uint8).astype(float)
    return (level - record["levels"]["zero"]) * record["levels"]["steps"][unit]


def test_the_colours_are_those_of_the_chosen_unit(quoted, open_page):
    record, path = quoted
    page = open_page(path)
    page.locator("#layer").select_option("1")
    page.locator("#unit").fill("2")
    page.locator("#unit").press("Enter")
    page.locator("#unit").blur()
    wanted = h_of(record, record["units"].index([1, 2]))[:200]
    found = []
    for colour in colours(page):
        name, strength = re.fullmatch(r"rgba\(var\(--(\w+)\), ([\d.]+)\)", colour).groups()
        found.append(float(strength) / 0.6 * (1 if name == "positive" else -1))
    np.testing.assert_allclose(found, wanted, atol=0.002)
    before = colours(page)
    page.locator("#next").click()
    assert page.locator("#unit").input_value() == "3" and colours(page) != before
    page.locator("#previous").click()
    assert colours(page) == before
    page.locator("#stretch").check()
    stretched = colours(page)
    assert stretched != before and any("0.600" in colour for colour in stretched)
    page.locator("#unit").fill("77")
    page.locator("#unit").blur()
    assert "unit 1:77 is not on this page" in page.locator("#message").inner_text()


def test_surprisal_as_colours(quoted, open_page):
    record, path = quoted
    page = open_page(path)
    page.locator("#colour").select_option("surprisal")
    nats = np.frombuffer(base64.b64decode(record["surprisal"]), "<f4")[:200]
    found = [float(re.search(r", ([\d.]+)\)", colour)[1]) for colour in colours(page)]
    wanted = 0.6 * np.minimum(1, np.nan_to_num(nats) / np.log(record["model"]["vocab_size"]))
    np.testing.assert_allclose(found, wanted, atol=0.001)
    assert page.locator("#which").is_hidden() and "nats" in page.locator("#legend").inner_text()


def test_a_listed_unit_is_a_click_away(quoted, open_page):
    record, path = quoted
    page = open_page(path)
    assert page.locator("#rankings h3").all_inner_texts() == [each["name"] for each in record["properties"]]
    layer, unit, score = record["properties"][0]["units"][3]
    button = page.locator("#rankings ol").first.locator("button").nth(3)
    assert button.inner_text() == f"{layer}:{unit}  {'−' if score < 0 else '+'}{abs(score):.2f}"
    button.click()
    assert page.locator("#layer").input_value() == str(layer) and page.locator("#unit").input_value() == str(unit)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#saturation .chosen").count() == 3
    page.locator("#saturation circle").nth(7).dispatch_event("click")
    assert (page.locator("#layer").input_value(), page.locator("#unit").input_value()) == ("1", "1")


def test_what_is_no_better_than_chance_is_said_to_be(tmp_path, open_page):
    """Dashed buttons and units that are not on the page have a legend, where there are any."""
    record = record_of(tmp_path, text_model("lstm", QUOTED), QUOTED)
    first, second, *_ = record["properties"]
    for each in record["properties"]:
        each["chance"] = 0.0
    hints = open_page(page_of(tmp_path, record)).locator("#rankings .hint").all_inner_texts()
    assert len(hints) == 1 and hints[0].startswith("layer:unit")
    first["chance"], second["chance"] = 1.0, abs(second["units"][2][2])
    record["units"] = [unit for unit in record["units"] if unit != second["units"][0][:2]]
    page = open_page(page_of(tmp_path, record))
    hints = page.locator("#rankings .hint").all_inner_texts()
    assert hints[1:] == ["dashed: no better than chance; pale: not on this page", "no unit beats chance here"]
    assert page.locator("#rankings .hint + ol").count() == 1
    shown = page.locator("#rankings ol")
    assert shown.nth(0).locator(".by-chance").count() == 10 and shown.nth(1).locator(".by-chance").count() == 8
    assert shown.nth(1).locator("button").nth(0).is_disabled()


def test_hovering_and_keys_show_the_five_likeliest(quoted, open_page):
    record, path = quoted
    page = open_page(path)
    page.locator("#text span").nth(30).hover()
    ids = np.frombuffer(base64.b64decode(record["likeliest"]["ids"]), "<u2").reshape(-1, 5)
    p = np.frombuffer(base64.b64decode(record["likeliest"]["probabilities"]), "<u2").reshape(-1, 5) / 65535

    def expect(place):
        names = [record["likeliest"]["names"][i] for i in ids[place]]
        shown = page.locator("#likeliest .symbol").all_inner_texts()
        assert shown == [name.replace(" ", "␣").replace("\n", "↵") for name in names]
        assert page.locator("#likeliest .share").all_inner_texts() == [f"{100 * each:.1f} %" for each in p[place]]
        values = page.locator("#readout dd").all_inner_texts()
        nats = np.frombuffer(base64.b64decode(record["surprisal"]), "<f4")[place]
        assert values[1] == f"{place + 1} of {record['text']['tokens']}" and values[2].startswith(f"{nats:.3f} nats")
        at = record["units"].index([int(page.locator(name).input_value()) for name in ("#layer", "#unit")])
        assert float(values[3]) == pytest.approx(h_of(record, at)[place], abs=0.0006)

    expect(30)
    page.locator("#text").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(32)
    page.locator("#text span").nth(3).click()
    expect(3)


def test_the_plots_say_what_the_record_says(quoted, open_page):
    record, path = quoted
    page = open_page(path)
    assert page.locator("#saturation svg").count() == 3
    assert page.locator("#saturation circle").count() == 3 * 12
    labels = page.locator("#reach svg text").all_text_contents()
    assert all(any(label.startswith(line["name"]) for label in labels) for line in record["reach"]["lines"])
    points = page.locator("#reach polyline").nth(1).get_attribute("points").split()
    heights = np.array([float(point.split(",")[1]) for point in points])
    norms = np.log10(record["reach"]["lines"][1]["norms"])
    assert len(points) == record["reach"]["distance"] + 1
    np.testing.assert_allclose(np.corrcoef(heights, norms)[0, 1], -1, atol=1e-4)


@pytest.mark.parametrize("kind", ["char", "word", "byte"])
def test_texts_and_vocabularies_do_nothing(kind, tmp_path, open_page):
    content = f"{HOSTILE}\n\tit 'is' 狗 </SCRIPT> <!-- <script> {HOSTILE}\n" * 3
    record = record_of(tmp_path, text_model("gru", content, kind), content)
    record["model"]["name"] = record["text"]["name"] = record["reach"]["lines"][0]["name"] = HOSTILE
    record["notes"].append(HOSTILE)
    record["tokens"][0] = record["likeliest"]["names"][0] = record["likeliest"]["names"][1] = HOSTILE  # as of bpe
    record["properties"][0]["name"] = record["properties"][0]["rule"] = HOSTILE
    page = open_page(page_of(tmp_path, record, title=HOSTILE))
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2
    for place in range(0, 60, 7):
        page.locator("#text span").nth(place).hover()
    shown = page.locator("body").inner_text()
    assert "\x1b" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert "␛" in shown and "window.hacked" in page.locator("h1").inner_text()
    if kind != "byte":
        assert "⇥" in page.locator("#text").inner_text()


def test_unknown_characters_and_parts_of_characters_are_marked(tmp_path, open_page):
    tokenizer = CharTokenizer("ab\n", unknown=True)
    content = "a狗b\n" * 3
    model = TextModel(text_model("rnn", "abc\n").language_model, CharTokenizer("abc\n", unknown=False))
    model.tokenizer = tokenizer
    page = open_page(page_of(tmp_path, record_of(tmp_path, model, content)))
    assert page.locator("#text .unknown").all_inner_texts() == ["狗"] * 3
    assert page.locator("#marks").inner_text() == "underlined: <unk>, which the model never saw"
    page.locator("#text .unknown").first.hover()
    assert "<unk> to the model" in page.locator("#readout").inner_text()
    page = open_page(page_of(tmp_path, record_of(tmp_path, text_model("rnn-relu", "", "byte"), content)))
    assert page.locator("#text .part").count() == 6 and page.locator("#marks").is_hidden()
    page.locator("#text .part").first.hover()
    assert "<0xE7>" in page.locator("#readout").inner_text()


def test_each_line_runs_in_its_own_direction(tmp_path, open_page):
    content = "abcd\nשלום\n" * 20
    page = open_page(page_of(tmp_path, record_of(tmp_path, text_model("rnn", content), content)))
    left = [page.locator("#text span").nth(place).bounding_box()["x"] for place in range(9)]
    assert left[0] < left[1] < left[3] < left[8] < left[6] < left[5]
    assert left[5] > 600


def test_a_text_of_two_tokens_and_half_characters_in_the_vocabulary(tmp_path, open_page):
    model = text_model("lstm", "abcd")
    model.tokenizer = CharTokenizer("a\ud800b\0", unknown=False)
    page = open_page(page_of(tmp_path, record_of(tmp_path, model, "ab")))
    page.locator("#text span").nth(1).hover()
    shown = page.locator("#likeliest .symbol").all_inner_texts()
    assert sorted(shown) == sorted(["a", "b", "⟨D800⟩", "␀"])
    assert page.locator("#reach polyline").count() == 4


@pytest.mark.parametrize("width", [1280, 390])
def test_a_choice_brings_the_text_into_sight(width, quoted, open_page):
    page = open_page(quoted[1], width=width)
    in_sight = """() => {
      const { top, bottom } = document.getElementById("text").getBoundingClientRect();
      return Math.min(bottom, innerHeight) > Math.max(top, 0);
    }"""
    assert page.evaluate("scrollY") == 0  # the page's own first choice moves nothing
    for choice in ("#rankings ol >> nth=-1 >> button >> nth=2", "#saturation circle >> nth=7"):
        page.locator("#reach").evaluate("each => each.scrollIntoView({ block: 'end' })")
        page.locator(choice).dispatch_event("click")
        assert page.evaluate(in_sight)
    page.evaluate("scrollTo(0, 40)")
    page.locator("#next").dispatch_event("click")
    assert page.evaluate("scrollY") == 40


def test_the_readout_covers_no_text_on_a_narrow_screen(quoted, open_page):
    page = open_page(quoted[1], width=390)
    page.locator("#text span").nth(5).click()
    readout = page.locator("#readout").bounding_box()
    assert readout["y"] >= 0 and readout["y"] + readout["height"] <= 900
    for down in range(0, 1200, 150):
        page.evaluate(f"scrollTo(0, {down})")
        text, readout = (page.locator(name).bounding_box() for name in ("#text", "#readout"))
        assert text["y"] + text["height"] <= readout["y"]


def test_the_lines_of_reach_have_their_whole_names_at_every_width(quoted, open_page):
    names = [line["name"] for line in quoted[0]["reach"]["lines"]]
    page = open_page(quoted[1], width=390)
    assert [each.removeprefix("● ") for each in page.locator("#reach li").all_inner_texts()] == names
    assert page.locator("#reach polyline").count() == len(names)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("#reach .key").wait_for(state="detached")
    shown = page.locator("#reach text").evaluate_all("all => all.map(each => each.firstChild.data)")
    assert set(names) <= set(shown)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_legible(width, dark, quoted, open_page, tmp_path):
    """Nothing is wider than the window, and the strongest colours leave a contrast of 4:1 behind text (WCAG 2)."""
    page = open_page(quoted[1], width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#text span").nth(5).hover()
    assert page.locator("#readout").bounding_box()["width"] <= width
    ink, paper = (
        np.array(
            [int(part) for part in re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]]
        )
        for name in ("color", "backgroundColor")
    )
    assert (ink.mean() > paper.mean()) == dark
    for name in ("positive", "negative"):
        value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')")
        colour = 0.6 * np.array([int(part) for part in value.split(",")]) + 0.4 * paper
        lighter, darker = sorted((luminance(ink), luminance(colour)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4


def luminance(colour) -> float:
    """Relative luminance of WCAG 2."""
    parts = np.asarray(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_page_of_20_000_characters_and_512_units(verse, tmp_path, open_page):
    """Below 15 MB. It opens in about 0.6 s on two cores; the bound allows for a busy machine."""
    content = (verse * 5)[:20_000]
    record = record_of(tmp_path, text_model("gru", content, hidden_size=4, num_layers=1), content)
    levels = np.random.default_rng(0).integers(0, 256, (512, 20_000)).astype(np.uint8)
    record["model"] |= {"num_layers": 2, "hidden_size": 256}
    record["units"] = [[layer, unit] for layer in range(2) for unit in range(256)]
    record["levels"]["units"] = [base64.b64encode(unit.tobytes()).decode() for unit in levels]
    record["levels"]["steps"] = [1 / 127] * 512
    path = page_of(tmp_path, record)
    assert path.stat().st_size < 15_000_000
    started = time.perf_counter()
    page = open_page(path)
    assert page.locator("#text span").count() == 20_000
    seconds = time.perf_counter() - started
    before = colours(page)
    page.locator("#next").click()
    assert colours(page) != before
    assert seconds < 15, f"opened in {seconds:.1f} s"
