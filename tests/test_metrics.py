"""metrics.py against seqeval, scikit-learn, conlleval and naive loops; its files, command line and speed.

python -m pytest tests/test_metrics.py
"""

import dataclasses
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import conlleval
import pytest
import seqeval.metrics
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2

from metrics import Evaluation, NerScores, PredictionFileError, format_predictions, read_predictions, score

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
@given(st.lists(st.lists(st.tuples(words, tag_pairs), min_size=1, max_size=9), min_size=1, max_size=5))
def test_conlleval_reads_the_prediction_file_and_agrees(sentences):
    gold, predicted = sides([[pair for _, pair in row] for row in sentences])
    scores = score(gold, predicted)
    text = format_predictions(
        Evaluation([[word for word, _ in row] for row in sentences], gold, predicted, {})
    )
    # The boundary can't be a word: no word holds white space.
    reference = conlleval.evaluate(text.split("\n"), boundary="\n")

    rows = {"micro": reference["overall"]["chunks"], **reference["slots"]["chunks"]}
    for name, row in rows.items():
        stats = row["stats"]
        ours = scores["span"].get(name, {"correct": 0, "predicted": 0, "support": 0})
        assert (ours["correct"], ours["predicted"], ours["support"]) == (
            stats["correct"],
            stats["pred"],
            stats["gold"],
        )
        if stats["pred"] and stats["gold"]:
            assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(
                [row["evals"][key] for key in ("prec", "rec", "f1")]
            )
    assert scores["words"] == reference["overall"]["tags"]["stats"]["gold"]


# Invariance: counts add, order and direction do not matter.


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

    with pytest.raises(ValueError, match="sentence 1: found 1 predicted tags for 2 gold"):
        evaluate([["O"], ["O", "O"], ["O"]], [["O"], ["O"], ["O"]])
    for predicted in (1, 5, 0):
        with pytest.raises(ValueError, match=rf"\b{predicted}\b.*\b3\b"):
            evaluate([["O"]] * 3, [["O"]] * predicted)


@pytest.mark.parametrize("tag", ["S-protein", "E-DNA", "B-", "I", "B", "protein", "", "0", "b-DNA", "B_DNA"])
def test_tags_that_are_not_iob2_are_refused_by_name(tag):
    for gold, predicted in [(tag, "O"), ("O", tag)]:
        with pytest.raises(ValueError, match=f"'{tag}'.*IOB2"):
            score([["O", gold]], [["O", predicted]])


# The prediction file.


@repeatable
@given(st.lists(st.lists(st.tuples(words, tag_pairs), min_size=1, max_size=9), max_size=5))
def test_prediction_file_round_trip(tmp_path_factory, sentences):
    gold, predicted = sides([[pair for _, pair in row] for row in sentences])
    evaluation = Evaluation(
        [[word for word, _ in row] for row in sentences], gold, predicted, score(gold, predicted)
    )
    path = tmp_path_factory.getbasetemp() / "predictions.tsv"
    text = format_predictions(evaluation)
    assert read_predictions(write(path, text)) == evaluation
    # Hand-edited files: Windows line ends, more blank lines (which end abstracts), none at the end.
    edited = "\n" + text.replace("\n\n", "\n\n\n").rstrip("\n")
    read = read_predictions(write(path, edited.replace("\n", "\r\n")))
    assert dataclasses.replace(read, documents=None) == evaluation
    assert read.documents == (list(range(len(sentences))) if len(sentences) > 1 else None)


@pytest.mark.parametrize(
    ("line", "columns"), [("IL-2\tB-protein", 2), ("IL-2\tO\tO\tO", 4), ("IL-2 O O", 1), (" ", 1)]
)
def test_a_line_without_three_columns_is_refused_with_its_place(tmp_path, line, columns):
    path = write(tmp_path / "bad.tsv", f"the\tO\tO\n\nof\tO\tO\n{line}\n")
    with pytest.raises(PredictionFileError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}:4: found {columns} columns; expected 3")


def test_files_that_cannot_be_scored_are_refused_by_name(tmp_path):
    (tmp_path / "latin1.tsv").write_bytes("TNF\u00ad\tO\tO\n".encode("latin-1"))
    write(tmp_path / "tags.tsv", "TNF\tO\tS-protein\n")
    expected = {"latin1.tsv": "UTF-8", "tags.tsv": "'S-protein'", "missing.tsv": "No such file"}
    for name, reason in expected.items():
        with pytest.raises(PredictionFileError) as caught:
            read_predictions(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}:")
        assert reason in message
        assert "\n" not in message


def test_command_line(tmp_path):
    gold = [["B-DNA", "I-DNA", "O"], ["O", "B-protein"]]
    predicted = [["B-DNA", "O", "I-RNA"], ["O", "B-protein"]]
    words = [["NF-\u03baB", "site", "."], ["the", "p53"]]
    text = format_predictions(Evaluation(words, gold, predicted, {}))
    paths = [write(tmp_path / "good.tsv", text), write(tmp_path / "bad.tsv", "the\tO\n")]
    runs = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "metrics.py"), str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in paths
    ]
    (good, errors), (nothing, refusal) = [run.communicate() for run in runs]

    assert runs[0].returncode == 0, errors
    assert json.loads(good) == score(gold, predicted)

    assert (runs[1].returncode, nothing) == (2, "")
    assert f"{paths[1]}:1: found 2 columns" in refusal
    assert len(refusal.splitlines()) == 1, refusal


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
