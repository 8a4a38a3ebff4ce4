"""Kinds of error: nervaluate against a naive counter and seqeval, and each kind by example.

python -m pytest tests/test_error_analysis.py
"""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import entities
from ner_recipe.reports.error_analysis import (
    KINDS,
    by_entity_length,
    by_seen,
    by_sentence_length,
    kind_counts,
    nervaluate_counts,
    sentence_errors,
    span_confusion,
    word_confusion,
)
from ner_recipe.reports.result import SplitResult, make_result

TAGS = ["O", "B-DNA", "I-DNA", "B-protein", "I-protein"]
sentence = st.integers(1, 9).flatmap(
    lambda size: st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=size, max_size=size)] * 2)
)


def result_of(pairs) -> SplitResult:
    gold, predicted = [list(pair[0]) for pair in pairs], [list(pair[1]) for pair in pairs]
    words = [[f"word{place}" for place in range(len(tags))] for tags in gold]
    return make_result(words, gold, predicted)


def naive_strict(pairs) -> dict[str, int]:
    """correct, incorrect, missed, spurious by crossing entities off two lists, a sentence at a time."""
    counts = Counter()
    for gold_tags, predicted_tags in pairs:
        gold = sorted(entities(gold_tags), key=lambda entity: entity[1])
        for entity in sorted(entities(predicted_tags), key=lambda entity: entity[1]):
            words = set(range(entity[1], entity[2]))
            touching = [other for other in gold if words & set(range(other[1], other[2]))]
            if entity in gold:
                counts["correct"] += 1
                gold.remove(entity)
            elif touching:
                counts["incorrect"] += 1
                gold.remove(touching[0])
            else:
                counts["spurious"] += 1
        counts["missed"] += len(gold)
    return counts


@settings(deadline=None)
@given(st.lists(sentence, min_size=1, max_size=6))
def test_nervaluate_counts_as_a_naive_counter_and_seqeval_do(pairs):
    result = result_of(pairs)
    found = nervaluate_counts(result)
    strict, micro = found["strict"], result.scores["span"]["micro"]
    naive = naive_strict(pairs)
    assert {name: strict[name] for name in ("correct", "incorrect", "missed", "spurious")} == {
        name: naive[name] for name in ("correct", "incorrect", "missed", "spurious")
    }
    assert strict["correct"] == micro["correct"]
    assert found["exact"]["correct"] == result.scores["untyped"]["micro"]["correct"]
    for row in found.values():
        known = row["correct"] + row["incorrect"] + row["partial"]
        assert known + row["missed"] == micro["support"]
        assert known + row["spurious"] == micro["predicted"]
    # Our own kinds, which the error browser shows, are the same errors.
    all_errors = [error for gold, predicted in result.spans for error in sentence_errors(gold, predicted)]
    kinds = kind_counts(result)
    assert (kinds["missed"], kinds["spurious"]) == (strict["missed"], strict["spurious"])
    assert len(all_errors) == strict["incorrect"] + strict["missed"] + strict["spurious"]


@settings(deadline=None)
@given(st.lists(sentence, min_size=2, max_size=6), st.randoms())
def test_sentences_do_not_touch_each_other(pairs, random):
    counts = nervaluate_counts(result_of(pairs))
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert nervaluate_counts(result_of(shuffled)) == counts
    apart = [nervaluate_counts(result_of([pair])) for pair in pairs]
    for reading, row in counts.items():
        assert row == {name: sum(part[reading][name] for part in apart) for name in row}


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ("B I O O O", "O O O O O", [("missed",)]),
        ("O O O O O", "O B I O O", [("spurious",)]),
        ("B I O O O", "B I I O O", [("too long",)]),
        ("O B I O O", "B I I O O", [("too long",)]),
        ("B I I O O", "O B I O O", [("too short",)]),
        ("B I I O O", "O O B I O", [("shifted",)]),
        ("B I O O O", "b i O O O", [("wrong type",)]),
        ("B I O O O", "b i i O O", [("wrong type", "too long")]),
        ("B I I I O", "B O b i O", [("too short",), ("spurious",)]),
        ("B B I O O", "B I I O O", [("too long",), ("missed",)]),
        ("B I O B I", "B I O B I", []),
    ],
)
def test_each_kind(gold, predicted, kinds):
    spelled = {"B": "B-DNA", "I": "I-DNA", "b": "B-protein", "i": "I-protein", "O": "O"}
    sides = [entities([spelled[letter] for letter in side.split()]) for side in (gold, predicted)]
    assert [error.kinds for error in sentence_errors(*sides)] == kinds
    assert {kind for error in kinds for kind in error} <= set(KINDS)


@settings(deadline=None)
@given(st.lists(sentence, min_size=1, max_size=6))
def test_groups_and_tables_add_up_to_the_whole(pairs):
    result = result_of(pairs)
    micro = result.scores["span"]["micro"]
    groups = (
        by_entity_length(result),
        by_sentence_length(result),
        by_seen(result, {"word0", "word1 word2"}),
    )
    for rows in groups:
        for name in ("support", "predicted", "correct"):
            assert sum(row[name] for row in rows.values()) == micro[name]
    types, table = span_confusion(result)
    assert len(table) == len(types) + 1
    assert sum(map(sum, table[:-1])) == micro["support"]
    assert sum(sum(row[:-1]) for row in table) == micro["predicted"]
    labels, counts = word_confusion(result)
    right = sum(counts[place][place] for place in range(len(labels)))
    assert right / result.scores["words"] == pytest.approx(result.scores["accuracy"])
