"""Prediction files and the command that looks into them: round trips, conlleval, refusals, comparison.

python -m pytest tests/test_predictions.py
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import conlleval
import pytest
from conftest import REPO
from hypothesis import given
from hypothesis import strategies as st
from test_intervals import invented, other_model
from test_metrics import repeatable, sides, tag_pairs, words

from metrics import score
from ner_recipe.reports import __main__ as command
from ner_recipe.reports.comparison import compare
from ner_recipe.reports.predictions import PredictionFileError, format_predictions, read_predictions
from ner_recipe.reports.result import SplitResult, make_result
from ner_recipe.reports.text import render_mistakes

# The corpus's reader refuses NUL, so no prediction file holds it.
WORDS = words.filter(lambda word: "\0" not in word and word != "-DOCSTART-")
SENTENCES = st.lists(st.lists(st.tuples(WORDS, tag_pairs), min_size=1, max_size=9), min_size=1, max_size=5)


def result_of(sentences, **more) -> SplitResult:
    gold, predicted = sides([[pair for _, pair in row] for row in sentences])
    return make_result(
        [[word for word, _ in row] for row in sentences], gold, predicted, resamples=100, **more
    )


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


@repeatable
@given(SENTENCES)
def test_conlleval_reads_the_prediction_file_and_agrees(sentences):
    gold, predicted = sides([[pair for _, pair in row] for row in sentences])
    scores = score(gold, predicted)
    text = format_predictions(result_of(sentences))
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


@repeatable
@given(SENTENCES)
def test_prediction_file_round_trip(tmp_path_factory, sentences):
    result = result_of(sentences)
    path = tmp_path_factory.getbasetemp() / "predictions.tsv"
    text = format_predictions(result)
    assert read_predictions(write(path, text), resamples=100) == result
    # Edited by hand: a byte-order mark, Windows line ends, more blank lines (which end documents), none last.
    edited = "\ufeff\n" + text.replace("\n\n", "\n\n\n").rstrip("\n")
    numbers = list(range(len(sentences))) if len(sentences) > 1 else None
    read = read_predictions(write(path, edited.replace("\n", "\r\n")), resamples=100)
    assert read == result_of(sentences, documents=numbers)


@pytest.mark.parametrize("documents", [None, 7])
def test_a_prediction_file_keeps_its_documents(documents, tmp_path):
    result = invented(30, 6, documents)
    read = read_predictions(write(tmp_path / "p.tsv", format_predictions(result)))
    assert (read.words, read.gold, read.predicted) == (result.words, result.gold, result.predicted)
    numbers = {number: place for place, number in enumerate(sorted(set(result.documents or [])))}
    assert read.documents == ([numbers[one] for one in result.documents] if documents else None)


@pytest.mark.parametrize(
    ("line", "columns"), [("IL-2\tB-protein", 2), ("IL-2\tO\tO\tO", 4), ("IL-2 O O", 1), (" ", 1)]
)
def test_a_line_without_three_columns_is_refused_with_its_place(tmp_path, line, columns):
    path = write(tmp_path / "bad.tsv", f"the\tO\tO\n\nof\tO\tO\n{line}\n")
    with pytest.raises(PredictionFileError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}:4: found {columns} column")


def test_files_that_cannot_be_read_are_refused_by_name_in_one_line(tmp_path, capsys):
    (tmp_path / "latin1.tsv").write_bytes("TNF\u00ad\tO\tO\n".encode("latin-1"))
    write(tmp_path / "tags.tsv", "TNF\tO\tS-protein\n")
    write(tmp_path / "empty.tsv", "\n")
    for name, reason in {
        "latin1.tsv": "UTF-8",
        "tags.tsv": "'S-protein'",
        "missing.tsv": "No such file",
        "empty.tsv": "found no sentence",
    }.items():
        assert command.main([str(tmp_path / name)]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"python -m ner_recipe.reports: error: {tmp_path / name}:")
        assert reason in message and message.count("\n") == 1


def test_the_command_shows_one_file(tmp_path, capsys):
    result = invented(40, 8, documents=8)
    path = write(tmp_path / "a.tsv", format_predictions(result))
    words = [sys.executable, "-m", "ner_recipe.reports", str(path)]
    shown = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=True).stdout
    micro, low = result.scores["span"]["micro"], result.intervals["f1"]["micro"]["low"]
    assert f"gold entities  {result.scores['entities']}\n" in shown
    assert f"micro F1 {low:.4f} to" in shown and "8 documents are too few" in shown
    assert f"seqeval: {micro['correct']} correct of {micro['support']} gold" in shown
    assert command.main([str(path), "--json", "--resamples", "150"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert {name: numbers[name] for name in result.scores} == score(result.gold, result.predicted)
    assert numbers["intervals"] == read_predictions(path, resamples=150).intervals
    assert numbers["errors"]["nervaluate"]["strict"]["correct"] == micro["correct"]


def test_the_command_shows_a_label_that_a_terminal_would_obey(tmp_path, capsys):
    path = write(tmp_path / "p.tsv", "IL-2\tB-\x1b[2J\tB-\x1b[2J\ngene\tO\tB-\x1b[2J\n")
    assert command.main([str(path), "--resamples", "100"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\\x1b[2J" in shown
    assert "\x1b" not in render_mistakes(read_predictions(path, resamples=100))


def test_the_command_compares_two_files(tmp_path, capsys):
    one = invented(40, 8, documents=8)
    other = other_model(one, 2)
    paths = [write(tmp_path / f"{name}.tsv", format_predictions(r)) for name, r in (("a", one), ("b", other))]
    assert command.main([*map(str, paths), "--json"]) == 0
    expected = compare(*map(read_predictions, paths))
    assert json.loads(capsys.readouterr().out) == expected
    assert command.main([*map(str, paths)]) == 0
    shown = capsys.readouterr().out
    row = expected["difference"]["micro"]
    assert f"{row['value']:+.4f}" in shown and f"{row['p']:.4f}" in shown
    assert f"{one.scores['span']['micro']['f1']:.4f}" in shown

    changed = dataclasses.replace(other, gold=[["O"] * len(row) for row in other.gold])
    write(paths[1], format_predictions(changed))
    assert command.main([*map(str, paths)]) == 2
    assert "the gold tags of sentence 1 differ" in capsys.readouterr().err
    for resamples in ("1", "1000000000000"):
        assert command.main([str(paths[0]), "--resamples", resamples]) == 2
        assert "expected 100 to 100,000" in capsys.readouterr().err
