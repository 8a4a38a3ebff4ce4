"""Anything at all as a corpus, a configuration, a prediction file, probabilities, or words on a page.

    python -m pytest tests/attacks/test_fuzzing.py
    NER_FUZZ=5000 python -m pytest tests/attacks/test_fuzzing.py     # more inputs of each kind
    python -m pytest -m slow tests/attacks/test_fuzzing.py           # with atheris, if it is installed

Each reader either understands the input or raises its own error, which names the file.
"""

import dataclasses
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from jnlpba_dataset import LABELS, AlignmentError, CorpusError, WordValues, decode, encode
from jnlpba_dataset.jnlpba import read_sentences
from ner_recipe.arguments import OF_A_RUN, RecipeParser, config_to_argv
from ner_recipe.decoding import joint_decoding
from ner_recipe.launch import UsageError
from ner_recipe.reports.page import Overview, PageContent, render_page
from ner_recipe.reports.predictions import PredictionFileError, format_predictions, read_predictions
from ner_recipe.reports.result import SplitResult, make_result
from ner_recipe.reports.text import render_mistakes

fuzz = settings(
    max_examples=int(os.environ.get("NER_FUZZ", "150")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TAGS = st.sampled_from([*LABELS, "-DOCSTART-", "S-DNA", "I-", "B", "", "O\r", "o"])
WORDS = st.text(max_size=6) | st.sampled_from(["-DOCSTART-", "IL-2", "\ufeff", "\0", "\x85", "\u2028"])
SEPARATORS = st.sampled_from(["\t", "\t\t", " ", "\r\n", "\n", "\n\n", ""])
# Nearly right files find more than noise does.
LINES = st.lists(st.tuples(WORDS, SEPARATORS, TAGS, SEPARATORS, TAGS, SEPARATORS), max_size=9)
ANY_LABEL = st.integers(0, len(LABELS) - 1)
FILES = st.binary(max_size=60) | LINES.map(lambda rows: "".join("".join(row) for row in rows).encode())


@fuzz
@given(FILES)
def test_the_corpus_reader_gives_whole_sentences_or_its_own_error(tmp_path, content):
    path = tmp_path / "train.tsv"
    path.write_bytes(content)
    try:
        sentences = list(read_sentences(path))
    except CorpusError as error:
        assert str(error).startswith(f"{path}:") and "expected" in str(error)
        return
    assert sentences
    for document, number, words, tags in sentences:
        assert words and len(words) == len(tags) and {*tags} <= {*LABELS}
        assert (document is None) == (number is None)
        assert all(word and word.split() == [word] and "\0" not in word for word in words)


@fuzz
@given(FILES)
def test_the_prediction_reader_gives_a_result_that_it_can_read_back_or_its_own_error(tmp_path, content):
    path = tmp_path / "p.tsv"
    path.write_bytes(content)
    try:
        result = read_predictions(path, resamples=100)
    except PredictionFileError as error:
        assert str(error).startswith(f"{path}:") and "expected" in str(error)
        return
    path.write_text(format_predictions(result), encoding="utf-8")
    again = read_predictions(path, resamples=100)
    assert (again.words, again.gold, again.predicted) == (result.words, result.gold, result.predicted)


YAML_PIECES = st.sampled_from(
    [
        "seed",
        "learning_rate",
        "lr_scheduler_kwargs",
        "report_to",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "\n",
        "  ",
        "1",
    ]
    + [
        "5e-5",
        "010",
        "1:30",
        "~",
        "no",
        "&a ",
        "*a",
        "!!set ",
        "!!binary ",
        "? ",
        "|\n",
        "'",
        '"',
        "#",
        "---\n",
    ]
    + ["<<: ", "\t", "2001-01-01", "0x1", ".inf", "%YAML 1.1\n", "@", "`", "\u2028", "\x07"]
)


@fuzz
@given(
    st.binary(max_size=40) | st.lists(YAML_PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode())
)
def test_the_yaml_reader_gives_words_that_the_parser_takes_or_its_own_error(tmp_path, content):
    path, parser = tmp_path / "run.yaml", RecipeParser(OF_A_RUN)
    path.write_bytes(content)
    try:
        words = config_to_argv(str(path), parser)
    except UsageError as error:
        assert str(error).startswith(f"{path}:") and ";" in str(error)
        return
    assert words and parser.parse_known_args(words)[1] == []


TEXTS = st.lists(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=12), min_size=1, max_size=4)


@fuzz
@given(texts=TEXTS, longest=st.integers(-1, 40), stride=st.integers(-1, 40) | st.none(), data=st.data())
def test_every_word_comes_back_or_the_window_is_refused(tiny_bert, texts, longest, stride, data):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tags = [data.draw(st.lists(ANY_LABEL, min_size=len(words), max_size=len(words))) for words in texts]
    size = {"max_seq_length": longest, "stride": stride}
    try:
        rows = encode({"tokens": texts, "ner_tags": tags}, range(len(texts)), tokenizer=tokenizer, **size)
    except AlignmentError as error:
        assert re.match(r"--(max_seq_length|stride)", str(error)), error
        return
    assert decode(rows, rows["labels"]) == tags and max(rows["length"]) <= longest


@fuzz
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    certain=st.booleans(),
)
def test_joint_decoding_gives_valid_tags_whatever_the_probabilities(lengths, seed, certain):
    logits = np.random.default_rng(seed).normal(size=(sum(lengths), len(LABELS)))
    values = (1e4 if certain else 1) * logits  # (subtokens, labels): some probabilities are 0
    values = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    words = WordValues(values.astype(np.float32), np.arange(len(values)), np.array(lengths))
    ids, entities = joint_decoding(words, LABELS)
    assert ((entities.scores >= 0) & (entities.scores <= 1)).all()
    for tags in words.by_sentence(np.array(LABELS)[ids]):
        for before, tag in itertools.pairwise(["O", *tags]):
            assert tag[0] != "I" or before[2:] == tag[2:]


@fuzz
@given(TEXTS)
def test_words_on_the_page_and_the_terminal_are_text(tmp_path, texts):
    gold = [["O"] * len(words) for words in texts]
    wrong = [["B-DNA"] * len(words) for words in texts]
    result = make_result(texts, gold, wrong, resamples=100, facts={"model": texts[0][0], "seed": "1"})
    shown = render_mistakes(result)
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cf") and one != "\n"]
    counts = {"documents": None, "sentences": 1, "words": 1, "entities": 0, "labels": {"O": 1}}
    page = PageContent({"test": result}, Overview({"test": {"name": texts[0][0], **counts}}, None))
    assert tags_of(render_page(page, {}, tmp_path)) == tags_of(
        render_page(dataclasses.replace(page, results={"test": plain(result)}), {}, tmp_path)
    )


def plain(result: SplitResult) -> SplitResult:
    """The same result with words that mean nothing to a browser."""
    words = [["x"] * len(row) for row in result.words]
    return dataclasses.replace(result, words=words, facts={"model": "x", "seed": "1"})


def tags_of(html: str) -> list[str]:
    """The elements of a page, in order."""
    found = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attributes: found.append(tag)
    reader.feed(html)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in dir() if name.startswith("test_")])
def test_atheris_finds_no_other_error(name, tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (pip install atheris)")
    words = [sys.executable, str(Path(__file__).with_name("coverage_fuzz.py")), name, "-seed=1"]
    words += [f"-runs={20 * fuzz.max_examples}", "-len_control=0", "-max_len=400"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0 and "DONE" in result.stderr, result.stdout[-2000:] + result.stderr[-2000:]
