"""Intervals and comparisons: against loops that recount every draw, and what must hold of any.

python -m pytest tests/test_intervals.py
"""

import dataclasses
import itertools
import json
import time

import numpy as np
import pytest

import intervals
from intervals import compare, count, difference, on_same_text, score_rows
from metrics import Evaluation, format_predictions, read_predictions, score

KINDS = ("DNA", "RNA", "protein")


def invented(sentences: int, seed: int, documents: int | None, errors: float = 0.3) -> Evaluation:
    """A prediction of random tags, wrong in some words."""
    generator = np.random.default_rng(seed)
    choices = ["O", *(f"{letter}-{kind}" for kind in KINDS for letter in "BI")]
    gold = [generator.choice(choices, generator.integers(1, 12)).tolist() for _ in range(sentences)]
    predicted = [
        [generator.choice(choices).item() if generator.random() < errors else tag for tag in tags]
        for tags in gold
    ]
    words = [[f"w{place}" for place in range(len(tags))] for tags in gold]
    numbers = sorted(generator.integers(0, documents, sentences).tolist()) if documents else None
    return Evaluation(words, gold, predicted, score(gold, predicted), numbers)


def test_counts_add_up_to_the_scores():
    evaluation = invented(200, 0, documents=30)
    counts = count(evaluation)
    assert counts.unit == "abstracts" and len(counts.table) == len(set(evaluation.documents))
    rows = score_rows(counts.table.sum(0, keepdims=True))[0]
    span = evaluation.scores["span"]
    for name, value in zip(["micro", "macro", *counts.types], rows, strict=True):
        assert value == pytest.approx(span[name]["f1"])


def test_the_interval_is_that_of_a_loop_over_drawn_abstracts():
    """Each draw scored anew from its sentences' tags, by the metric itself."""
    evaluation = invented(60, 1, documents=12)
    sure = intervals.intervals(evaluation, resamples=80, seed=5)
    units = sure["units"]
    drawn = np.random.default_rng(5).multinomial(units, np.full(units, 1 / units), size=80)
    places = {number: place for place, number in enumerate(sorted(set(evaluation.documents)))}
    scores = []
    for times in drawn:
        chosen = [
            sentence
            for sentence, document in enumerate(evaluation.documents)
            for _ in range(times[places[document]])
        ]
        span = score(*([side[i] for i in chosen] for side in (evaluation.gold, evaluation.predicted)))["span"]
        scores.append([span[name]["f1"] for name in ("micro", "macro")])
    low, high = np.quantile(np.array(scores), [0.025, 0.975], axis=0)
    for place, name in enumerate(("micro", "macro")):
        assert sure["f1"][name]["low"] == pytest.approx(low[place])
        assert sure["f1"][name]["high"] == pytest.approx(high[place])


def test_what_cannot_vary_has_no_width_and_fewer_abstracts_a_greater_one():
    right = invented(50, 2, documents=10, errors=0)
    assert {(row["low"], row["high"]) for row in intervals.intervals(right)["f1"].values()} == {(1, 1)}
    by_abstract = intervals.intervals(invented(300, 3, documents=6))
    by_sentence = intervals.intervals(invented(300, 3, documents=None))
    assert by_sentence["unit"] == "sentences" and by_sentence["units"] == 300
    assert by_abstract["units"] == 6
    assert all(row["low"] <= row["value"] <= row["high"] for row in by_sentence["f1"].values())


def other_model(evaluation: Evaluation, seed: int) -> Evaluation:
    """Another prediction of the same text: some gold sentences are put right."""
    generator = np.random.default_rng(seed)
    predicted = [
        gold if generator.random() < 0.3 else guess
        for gold, guess in zip(evaluation.gold, evaluation.predicted, strict=True)
    ]
    return dataclasses.replace(evaluation, predicted=predicted, scores=score(evaluation.gold, predicted))


def test_the_p_value_is_that_of_every_exchange():
    """With ten abstracts all 1,024 exchanges can be tried."""
    worse = invented(40, 4, documents=10)
    better = other_model(worse, 0)
    result = compare(worse, better, shuffles=20_000)
    kinds = sorted({*count(worse).types, *count(better).types})
    both = np.stack([count(one, kinds).table for one in (worse, better)], axis=1)
    observed = difference(both.sum(0, keepdims=True))[0]
    extreme = 0
    exchanges = list(itertools.product([False, True], repeat=len(both)))
    for swap in exchanges:
        exchanged = np.where(np.array(swap)[:, None, None, None], both[:, ::-1], both)
        extreme += np.abs(difference(exchanged.sum(0, keepdims=True))[0]) >= np.abs(observed) - 1e-12
    for row, times in zip(result["difference"].values(), extreme, strict=True):
        assert row["p"] == pytest.approx(times / len(exchanges), abs=0.02)
    micro = result["difference"]["micro"]
    assert micro["value"] == pytest.approx(
        worse.scores["span"]["micro"]["f1"] - better.scores["span"]["micro"]["f1"]
    )
    assert micro["value"] < 0 and micro["high"] < 0.05


def test_a_model_against_itself_and_the_other_way_round():
    one = invented(80, 5, documents=20)
    other = other_model(one, 1)
    same = compare(one, one, shuffles=200)["difference"]["micro"]
    assert (same["value"], same["low"], same["high"], same["p"]) == (0, 0, 0, 1)
    there, back = compare(one, other, shuffles=500), compare(other, one, shuffles=500)
    for name, row in there["difference"].items():
        assert row["value"] == pytest.approx(-back["difference"][name]["value"])
        assert row["low"] == pytest.approx(-back["difference"][name]["high"])


@pytest.mark.parametrize("documents", [None, 7])
def test_a_prediction_file_keeps_its_abstracts(documents, tmp_path):
    evaluation = invented(30, 6, documents)
    (tmp_path / "p.tsv").write_text(format_predictions(evaluation))
    read = read_predictions(tmp_path / "p.tsv")
    assert (read.words, read.gold, read.predicted) == (
        evaluation.words,
        evaluation.gold,
        evaluation.predicted,
    )
    numbers = {number: place for place, number in enumerate(sorted(set(evaluation.documents or [])))}
    assert read.documents == ([numbers[one] for one in evaluation.documents] if documents else None)


def test_a_thousand_draws_of_a_test_set_like_jnlpbas_take_seconds():
    evaluation = invented(4000, 7, documents=404)
    start = time.perf_counter()
    intervals.intervals(evaluation, resamples=1000)
    assert time.perf_counter() - start < 5


def test_the_command(tmp_path, capsys):
    one = invented(40, 8, documents=8)
    paths = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    for path, evaluation in zip(paths, (one, other_model(one, 2)), strict=True):
        path.write_text(format_predictions(evaluation))
    assert intervals.main([str(paths[0]), "--resamples", "150"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == intervals.intervals(read_predictions(paths[0]), resamples=150)
    assert "only 8 abstracts" in captured.err
    for resamples in ("1", "1000000000000"):
        assert intervals.main([str(paths[0]), "--resamples", resamples]) == 2
        assert "expected 100 to 100,000" in capsys.readouterr().err
    assert intervals.main([str(path) for path in paths]) == 0
    assert {"micro", "macro"} <= set(json.loads(capsys.readouterr().out)["difference"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("w0\tO\tO\n\n", "sentences"),
        ("", "found no sentence"),
        ("w0 O O\n", "found 1 columns"),
        (None, "expected a UTF-8 prediction file"),
    ],
)
def test_files_that_do_not_fit_are_refused(content, complaint, tmp_path, capsys):
    one = invented(5, 9, documents=2)
    (tmp_path / "a.tsv").write_text(format_predictions(one))
    if content is not None:
        (tmp_path / "b.tsv").write_text(content)
    first = [tmp_path / "a.tsv"] if complaint == "sentences" else []
    assert intervals.main([str(path) for path in [*first, tmp_path / "b.tsv"]]) == 2
    message = capsys.readouterr().err
    assert complaint in message and message.startswith("intervals.py: error: ")


def test_two_texts_or_two_golds_are_not_compared():
    one = invented(5, 10, documents=2)
    words = [["other", *row[1:]] for row in one.words]
    with pytest.raises(ValueError, match="sentence 1 has other words"):
        on_same_text(one, dataclasses.replace(one, words=words))
    with pytest.raises(ValueError, match="sentence 5 has other gold tags"):
        gold = [*one.gold[:-1], ["B-other"] * len(one.gold[-1])]
        on_same_text(one, dataclasses.replace(one, gold=gold))


def test_abstracts_are_those_of_the_file_that_marks_them_and_may_not_disagree():
    one = invented(40, 11, documents=8)
    other = dataclasses.replace(other_model(one, 3), documents=None)
    expected = compare(one, dataclasses.replace(other, documents=one.documents), shuffles=100)
    assert compare(one, other, shuffles=100) == expected and expected["unit"] == "abstracts"
    assert "too few" in expected["note"]
    moved = dataclasses.replace(one, documents=[0, *one.documents[:-1]])
    with pytest.raises(ValueError, match="abstracts end after other sentences"):
        compare(one, moved)
