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
from metrics import entities as parse_tags
from metrics import score as score_tags
from ner_recipe.decoding import (
    best_min_score,
    first_subtokens,
    joint_decoding,
    leave_out,
)
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


def every_sequence(subtokens: list[np.ndarray], names) -> dict[tuple[str, ...], float]:
    """The probability of each valid sequence of tags of one sentence, labelled as in training."""
    sequences = {}
    for tags in filter(is_valid, itertools.product(names, repeat=len(subtokens))):
        sequences[tags] = np.exp(
            sum(
                sum(row[names.index(tag if place == 0 else continued(tag))] for place, row in enumerate(rows))
                for tag, rows in zip(tags, subtokens, strict=True)
            )
        )
    return sequences


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=sizes_of_sentences, names=st.permutations(TWO_TYPES), seed=st.integers(0, 2**32 - 1))
def test_joint_decoding_finds_what_trying_every_sequence_finds(sizes, names, seed):
    words = words_of(sizes, len(names), seed)
    ids, entities = joint_decoding(words, names)
    subtokens = np.split(words.values, words.starts)[1:]
    of_sentences = words.by_sentence(np.arange(len(ids)))
    found = iter(zip(*entities, strict=True))
    for sentence, tags in zip(of_sentences, words.by_sentence(ids), strict=True):
        sequences = every_sequence([subtokens[word] for word in sentence], names)
        by_first = every_sequence([subtokens[word][:1] for word in sentence], names)
        tags = tuple(names[tag] for tag in tags)
        assert tags == max(sequences, key=sequences.get)
        for entity in sorted(parse_tags(tags), key=lambda entity: entity[1]):
            with_it = sum(value for other, value in by_first.items() if entity in parse_tags(other))
            expected = (sentence[0] + entity[1], sentence[0] + entity[2], with_it / sum(by_first.values()))
            assert next(found) == pytest.approx(expected)
    assert next(found, None) is None

    ids, probabilities = first_subtokens(words)
    firsts = [rows[0] for rows in subtokens]
    assert ids.tolist() == [row.argmax() for row in firsts]
    assert probabilities.tolist() == pytest.approx([np.exp(row.max()) for row in firsts])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 6), max_size=5),
    scores=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**32 - 1),
)
def test_min_score_is_the_best_of_all_choices(lengths, scores, seed):
    sizes = [[1] * length for length in lengths]
    words, others = (words_of(sizes, len(TWO_TYPES), seed + more) for more in (0, 1))
    ids, found = joint_decoding(words, TWO_TYPES)
    found = found._replace(scores=np.array([scores.random() for _ in found.scores]))
    gold = np.where(np.arange(len(ids)) % 3 == 0, joint_decoding(others, TWO_TYPES)[0], ids)
    gold = joint_decoding(one_hot(gold, lengths), TWO_TYPES)[0]  # valid again

    def f1(least: float) -> float:
        kept = leave_out(ids, found, least, TWO_TYPES)
        predicted, right = (words.by_sentence(np.array(TWO_TYPES)[tags]) for tags in (kept, gold))
        entities = zip(found.first, found.end, found.scores, strict=True)
        assert all((kept[first:end] == 0).all() == (score < least) for first, end, score in entities)
        return score_tags(right, predicted)["span"]["micro"]["f1"]

    choices = [round(0.05 * step, 2) for step in range(11)]
    assert best_min_score(ids, found, gold, TWO_TYPES) == max(choices, key=f1)


def one_hot(ids, lengths) -> WordValues:
    """Log-probabilities by which these ids are by far the most probable."""
    values = np.full((len(ids), len(TWO_TYPES)), -9.0)
    values[np.arange(len(ids)), ids] = 0
    return WordValues(values, np.arange(len(ids)), np.array(lengths, dtype=np.int64))


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
            score_tags(gold, predicted)["span"]["micro"]["f1"],
            score_tags(gold, predicted)["span_strict"]["micro"]["f1"],
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
