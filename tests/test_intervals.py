"""Intervals and comparisons: against loops that recount every draw, and what must hold of any.

python -m pytest tests/test_intervals.py
"""

import dataclasses
import itertools
import time

import numpy as np
import pytest

from metrics import score
from ner_recipe.reports.comparison import compare, difference, shared_documents
from ner_recipe.reports.intervals import bootstrap, count, score_rows
from ner_recipe.reports.result import SplitResult, make_result

KINDS = ("DNA", "RNA", "protein")


def invented(sentences: int, seed: int, documents: int | None, errors: float = 0.3) -> SplitResult:
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
    return make_result(words, gold, predicted, documents=numbers)


def test_counts_add_up_to_the_scores():
    result = invented(200, 0, documents=30)
    counts = count(result.spans, result.documents)
    assert counts.unit == "documents" and len(counts.table) == len(set(result.documents))
    rows = score_rows(counts.table.sum(0, keepdims=True))[0]
    span = result.scores["span"]
    for name, value in zip(["micro", "macro", *counts.types], rows, strict=True):
        assert value == pytest.approx(span[name]["f1"])


def test_the_interval_is_that_of_a_loop_over_drawn_documents():
    """Each draw scored anew from its sentences' tags, by the metric itself."""
    result = invented(60, 1, documents=12)
    interval = bootstrap(result.spans, result.documents, resamples=80, seed=5)
    units = interval["units"]
    drawn = np.random.default_rng(5).multinomial(units, np.full(units, 1 / units), size=80)
    places = {number: place for place, number in enumerate(sorted(set(result.documents)))}
    scores = []
    for times in drawn:
        chosen = [
            sentence
            for sentence, document in enumerate(result.documents)
            for _ in range(times[places[document]])
        ]
        span = score(*([side[i] for i in chosen] for side in (result.gold, result.predicted)))["span"]
        scores.append([span[name]["f1"] for name in ("micro", "macro")])
    low, high = np.quantile(np.array(scores), [0.025, 0.975], axis=0)
    for place, name in enumerate(("micro", "macro")):
        assert interval["f1"][name]["low"] == pytest.approx(low[place])
        assert interval["f1"][name]["high"] == pytest.approx(high[place])


def test_what_cannot_vary_has_no_width_and_fewer_documents_a_greater_one():
    right = invented(50, 2, documents=10, errors=0)
    assert {(row["low"], row["high"]) for row in right.intervals["f1"].values()} == {(1, 1)}
    by_document = invented(300, 3, documents=6).intervals
    by_sentence = invented(300, 3, documents=None).intervals
    assert by_sentence["unit"] == "sentences" and by_sentence["units"] == 300
    assert by_document["units"] == 6
    assert "documents are unknown" in by_sentence["note"]
    assert "only one document" in invented(30, 3, documents=1).intervals["note"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in by_sentence["f1"].values())


def other_model(result: SplitResult, seed: int) -> SplitResult:
    """Another prediction of the same text: some gold sentences are put right."""
    generator = np.random.default_rng(seed)
    predicted = [
        gold if generator.random() < 0.3 else guess
        for gold, guess in zip(result.gold, result.predicted, strict=True)
    ]
    return make_result(result.words, result.gold, predicted, documents=result.documents)


def test_the_p_value_is_that_of_every_exchange():
    """With ten abstracts all 1,024 exchanges can be tried."""
    worse = invented(40, 4, documents=10)
    better = other_model(worse, 0)
    result = compare(worse, better, shuffles=20_000)
    counted = [count(one.spans, one.documents) for one in (worse, better)]
    kinds = sorted({*counted[0].types, *counted[1].types})
    both = np.stack([count(one.spans, one.documents, kinds).table for one in (worse, better)], axis=1)
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


def test_a_thousand_draws_of_a_test_set_like_jnlpbas_take_seconds():
    result = invented(4000, 7, documents=404)
    start = time.perf_counter()
    bootstrap(result.spans, result.documents, resamples=1000)
    assert time.perf_counter() - start < 5


def test_two_texts_or_two_golds_are_not_compared():
    one = invented(5, 10, documents=2)
    words = [["other", *row[1:]] for row in one.words]
    with pytest.raises(ValueError, match="the words of sentence 1 differ"):
        shared_documents(one, dataclasses.replace(one, words=words))
    with pytest.raises(ValueError, match="the gold tags of sentence 5 differ"):
        gold = [*one.gold[:-1], ["B-other"] * len(one.gold[-1])]
        shared_documents(one, dataclasses.replace(one, gold=gold))


def test_documents_are_those_of_the_result_that_knows_them_and_may_not_disagree():
    one = invented(40, 11, documents=8)
    other = dataclasses.replace(other_model(one, 3), documents=None)
    expected = compare(one, dataclasses.replace(other, documents=one.documents), shuffles=100)
    assert compare(one, other, shuffles=100) == expected and expected["unit"] == "documents"
    assert "too few" in expected["note"]
    moved = dataclasses.replace(one, documents=[0, *one.documents[:-1]])
    with pytest.raises(ValueError, match="documents end after different sentences"):
        compare(one, moved)
