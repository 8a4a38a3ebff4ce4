"""Which windows are trained together: each once an epoch, full batches, one plan for all processes.

python -m pytest tests/test_batching.py
"""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from jnlpba_dataset import load_jnlpba
from ner_recipe.arguments import DataArguments
from ner_recipe.batching import (
    ALWAYS,
    LikeLengthBatches,
    RoundedPadding,
    encode_split,
    numbers,
    padded_lengths,
    presentations,
)
from ner_recipe.corpora.splits import Split
from ner_recipe.launch import UsageError

LENGTHS = np.random.default_rng(3).lognormal(3.6, 0.5, 4000).astype(int).clip(4, 256)


def epoch_of(batches: LikeLengthBatches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    planned = list(batches)
    assert len(planned) == len(batches)
    return planned


def share(lengths: np.ndarray, process: int, processes: int, **options) -> LikeLengthBatches:
    return LikeLengthBatches(lengths, 7, process=process, processes=processes, **options)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=12, max_size=150),
    tokens=st.integers(60, 400) | st.none(),
    rows=st.integers(1, 20),
    accumulate=st.integers(1, 4),
    processes=st.integers(1, 3),
    parts=st.integers(1, 2),
)
def test_each_window_is_in_one_batch_of_one_process(lengths, tokens, rows, accumulate, processes, parts):
    lengths = np.array(lengths)
    size = {"tokens": tokens} if tokens else {"rows": rows}
    shown = np.array_split(np.random.default_rng(0).permutation(len(lengths)), parts)
    options = {**size, "accumulate": accumulate, "shown": shown}
    try:
        planned = [share(lengths, process, processes, **options) for process in range(processes)]
    except UsageError as error:
        assert min(map(len, shown)) < processes and "fewer processes" in str(error)  # noqa: PT017
        return
    assert len({len(batches) for batches in planned}) == 1
    for epoch in range(3):
        by_process = [epoch_of(batches, epoch) for batches in planned]
        batches = [batch for batches in by_process for batch in batches]
        rows_seen, expected = Counter(row for batch in batches for row in batch), shown[epoch % parts]
        repeats = max(len(batches) - len(expected), 0)  # an epoch of fewer windows than batches
        assert set(rows_seen) == set(expected) and rows_seen.total() == len(expected) + repeats
        for batch in batches:
            assert 0 < len(batch) * lengths[batch].max() <= tokens if tokens else 0 < len(batch) <= rows
        first_step = {row for batches in by_process for batch in batches[:accumulate] for row in batch}
        longest = lengths[shown[epoch % parts]].max()
        assert longest in lengths[list(first_step)], "the first step shows whether the memory suffices"


def test_the_plan_depends_on_seed_and_epoch_alone():
    batches = LikeLengthBatches(LENGTHS, 7, tokens=1400)
    torch.manual_seed(1)
    np.random.seed(1)
    first = epoch_of(batches, 0)
    torch.manual_seed(2)  # the global random state, which dropout moves on, plays no part
    np.random.seed(2)
    second = epoch_of(batches, 1)
    assert first == epoch_of(batches, 0) != second == epoch_of(LikeLengthBatches(LENGTHS, 7, tokens=1400), 1)
    assert first != epoch_of(LikeLengthBatches(LENGTHS, 8, tokens=1400), 0)
    together = {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    assert len(together) < len(first) / 4, "windows of one length meet others in the next epoch"


def test_batches_are_full_and_the_steps_are_shuffled():
    planned = epoch_of(LikeLengthBatches(LENGTHS, 7, tokens=1400), 0)
    computed = [len(batch) * LENGTHS[batch].max() for batch in planned]
    assert 1 - LENGTHS.sum() / sum(computed) < 0.03
    longest = [int(LENGTHS[batch].max()) for batch in planned]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_batches_have_few_shapes_and_little_padding(tiny_bert):
    """oneDNN keeps 1,024 compiled matrix products, and a training needs about 15 for each shape of batch."""
    lengths = np.random.default_rng(3).lognormal(3.6, 0.8, 20_000).astype(int).clip(4, 510)
    padded = padded_lengths(lengths, 510)
    planned = epoch_of(LikeLengthBatches(padded, 7, tokens=1400), 0)
    assert len({(len(batch), padded[batch].max()) for batch in planned}) < 80
    assert 1 - lengths.sum() / sum(len(batch) * padded[batch].max() for batch in planned) < 0.03
    collator = RoundedPadding(AutoTokenizer.from_pretrained(tiny_bert, model_max_length=510))
    for batch in planned[:40]:
        rows = [{"input_ids": [1] * lengths[row], "labels": [0] * lengths[row]} for row in batch]
        made = collator(rows)
        assert made["labels"].shape == made["input_ids"].shape == (len(batch), padded[batch].max())
        assert [(row != -100).sum() for row in made["labels"]] == lengths[batch].tolist()


@given(st.lists(st.integers(1, 512), min_size=1), st.integers(1, 512))
def test_a_length_is_rounded_up_by_a_twelfth_at_most(lengths, longest):
    lengths = np.minimum(lengths, longest)
    padded = padded_lengths(lengths, longest)
    assert (lengths <= padded).all() and (padded <= np.minimum(lengths * 13 / 12, longest)).all()
    assert (np.diff(padded[np.argsort(lengths)]) >= 0).all()


def test_processes_share_the_steps_that_one_process_accumulates():
    alone = epoch_of(LikeLengthBatches(LENGTHS, 7, tokens=714, accumulate=4), 1)
    pairs = [epoch_of(share(LENGTHS, process, 2, tokens=714, accumulate=2), 1) for process in (0, 1)]
    steps = [sorted(sum(alone[i : i + 4], [])) for i in range(0, len(alone) - 4, 4)]
    shared = [
        sorted(sum(pairs[0][i : i + 2] + pairs[1][i : i + 2], [])) for i in range(0, len(pairs[0]) - 2, 2)
    ]
    assert steps == shared[: len(steps)] and len(steps) > 50


def test_rows_accumulate_to_the_rows_of_a_large_batch():
    small = epoch_of(LikeLengthBatches(LENGTHS, 7, rows=8, accumulate=4), 2)
    large = epoch_of(LikeLengthBatches(LENGTHS, 7, rows=32), 2)
    assert [sum(small[i : i + 4], []) for i in range(0, len(small), 4)] == large


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tokens": 60}, ["--train_batch_tokens: 60", "longest window, 61 subtokens", "--max_seq_length"]),
        ({"rows": 2, "processes": 4}, ["found 3 windows", "4 processes", "fewer"]),
    ],
)
def test_impossible_batches_are_refused(options, expected):
    with pytest.raises(UsageError) as caught:
        LikeLengthBatches(np.array([10, 61, 30]), 1, **options)
    assert all(words in str(caught.value) for words in expected)


@pytest.fixture(scope="module")
def encoded(tiny_bert, cache_dir):
    """The sample, with one abstract of one sentence and one that is unknown, encoded as --train_on asks."""
    sample = load_jnlpba(name="sample", cache_dir=cache_dir)["train"]
    names = list(sample["document_id"])
    first, last = names.count(names[0]), names.count(names[-1])
    kept = sample.select([0, *range(first, len(sample))])
    known = [*kept["document_id"][:-last], *[None] * last]
    sentences = kept.remove_columns("document_id").add_column("document_id", known)
    split = Split("train", sentences, len(sentences), {})
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)

    def encode_for(train_on: str):
        data_args = DataArguments(train_on=train_on, max_seq_length=256)
        return encode_split(split, "train", data_args, tokenizer, cache_dir).windows

    return sentences, encode_for


def words_of(windows, rows=None) -> int:
    return sum(
        map(len, windows["word_positions"] if rows is None else windows.select(rows)["word_positions"])
    )


def test_sentences_abstracts_and_both_hold_the_words_they_should(encoded):
    sentences, encode_for = encoded
    words = sum(map(len, sentences["tokens"]))
    counts = Counter(sentences["document_id"])
    several = [name for name, count in counts.items() if name is not None and count > 1]
    alone = [row for row in sentences if row["document_id"] not in several]
    of_several = words - sum(len(row["tokens"]) for row in alone)
    assert len(alone) > 2 and len(several) > 20
    by_sentence, whole, both = map(encode_for, ("sentences", "abstracts", "both"))
    assert (words_of(by_sentence), words_of(whole), words_of(both)) == (words, words, words + of_several)
    assert len(set(by_sentence["sentence"])) == len(sentences)
    assert len(set(whole["sentence"])) == len(alone) + len(several)
    assert len(set(both["sentence"])) == len(sentences) + len(several)


def test_alternate_shows_each_abstract_once_an_epoch_and_in_both_forms_within_two(encoded):
    sentences, encode_for = encoded
    windows = encode_for("alternate")
    words = sum(map(len, sentences["tokens"]))
    even, odd = presentations(windows, seed=1)
    assert words_of(windows, even) == words_of(windows, odd) == words
    document, whole = numbers(windows, "document"), numbers(windows, "whole")
    for rows in (even, odd):
        forms = {(d, w) for d, w in zip(document[rows], whole[rows], strict=True) if d != ALWAYS}
        assert len(forms) == len({d for d, _ in forms}), "an abstract is whole or cut, never both"
        share_whole = sum(w for _, w in forms) / len(forms)
        assert 0.4 < share_whole < 0.6
    known = set(np.flatnonzero(document != ALWAYS))
    assert not known & set(even) & set(odd) and known <= {*even, *odd}
    assert set(np.flatnonzero(document == ALWAYS)) <= set(even) & set(odd)
    assert not np.array_equal(even, presentations(windows, seed=2)[0])
    assert len(presentations(encode_for("both"), seed=1)) == 1
