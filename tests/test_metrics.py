"""metrics.py against seqeval, scikit-learn and naive loops; invariance and speed.

python -m pytest tests/test_metrics.py
"""

import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import seqeval.metrics
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2

from metrics import NerScores, score

ROOT = Path(__file__).parent.parent
SPAN_SECTIONS = ("span", "span_strict", "left_boundary", "right_boundary", "untyped")
AVERAGES = ("micro", "macro", "weighted")
TAGS = ("O", *(f"{prefix}-{kind}" for kind in ("protein", "cell_line", "a-b") for prefix in "BI"))

repeatable = settings(derandomize=True, deadline=None, max_examples=80)
tags = st.sampled_from(TAGS)
# A word's gold and predicted tag, equal in about half of the words, so that entities are found at all.
tag_pairs = st.tuples(tags, st.none() | tags).map(lambda pair: (pair[0], pair[1] or pair[0]))
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(
    lambda word: not any(letter.isspace() for letter in word)
)


def sides(pairs: list[list[tuple[str, str]]]) -> tuple[list[list[str]], list[list[str]]]:
    """Sentences of (gold, predicted) -> gold sentences, predicted sentences."""
    return [[g for g, _ in row] for row in pairs], [[p for _, p in row] for row in pairs]


corpora = st.lists(st.lists(tag_pairs, max_size=9), min_size=1, max_size=5).map(sides)


def naive_entities(sentence: list[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) as conlleval reads them: an I- of another type than before it begins."""
    found = []
    for i, tag in enumerate(sentence):
        before = sentence[i - 1] if i else "O"
        if tag == "O" or (tag[0] == "I" and before[2:] == tag[2:]):
            continue
        last = i
        while last + 1 < len(sentence) and sentence[last + 1] == "I-" + tag[2:]:
            last += 1
        found.append((tag[2:], i, last))
    return found


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# Differential: the same numbers as the libraries that others report with.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # seqeval takes the mean of no types
@pytest.mark.parametrize(
    ("section", "options"),
    [("span", {}), ("span_strict", {"mode": "strict", "scheme": IOB2})],
    ids=["default", "strict"],
)
@repeatable
@given(corpora)
@example(([["I-a-b", "B-a-b", "I-a-b"]], [["B-a-b", "B-a-b", "I-protein"]]))
def test_spans_score_as_in_seqeval(section, options, corpus):
    gold, predicted = corpus
    expected = seqeval.metrics.classification_report(
        gold, predicted, output_dict=True, zero_division=0, **options
    )
    found = score(gold, predicted)[section]
    assert {*found} == {name.removesuffix(" avg") for name in expected}
    for name, row in expected.items():
        ours = found[name.removesuffix(" avg")]
        for key, value in row.items():
            # seqeval's macro average of no type at all is NaN; ours is 0.
            value = 0 if math.isnan(value) else value
            assert ours["f1" if key == "f1-score" else key] == pytest.approx(value, abs=1e-12), (name, key)


@repeatable
@given(corpora)
def test_words_score_as_in_scikit_learn(corpus):
    gold, predicted = corpus
    scores = score(gold, predicted)
    flat = [sum(side, []) for side in corpus]
    assert scores["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(*flat) if flat[0] else 0)
    labels = sorted({*flat[0], *flat[1]} - {"O"})
    assert {*scores["word"]} == {*labels, *AVERAGES}
    if not labels:
        assert all(value == 0 for row in scores["word"].values() for value in row.values())
        return

    def scikit_learn(average):
        return sklearn.metrics.precision_recall_fscore_support(
            *flat, labels=labels, average=average, zero_division=0
        )

    for label, *row in zip(labels, *scikit_learn(None), strict=True):
        assert [*scores["word"][label].values()] == pytest.approx(row)
    for average in AVERAGES:
        row = [*scikit_learn(average)[:3], sum(tag != "O" for tag in flat[0])]
        assert [*scores["word"][average].values()] == pytest.approx(row)


@pytest.mark.parametrize(
    ("section", "agree"),
    [
        ("span", lambda a, b: a == b),
        ("left_boundary", lambda a, b: a[0] == b[0] and a[1] == b[1]),
        ("right_boundary", lambda a, b: a[0] == b[0] and a[2] == b[2]),
        ("untyped", lambda a, b: a[1] == b[1] and a[2] == b[2]),
    ],
    ids=["span", "left_boundary", "right_boundary", "untyped"],
)
@repeatable
@given(corpora)
def test_looser_scores_count_as_a_naive_loop_does(section, agree, corpus):
    correct = predicted = support = 0
    for gold_tags, predicted_tags in zip(*corpus, strict=True):
        gold_entities, found = naive_entities(gold_tags), naive_entities(predicted_tags)
        support += len(gold_entities)
        predicted += len(found)
        correct += sum(any(agree(g, p) for p in found) for g in gold_entities)
    scores = score(*corpus)
    assert scores["entities"] == support
    micro = scores[section]["micro"]
    assert (micro["correct"], micro["predicted"], micro["support"]) == (correct, predicted, support)
    assert micro["precision"] == pytest.approx(correct / max(1, predicted))
    assert micro["recall"] == pytest.approx(correct / max(1, support))
    assert micro["f1"] == pytest.approx(2 * correct / max(1, predicted + support))


@repeatable
@given(corpora, corpora, st.randoms(use_true_random=False))
def test_counts_add_and_order_does_not_matter(one, two, rng):
    parts = [score(*one), score(*two)]
    both = [a + b for a, b in zip(one, two, strict=True)]
    whole = score(*both)
    for key in ("sentences", "words", "entities"):
        assert whole[key] == sum(part[key] for part in parts)
    for section, keys in [
        *((section, ("correct", "predicted", "support")) for section in SPAN_SECTIONS),
        ("word", ("support",)),
    ]:
        names = {*parts[0][section], *parts[1][section]}
        assert {*whole[section]} == names
        for name in names:
            for key in keys if name not in ("macro", "weighted") else ("support",):
                expected = sum(part[section].get(name, {}).get(key, 0) for part in parts)
                assert whole[section][name].get(key, 0) == expected, (section, name, key)

    order = list(range(whole["sentences"]))
    rng.shuffle(order)
    assert score(*([side[i] for i in order] for side in both)) == whole

    swapped = score(*both[::-1])
    for section in SPAN_SECTIONS:
        micro, mirrored = whole[section]["micro"], swapped[section]["micro"]
        assert (micro["precision"], micro["recall"]) == (mirrored["recall"], mirrored["precision"])
        assert micro["f1"] == mirrored["f1"]


# The metric as `evaluate` users call it, and what it refuses.


@pytest.mark.parametrize(
    "corpus",
    [
        ([], []),
        ([[]], [[]]),
        ([["O", "O"], []], [["O", "O"], []]),
        ([["B-a", "I-a"], [], ["O"]], [["B-a", "O"], [], ["I-b"]]),
    ],
    ids=["no sentence", "empty sentence", "no entity", "some"],
)
def test_compute_equals_score(corpus, tmp_path):
    gold, predicted = corpus
    expected = score(gold, predicted)
    assert NerScores(cache_dir=str(tmp_path)).compute(predictions=predicted, references=gold) == expected
    assert expected["sentences"] == len(gold)
    assert expected["words"] == sum(map(len, gold))
    if not any(tag != "O" for tags in predicted for tag in tags):
        assert all(
            value == 0
            for section in (*SPAN_SECTIONS, "word")
            for row in expected[section].values()
            for value in row.values()
        )
    json.dumps(expected)  # plain numbers only


def test_compute_needs_no_network(tmp_path):
    program = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"the metric asks the network: {event} {args[1:]}")

sys.addaudithook(refuse)
from metrics import NerScores, score
gold, predicted = [["B-a", "I-a", "O"], []], [["B-a", "O", "I-b"], []]
metric = NerScores()
assert metric.compute(predictions=predicted, references=gold) == score(gold, predicted)
for one, other in zip(gold, predicted):
    metric.add(reference=one, prediction=other)
assert metric.compute() == score(gold, predicted)
print("scored")
"""
    caches = {name: str(tmp_path) for name in ("HF_HOME", "HF_DATASETS_CACHE", "HF_EVALUATE_CACHE", "HOME")}
    environment = {**os.environ, **caches, "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):  # no setting shall be what keeps it offline
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "scored\n"), done.stderr


@pytest.mark.parametrize("through", ["score", "compute"])
def test_sides_that_do_not_pair_up_are_refused(through, tmp_path):
    def evaluate(gold, predicted):
        if through == "score":
            return score(gold, predicted)
        return NerScores(cache_dir=str(tmp_path)).compute(predictions=predicted, references=gold)

    with pytest.raises(ValueError, match="sentence 2: found 1 predicted tags for 2 gold"):
        evaluate([["O"], ["O", "O"], ["O"]], [["O"], ["O"], ["O"]])
    for predicted in (1, 5, 0):
        with pytest.raises(ValueError, match=rf"\b{predicted}\b.*\b3\b"):
            evaluate([["O"]] * 3, [["O"]] * predicted)


@pytest.mark.parametrize("tag", ["S-protein", "E-DNA", "B-", "I", "B", "protein", "", "0", "b-DNA", "B_DNA"])
def test_tags_that_are_not_iob2_are_refused_by_name(tag):
    for gold, predicted in [(tag, "O"), ("O", tag)]:
        with pytest.raises(ValueError, match=f"'{tag}'.*IOB2"):
            score([["O", gold]], [["O", predicted]])


def test_a_corpus_of_the_size_of_jnlpba_test_scores_in_seconds():
    rng = random.Random(0)
    sentences, words = 3856, 101_039
    cuts = [0, *sorted(rng.sample(range(1, words), sentences - 1)), words]
    corpus = [
        [rng.choices(TAGS, k=end - start) for start, end in zip(cuts, cuts[1:], strict=False)]
        for _ in ("gold", "predicted")
    ]
    begin = time.process_time()  # not the wall clock: other programs may be running
    scores = score(*corpus)
    seconds = time.process_time() - begin
    assert (scores["sentences"], scores["words"]) == (sentences, words)
    assert seconds < 3
