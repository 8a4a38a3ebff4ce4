"""Decoding: joint decoding finds what trying every sequence finds, and one number for every scorer.

python -m pytest tests/test_decoding.py
"""

import itertools
import time

import conlleval
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from jnlpba_dataset import LABELS, WordValues
from metrics import score
from ner_recipe.decoding import first_subtokens, joint_decoding
from ner_recipe.reports.predictions import format_predictions
from ner_recipe.reports.result import make_result

TWO_TYPES = ("O", "B-x", "I-x", "B-y", "I-y")
sizes_of_sentences = st.lists(st.lists(st.integers(1, 3), max_size=4), max_size=4)  # subtokens by word


def words_of(sizes, labels: int, seed: int) -> WordValues:
    """Random log-probabilities for sentences of words with these numbers of subtokens."""
    flat = np.array([size for sentence in sizes for size in sentence], dtype=np.int64)
    logits = np.random.default_rng(seed).normal(scale=2, size=(flat.sum(), labels))
    values = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    lengths = np.array(list(map(len, sizes)), dtype=np.int64)
    return WordValues(values.astype(np.float32), np.cumsum(flat) - flat, lengths)


def is_valid(tags) -> bool:
    """Whether each I- continues an entity of its type."""
    return all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in itertools.pairwise(["O", *tags]))


def continued(tag: str) -> str:
    return tag.replace("B-", "I-")


def best_by_trying(subtokens: list[np.ndarray], names) -> list[str]:
    """The valid tags of one sentence whose subtokens, each labelled as in training, are the most probable."""
    best = max(
        filter(is_valid, itertools.product(names, repeat=len(subtokens))),
        key=lambda tags: sum(
            sum(row[names.index(tag if place == 0 else continued(tag))] for place, row in enumerate(rows))
            for tag, rows in zip(tags, subtokens, strict=True)
        ),
    )
    return list(best)


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=sizes_of_sentences, names=st.permutations(TWO_TYPES), seed=st.integers(0, 2**32 - 1))
def test_joint_decoding_finds_what_trying_every_sequence_finds(sizes, names, seed):
    words = words_of(sizes, len(names), seed)
    ids, probabilities = joint_decoding(words, names)
    subtokens = np.split(words.values, words.starts)[1:]
    of_sentences = words.by_sentence(np.arange(len(ids)))
    expected = [best_by_trying([subtokens[word] for word in sentence], names) for sentence in of_sentences]
    assert [[names[tag] for tag in tags] for tags in words.by_sentence(ids)] == expected
    for word, tag in enumerate(ids):
        labels = [names[tag], *[continued(names[tag])] * (len(subtokens[word]) - 1)]
        rows = zip(subtokens[word], labels, strict=True)
        log_probabilities = [row[names.index(label)] for row, label in rows]
        assert probabilities[word] == pytest.approx(np.exp(np.mean(log_probabilities)), rel=1e-5)

    ids, probabilities = first_subtokens(words)
    firsts = [rows[0] for rows in subtokens]
    assert ids.tolist() == [row.argmax() for row in firsts]
    assert probabilities.tolist() == pytest.approx([np.exp(row.max()) for row in firsts])


def test_every_scorer_agrees_on_valid_sequences():
    """conlleval, seqeval and strict IOB2 differ only where an entity starts with I-."""
    rng = np.random.default_rng(1)
    sizes = [[rng.integers(1, 4) for _ in range(rng.integers(1, 30))] for _ in range(200)]
    words = words_of(sizes, len(LABELS), seed=2)
    texts = words.by_sentence(np.arange(len(words.starts)).astype(str))
    gold = words.by_sentence(
        np.array(LABELS)[joint_decoding(words_of(sizes, len(LABELS), seed=3), LABELS)[0]]
    )
    scores = {}
    for name, ids in (("joint", joint_decoding(words, LABELS)[0]), ("first", first_subtokens(words)[0])):
        predicted = words.by_sentence(np.array(LABELS)[ids])
        # A quarter of the sentences is right, or all scores would be close to 0.
        predicted = [
            right if row % 4 == 0 else tags
            for row, (right, tags) in enumerate(zip(gold, predicted, strict=True))
        ]
        lines = format_predictions(make_result(texts, gold, predicted, resamples=100)).split("\n")
        scores[name] = [
            score(gold, predicted)["span"]["micro"]["f1"],
            score(gold, predicted)["span_strict"]["micro"]["f1"],
            f1_score(gold, predicted),
            f1_score(gold, predicted, mode="strict", scheme=IOB2),
            conlleval.evaluate(lines, boundary="\n")["overall"]["chunks"]["evals"]["f1"],
        ]
    assert 0.1 < scores["joint"][0] < 0.9
    assert scores["joint"] == pytest.approx([scores["joint"][0]] * 5)
    assert scores["first"][0] != pytest.approx(scores["first"][1])


def test_a_test_set_is_decoded_in_two_seconds():
    rng = np.random.default_rng(0)
    sizes = [[1 + (word % 3 == 0) for word in range(length)] for length in rng.integers(1, 52, size=3_900)]
    words = words_of(sizes, len(LABELS), seed=0)
    assert len(words.starts) > 95_000
    start = time.perf_counter()
    joint_decoding(words, LABELS)
    assert time.perf_counter() - start < 2
