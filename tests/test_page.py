"""report.html and figures/: the report's own numbers, safe text, and a real browser.

python -m pytest tests/test_page.py
"""

import json
import re
import shutil
import time
import xml.etree.ElementTree
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

import run_ner
from ner_recipe.reports import callback
from ner_recipe.reports.error_analysis import KINDS, sentence_errors
from ner_recipe.reports.figures import training_curves
from ner_recipe.reports.files import FIGURES
from ner_recipe.reports.page import Overview, PageContent, as_script, mistakes, render_page, write_page
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.reports.result import SplitResult, make_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
NASTY = "</script><img src=x onerror=alert(1)>&\u2028"


FACTS = {"model": "m", "seed": "1", "commit": "c" * 40}


def content_of(results: dict[str, SplitResult], **more) -> PageContent:
    counts = {
        "documents": None,
        "sentences": 1,
        "words": 5,
        "entities": 2,
        "labels": {"O": 3, "B-protein": 2},
    }
    return PageContent(results, Overview({role: {"name": role, **counts} for role in results}, None), **more)


def result_of(words, gold, predicted, **more) -> SplitResult:
    return make_result(words, gold, predicted, **{"facts": FACTS, **more})


def shown(html: str) -> dict:
    """What the page hands to its script."""
    return json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1]
    )


def test_the_page_has_the_numbers_of_report_and_results(trained):
    html = (trained / "report.html").read_text()
    results = json.loads((trained / "test_results.json").read_text())
    report = (trained / "classification_report_test.txt").read_text()
    assert f'id="headline">{results["test_f1"]:.4f}<' in html
    assert f"{results['test_entities']:,}</b>" in html
    assert f"{results['test_joint_f1']:.4f}</b>" in html
    low, high = (results[f"test_interval_micro_{end}"] for end in ("low", "high"))
    assert f"{low:.4f} to {high:.4f}" in html and f"micro F1 {low:.4f} to {high:.4f}" in report
    interval = read_predictions(trained / "predictions_test.tsv").intervals
    assert (interval["f1"]["micro"]["low"], interval["unit"]) == (pytest.approx(low), "documents")
    rows = re.findall(
        r"^(\w+) +(0\.\d{4})  (0\.\d{4})  (0\.\d{4}) +[\d,]+$", report.split("Other readings")[0], re.M
    )
    assert len(rows) == 5
    for name, *numbers in rows:
        assert f"<td>{name}</td>" + "".join(f"<td>{number}</td>" for number in numbers) in html
    served = results["test_served_sentences_first_f1"]
    strategy = json.loads((trained / "run.json").read_text())["pipeline"]["aggregation_strategy"]
    assert f"{results[f'test_served_abstracts_{strategy}_f1']:.4f}" in html and served
    files = re.findall(r'<a href="([^"]+)">', html)
    assert "README.md" in files and {"predictions_test.tsv", "figures/type_scores.svg"} <= set(files)
    assert all((trained / name).is_file() for name in files)
    for kind, number in re.findall(r"^(missed|spurious|wrong type|too \w+|shifted) +([\d,]+)$", report, re.M):
        assert f"{kind} <b>{number}</b>" in html


def test_the_browser_is_given_every_mistake_and_nothing_else(trained):
    data = shown((trained / "report.html").read_text())
    for split in ("validation", "test"):
        result = read_predictions(trained / f"predictions_{split}.tsv")
        expected = {
            number: sentence_errors(*pair)
            for number, pair in enumerate(result.spans, start=1)
            if sentence_errors(*pair)
        }
        part = data[split]
        assert [row[0] for row in part["rows"]] == list(expected)
        for number, words, gold, predicted, errors in part["rows"]:
            assert words == result.words[number - 1]
            for told, error in zip(errors, expected[number], strict=True):
                assert tuple(KINDS[kind] for kind in told[0]) == error.kinds
                for place, side, entity in (
                    (told[1], gold, error.gold),
                    (told[2], predicted, error.predicted),
                ):
                    found = place >= 0 and (part["types"][side[place][0]], *side[place][1:])
                    assert (found or None) == entity
                assert 0 <= told[3] <= 1


def test_figures_are_pictures(trained):
    names = {path.name for path in (trained / "figures").iterdir()}
    assert names == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for path in (trained / "figures").iterdir():
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_text_is_text(tmp_path):
    assert json.loads(as_script(NASTY)) == NASTY and "<" not in as_script(NASTY)
    facts = {"model": NASTY, "seed": "1", "commit": "c" * 40 + " with uncommitted changes"}
    result = result_of([[NASTY, "b"]], [["B-<b>", "O"]], [["O", "B-<b>"]], facts=facts)
    folder = tmp_path / NASTY.replace("/", "")
    folder.mkdir()
    (folder / "a<b>&.txt").write_text("")
    html = render_page(content_of({"test": result}), {}, folder)
    assert f"commit {'c' * 12} with uncommitted changes" in html
    assert "<img src=x" not in html and "<td><b>" not in html and html.count("</script>") == 2
    assert shown(html)["test"]["rows"][0][1] == [NASTY, "b"]


def test_a_run_without_mistakes_without_training_and_without_entities(tmp_path):
    right = result_of([["a", "b"]], [["B-DNA", "O"]], [["B-DNA", "O"]])
    empty = result_of([["a", "b"]], [["O", "O"]], [["O", "O"]])
    mathematical = result_of([["a", "b"]], [["B-$x_{$", "O"]], [["B-$x_{$", "O"]])
    for number, result in enumerate((right, empty, mathematical)):
        write_page(tmp_path / str(number), content_of({"validation": result}))
        assert mistakes(result)["rows"] == []
        assert "training_curves" not in (tmp_path / str(number) / "report.html").read_text()


def test_the_last_point_of_a_curve_is_of_the_training_not_of_the_restored_model():
    history = [{"step": step, "loss": 1 / step, "eval_f1": f1} for step, f1 in ((10, 0.6), (20, 0.5))]
    figure = training_curves([*history, {"step": 20, "train_runtime": 9.0}, {"step": 20, "eval_f1": 0.6}], 10)
    scores = figure.axes[1].lines[0]
    assert list(zip(*scores.get_data(), strict=True)) == [(10, 0.6), (20, 0.5)]


@pytest.mark.parametrize(("epoch", "said"), [(0.333333, "0.33"), (100.0, "100"), (117.5, "117.5")])
def test_the_page_says_the_epoch_of_a_long_training(epoch, said, tmp_path):
    result = result_of([["a", "b"]], [["B-DNA", "O"]], [["B-DNA", "O"]])
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    state = TrainerState(epoch=epoch, num_train_epochs=200)
    reports = callback.ReportCallback(
        str(tmp_path), lambda: result, lambda: content_of({"": result}).overview
    )
    reports.on_evaluate(args, state, TrainerControl(), metrics={})
    assert f"training: epoch {said} of 200" in (tmp_path / "report.html").read_text()


def test_the_page_is_there_while_the_model_trains(sample_flags, tmp_path, monkeypatch):
    """After each result, and it says how far the training is."""
    seen = []

    def look(output_dir, content):
        write_page(output_dir, content)
        seen.append((Path(output_dir) / "report.html").read_text())

    monkeypatch.setattr(callback, "write_page", look)
    flags = ["--do_report_page", "true", "--num_train_epochs", "2", "--do_predict", "false"]
    assert run_ner.main([*sample_flags, *flags, "--output_dir", str(tmp_path / "m")]) == 0
    assert "training: epoch 1 of 2" in seen[0] and "training: epoch 2 of 2" in seen[1]
    final = (tmp_path / "m/report.html").read_text()
    assert "training: epoch" not in final and set(shown(final)) == {"validation"}


def test_tensorboard_shows_the_same_curves(sample_flags, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--report_to", "tensorboard", "--num_train_epochs", "2", "--do_predict", "false"]
    assert run_ner.main([*sample_flags, *flags, "--output_dir", str(tmp_path / "m")]) == 0
    history = json.loads((tmp_path / "m/trainer_state.json").read_text())["log_history"]
    points = {}
    for path in (tmp_path / "m/runs").iterdir():
        events = EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            points.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    curves = {"eval/f1": "eval_f1", "train/loss": "loss", "train/learning_rate": "learning_rate"}
    for tag, name in curves.items():
        expected = [(entry["step"], entry[name]) for entry in history if name in entry]
        assert len(expected) >= 2
        for step, value in expected:
            assert any(one == step and found == pytest.approx(value) for one, found in points[tag])


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=90_000)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """Opens a file in a page of its own; console errors and requests are kept."""
    pages = []

    def show(path: Path, **options):
        view = browser.new_page(**options)
        view.complaints, view.asked = [], []
        view.on("console", lambda message: view.complaints.append(message.text))
        view.on("pageerror", lambda error: view.complaints.append(str(error)))
        view.on("dialog", lambda dialog: view.complaints.append(dialog.message) or dialog.dismiss())
        view.on("request", lambda request: view.asked.append(request.url))
        view.goto(path.as_uri(), timeout=90_000)
        pages.append(view)
        return view

    yield show
    for view in pages:
        assert view.complaints == []
        assert [url for url in view.asked if not url.startswith(("file:", "data:"))] == []
        view.close()


def test_a_browser_shows_and_filters_the_mistakes_of_a_real_run(opened, trained):
    view = opened(trained / "report.html")
    data = shown((trained / "report.html").read_text())["test"]
    view.select_option("#split", "test")
    items = view.locator("#list li")
    assert items.count() == min(len(data["rows"]), 40)
    view.get_by_role("button", name="missed", exact=True).click()
    missed = [row for row in data["rows"] if any(KINDS.index("missed") in error[0] for error in row[4])]
    assert view.inner_text("#count").split(" in ")[1].startswith(f"{len(missed)} of")
    assert set(items.first.locator("b").all_inner_texts()) == {"missed"}
    view.keyboard.press("0")
    kind = data["types"][0]
    view.select_option("#type", label=kind)
    assert all(kind in text for text in items.all_text_contents())
    view.select_option("#type", label="every type")
    word = data["rows"][0][1][0]
    view.keyboard.press("Escape")
    view.locator("h1").click()
    view.keyboard.press("/")
    view.keyboard.type(word)
    assert all(word.lower() in text.lower() for text in items.all_text_contents())
    view.keyboard.press("Escape")
    assert view.inner_text("#count").split(" in ")[1].startswith(f"{len(data['rows'])} of")
    view.keyboard.press("j")
    view.keyboard.press("j")
    view.keyboard.press("k")
    assert "here" in items.first.get_attribute("class")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_a_phone_and_a_desk_in_both_schemes(opened, trained, scheme, width):
    view = opened(trained / "report.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 26)")
    assert view.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")


def test_a_large_test_set_stays_small_and_quick_and_its_text_stays_text(opened, tmp_path):
    """4,000 sentences of 26 words, half of them wrong, the first with a script for a word."""
    words = [[NASTY, *(f"word{place}" for place in range(25))] for _ in range(4000)]
    gold = [["O", "B-DNA", "I-DNA", *["O"] * 23] for _ in words]
    predicted = [row if number % 2 else ["B-DNA", *row[1:]] for number, row in enumerate(gold)]
    confidence = [[0.5 + number / 10_000] * 26 for number in range(4000)]
    documents = [number // 10 for number in range(4000)]
    result = result_of(words, gold, predicted, confidence=confidence, documents=documents)
    write_page(tmp_path, content_of({"test": result}))
    path = tmp_path / "report.html"
    assert path.stat().st_size < 5_000_000
    view = opened(path)
    assert view.inner_text("#count") == "2,000 errors in 2,000 of 4,000 sentences"
    start = time.perf_counter()
    view.fill("#text", "word24")
    assert view.inner_text("#count").startswith("2,000")
    assert time.perf_counter() - start < 2
    # The most confident first; more sentences come as one scrolls.
    first = view.locator("#list li").first.inner_text()
    assert "(0.90)" in first and NASTY[:9] in first
    for _ in range(3):
        view.locator("#more").scroll_into_view_if_needed()
        view.wait_for_timeout(100)
    assert view.locator("#list li").count() > 40
