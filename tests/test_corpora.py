"""Other corpora than JNLPBA, from the flags to the card, and what reports say about splits.

python -m pytest tests/test_corpora.py
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import datasets
import pytest
from conftest import REPO, run_program
from http_server import silent_port
from huggingface_hub import constants

import annotate
import run_ner
from jnlpba_dataset import load_jnlpba
from ner_recipe.arguments import DataArguments, RecipeArguments
from ner_recipe.corpora.__main__ import main as overview_main
from ner_recipe.corpora.building import document_numbers, label_names
from ner_recipe.corpora.loading import is_public_on_hub, load_from_hub
from ner_recipe.corpora.splits import Split, load_splits, training_texts
from ner_recipe.launch import UsageError
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.serving import plain_texts


@pytest.mark.parametrize(
    ("unknown", "train_on", "texts"),
    [
        (0, "both", "single sentences and whole abstracts"),
        (0, "abstracts", "whole abstracts"),
        (0, "alternate", "single sentences and whole abstracts in turn"),
        (5, "both", "single sentences and whole abstracts where documents are known"),
        (40, "alternate", "single sentences, because documents are unknown"),
        (0, "sentences", "single sentences"),
    ],
)
def test_reports_say_what_a_model_is_trained_on(unknown, train_on, texts, cache_dir):
    sentences = load_jnlpba(name="sample", cache_dir=cache_dir)["test"]
    names = [None] * unknown + sentences["document_id"][unknown:]
    changed = sentences.remove_columns("document_id").add_column("document_id", names)
    split = Split("test", changed, len(changed), {})
    assert training_texts(split, train_on) == {"trained on": texts}
    assert (document_numbers(changed) is None) == (split.counts["documents"] is None) == bool(unknown)
    assert training_texts(None, train_on) == {}


SPANS = [{"start": s, "end": e, "label": t} for s, e, t in ((0, 4, "protein"), (0, 2, "DNA"), (3, 4, "DNA"))]
SAMPLE = REPO / "jnlpba_dataset" / "sample"


@pytest.fixture(scope="module")
def silver(trained, tmp_path_factory) -> list[str]:
    """Two files that annotate.py wrote: each has two documents of the sample's devel split in new order."""
    sentences = [
        text.text
        for text in plain_texts(read_predictions(trained / "predictions_validation.tsv"), "sentences")
    ]
    folder = tmp_path_factory.mktemp("silver")
    rows = [{"id": f"{number}", "text": " ".join(sentences[number::4])} for number in range(4)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        str(trained),
        str(folder / "texts.jsonl"),
        "--with_text",
        "--chunk_documents",
        "2",
        "--min_score",
        "0",
    ]
    assert annotate.main([*words, "--output_dir", str(folder / "out"), "--disable_tqdm"]) == 0
    return [str(path) for path in sorted((folder / "out").glob("part-*.jsonl"))]


def tagged_rows(paths: list[str]) -> list[dict]:
    return [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]


def load_train(files: list[str], tmp_path, cache_dir, **flags) -> Split:
    """The sample's train split with text that a model tagged."""
    given = DataArguments(dataset_config_name="sample", silver_train_file=files, **flags)
    args = RecipeArguments(output_dir=str(tmp_path), do_train=True)
    return load_splits(["train"], given, args, str(cache_dir))["train"]


def test_text_that_a_model_tagged_is_trained_on_beside_the_corpus(
    silver, sample_flags, tmp_path, trained, capsys
):
    found = sum(len(row["entities"]) for row in tagged_rows(silver))
    assert len(silver) == 2 and found
    out = tmp_path / "out"
    words = [*sample_flags, "--max_steps", "3", "--do_report_page", "true", "--output_dir", str(out)]
    folder = Path(silver[0]).parent
    assert run_ner.main([*words, "--silver_train_file", str(folder)]) == 0
    evaluated = {tuple(words) for words in load_jnlpba(name="sample")["validation"]["tokens"]}
    warning = f"also in the text that a model tagged: {len(evaluated)} sentences of validation"
    shown = capsys.readouterr().err
    assert warning in shown and "sentences of test" not in shown
    splits, before = (json.loads((folder / "run.json").read_text())["splits"] for folder in (out, trained))
    added = splits["train"].pop("silver")
    assert splits["train"].pop("windows") > before["train"].pop("windows")
    copied = f"{len(evaluated)} sentences of validation"
    assert splits["validation"]["facts"].pop("also in the text that a model tagged") == copied
    assert f"Also in the text that a model tagged: {copied}." in (out / "README.md").read_text()
    assert splits == before
    assert (added["documents"], added["sentences"], added["entities"]) == (4, 4, found)
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in silver]
    sha256 = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    said = f"{folder.name} (4 documents, 4 sentences, {found} entities, sha256 {sha256})"
    assert added["files"] == said
    for name in ("README.md", "report.html", "classification_report_test.txt"):
        assert said in (out / name).read_text()
    row = f"| train, tagged by a model | 4 | 4 | {added['words']:,} | {found} | `{added['fingerprint']}` |  |"
    assert row in (out / "README.md").read_text()


def test_the_words_of_text_that_a_model_tagged_keep_their_tags(silver, cache_dir, tmp_path):
    split = load_train(silver, tmp_path, cache_dir)
    gold, names = split.sentences, label_names(split.sentences)
    assert gold[:]["tokens"] == load_jnlpba(name="sample")["train"]["tokens"]
    trained_on = split.with_silver
    assert trained_on.select(range(len(gold))).remove_columns("spaces")[:] == gold[:]
    assert set(trained_on[: len(gold)]["spaces"]) == {None}
    rows = tagged_rows(silver)
    for row, added in zip(rows, trained_on.select(range(len(gold), len(trained_on))), strict=True):
        assert "".join(added["tokens"]) == row["text"].replace(" ", "")
        spaced = zip(added["spaces"], added["tokens"], strict=True)
        assert "".join(" " * space + word for space, word in spaced) == f" {row['text']}"
        begun = [names[tag][2:] for tag in added["ner_tags"] if names[tag].startswith("B-")]
        assert begun == [entity["label"] for entity in row["entities"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("IL-2\tB-protein\n\nNFAT\tB-protein\n\nrises\tO\n", "silver.tsv (3 sentences, 2 entities, sha256 "),
        (
            {"text": "IL-2", "spans": SPANS},
            "silver.jsonl (1 documents, 1 sentences, 1 entities, 2 more entities left out, because tags",
        ),
    ],
)
def test_reports_say_what_text_that_a_model_tagged_holds(content, said, cache_dir, tmp_path):
    spans = isinstance(content, dict)
    path = tmp_path / ("silver.jsonl" if spans else "silver.tsv")
    path.write_text(json.dumps(content) if spans else content)
    split = load_train([str(path)], tmp_path, cache_dir)
    assert training_texts(split, "alternate")["tagged by a model"].startswith(said)


@pytest.mark.parametrize(
    ("name", "content", "flags", "expected"),
    [
        ("s.tsv", None, ["--do_train"], "--silver_train_file: found no file or folder"),
        ("s.tsv", "IL-2\tB-protein\n", ["--do_eval"], "--silver_train_file: needs --do_train"),
        ("s.tsv", "IL-2\tB-gene\n", ["--do_train"], "s.tsv has B-gene, and the corpus has O, B-protein"),
        ("s.tsv", "", ["--do_train"], "s.tsv: found no sentence"),
        ("s.tsv", "IL-2\tI-\n", ["--do_train"], "s.tsv:1: found"),
        ("s.tsv", (SAMPLE / "test.tsv").read_text(), ["--do_train"], "s.tsv is the test split of the corpus"),
        (
            "s.jsonl",
            '{"id": "1", "entities": []}',
            ["--do_train"],
            "s.jsonl:1: found entities without 'text'",
        ),
        ("manifest.json", "{}", ["--do_train"], "annotate.py has not finished"),
    ],
)
def test_other_text_is_refused_as_silver(name, content, flags, expected, sample_flags, tmp_path, capsys):
    folder = tmp_path / "silver"
    folder.mkdir()
    if content is not None:
        (folder / name).write_text(content)
    words = [*sample_flags[:6], *flags, "--output_dir", str(tmp_path / "out"), "--silver_train_file"]
    given = folder if name == "manifest.json" else folder / name
    assert run_ner.main([*words, str(given)]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_the_same_silver_text_is_refused_twice(silver, cache_dir, tmp_path):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(silver[0]).read_bytes())
    with pytest.raises(UsageError, match=r"copy.jsonl is the same text as .*part-00000-00000.jsonl"):
        load_train([*silver, str(copy)], tmp_path, cache_dir)


def renamed(split: str) -> str:
    """The sample's file with two types only, disease and cell-line, in the scheme IOBES."""
    out = []
    lines = [line.split("\t") for line in (SAMPLE / f"{split}.tsv").read_text().split("\n")]
    for number, fields in enumerate(lines):
        if len(fields) < 2:
            out.append("")
            continue
        word, tag = fields
        kind = {"protein": "disease", "cell_line": "cell-line"}.get(tag[2:])
        after = lines[number + 1][1] if len(lines[number + 1]) > 1 else "O"
        last = after != f"I-{tag[2:]}"
        prefix = {("B", True): "S", ("I", True): "E"}.get((tag[0], last), tag[0])
        out.append(f"{word} {prefix}-{kind}" if kind else f"{word} O")
    return "\n".join(out)


@pytest.fixture(scope="module")
def private(tmp_path_factory, tiny_bert, cache_dir):
    """A model of a user's own files, trained by the program: its folder, what it printed, and the flags."""
    place = tmp_path_factory.mktemp("private")
    (place / "all.conll").write_text(renamed("train"))
    (place / "held_out.conll").write_text(renamed("test"))
    flags = [
        *("--model_name_or_path", str(tiny_bert), "--cache_dir", str(cache_dir), "--do_train", "--do_eval"),
        *("--do_predict", "--do_serve_check", "--num_train_epochs", "3", "--learning_rate", "3e-3"),
        *("--train_file", str(place / "all.conll"), "--validation_fraction", "0.2", "--seed", "1"),
        *("--dataset_license", "cc-by-nc-4.0", "--disable_tqdm", "true"),
    ]
    result = run_program(*flags, "--output_dir", place / "model")
    assert result.returncode == 0, result.stderr
    return place / "model", result.stdout, flags


def test_a_users_own_files_get_the_whole_treatment(private):
    folder, shown, _ = private
    run = json.loads((folder / "run.json").read_text())
    expected = ["O", "B-cell-line", "I-cell-line", "B-disease", "I-disease"]
    assert run["labels"] == expected
    assert list(json.loads((folder / "config.json").read_text())["id2label"].values()) == expected
    train, validation = run["splits"]["train"], run["splits"]["validation"]
    assert "test" not in run["splits"] and not (folder / "test_results.json").exists()
    assert train["sentences"] + validation["sentences"] == 200
    begins = re.findall(" [BS]-", renamed("train"))
    assert train["entities"] + validation["entities"] == len(begins) and validation["entities"] > 0
    report = (folder / "classification_report.txt").read_text()
    card = (folder / "README.md").read_text()
    for text in (report, card):
        assert "IOBES, converted to IOB2" in text
        assert "documents of train, drawn with seed 0" in text
        assert "the corpus has no test split" in text
    assert "cc-by-nc-4.0" in card and "a private corpus" in card and "JNLPBA" not in card
    assert "`cell-line`, `disease`" in card and "widget" not in card
    assert "validation" in shown


def test_the_validation_part_does_not_depend_on_the_seed(private, tmp_path):
    folder, _, flags = private
    words = [*flags, "--max_steps", "1", "--seed", "7", "--do_serve_check", "false", "--output_dir"]
    assert run_ner.main([*words, str(tmp_path / "other")]) == 0
    runs = [json.loads((place / "run.json").read_text()) for place in (folder, tmp_path / "other")]
    assert runs[0]["splits"]["validation"]["fingerprint"] == runs[1]["splits"]["validation"]["fingerprint"]


def test_a_model_is_scored_on_part_of_its_types_and_in_its_own_order(private, tmp_path, cache_dir, capsys):
    folder, _, _ = private
    path = tmp_path / "cells.tsv"
    lines = renamed("test").replace(" ", "\t").split("\n")
    path.write_text(
        "\n".join(line if "disease" not in line else line.split("\t")[0] + "\tO" for line in lines)
    )
    flags = ["--model_name_or_path", str(folder), "--cache_dir", str(cache_dir), "--do_predict"]
    flags += ["--disable_tqdm", "true", "--output_dir", str(tmp_path / "scored")]
    assert run_ner.main([*flags, "--test_file", str(path)]) == 0
    results = json.loads((tmp_path / "scored" / "test_results.json").read_text())
    assert results["test_span_cell-line_support"] == results["test_entities"] > 0
    path.write_text("word\tB-species\n")
    assert run_ner.main([*flags, "--test_file", str(path)]) == 2
    assert "Expected a model that has all labels of the data" in capsys.readouterr().err


def test_continuing_keeps_the_order_of_the_labels(trained, tmp_path, cache_dir):
    """The builder has an order of its own; the same files as --train_file give an alphabetical one."""
    flags = ["--model_name_or_path", str(trained), "--cache_dir", str(cache_dir), "--do_train", "--do_eval"]
    flags += ["--train_file", str(SAMPLE / "train.tsv"), "--validation_file", str(SAMPLE / "devel.tsv")]
    flags += ["--max_steps", "1", "--learning_rate", "1e-9", "--disable_tqdm", "true"]
    assert run_ner.main([*flags, "--output_dir", str(tmp_path / "more")]) == 0
    before, after = (json.loads((place / "run.json").read_text()) for place in (trained, tmp_path / "more"))
    assert before["labels"] == after["labels"] and before["labels"][1] == "B-protein"
    scores = [json.loads((place / "eval_results.json").read_text()) for place in (trained, tmp_path / "more")]
    assert scores[0]["eval_span_micro_f1"] == scores[1]["eval_span_micro_f1"] > 0.2


def test_a_data_set_and_a_known_name_are_read_like_files(private, tmp_path, cache_dir, tiny_bert, capsys):
    corpus = load_jnlpba(name="sample", cache_dir=cache_dir)
    datasets.DatasetDict(corpus).save_to_disk(tmp_path / "saved")
    folder = shutil.copytree(SAMPLE, tmp_path / "folder")
    base = ["--model_name_or_path", str(tiny_bert), "--cache_dir", str(cache_dir), "--do_train", "--do_eval"]
    base += ["--do_predict", "--max_steps", "1", "--disable_tqdm", "true", "--output_dir"]
    for number, source in enumerate(
        (
            ["--dataset_name", str(tmp_path / "saved")],
            ["--dataset_name", "NCBI_disease", "--data_dir", str(folder)],
        )
    ):
        out = tmp_path / str(number)
        assert run_ner.main([*base, str(out), *source]) == 0
        run = json.loads((out / "run.json").read_text())
        assert run["corpus"] == "custom"  # not the published files
        assert {name: split["entities"] for name, split in run["splits"].items()} == {
            name: sum(tag % 2 for tags in split["ner_tags"] for tag in tags) for name, split in corpus.items()
        }
        assert run["labels"][:3] == ["O", "B-DNA", "I-DNA"]
    capsys.readouterr()


CASES = {
    "two corpora": ("--train_file T --dataset_name ncbi-disease", "names a corpus beside --train_file"),
    "missing": ("--train_file no.tsv --validation_file T", "--train_file: found no file or folder 'no.tsv'"),
    "no validation": (
        "--train_file T",
        "found no split 'validation' ('validation'); expected names among train",
    ),
    "whole": ("--train_file T --validation_fraction 1", "--validation_fraction: found 1; expected"),
    "too large": ("--train_file T --validation_fraction 0.999", "leaves none to train on"),
    "both": ("--train_file T --validation_file T --validation_fraction 0.1", "no effect beside"),
    "same file": ("--train_file T --validation_file T", "are the same file"),
    "unknown name": ("--dataset_name ncbi-diseas", "did you mean ncbi-disease?"),
    "a name too long": (f"--dataset_name {'x' * 300}", "can't be loaded (OSError: [Errno 36] File name too"),
    "empty folder": ("--dataset_name E", "--dataset_name: E can't be loaded"),
    "incomplete": ("--dataset_name bc5cdr --data_dir E", "missing train.tsv, devel.tsv, test.tsv"),
    "no network": ("--dataset_name bc5cdr", "could not be downloaded"),
    "no train": (
        "--validation_fraction 0.1 --test_file T --do_train false --do_eval false",
        "is no train split",
    ),
    "no column": ("--dataset_config_name sample --text_column_name x", "'x' has no effect on jnlpba"),
    "no revision": ("--dataset_name bc5cdr --dataset_revision x", "'x' has no effect on bc5cdr"),
    "no test": (
        "--train_file T --do_train false --do_eval false",
        "--do_predict: the corpus has no test split",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_corpora_end_in_one_sentence(case, tmp_path, tiny_bert, cache_dir, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "T").with_suffix(".tsv").write_text("-DOCSTART-\tO\n\n" + "IL-2\tB-gene\n.\tO\n\n" * 3)
    (tmp_path / "E").mkdir()
    words, message = CASES[case]
    words = ["T.tsv" if word == "T" else word for word in words.split()]
    base = ["--model_name_or_path", str(tiny_bert), "--cache_dir", str(cache_dir), "--output_dir", "out"]
    status = run_ner.main([*base, "--do_train", "--do_eval", "--do_predict", *words])
    shown = capsys.readouterr().err
    assert status in (1, 2) and message in shown and "Traceback" not in shown
    assert not (tmp_path / "out").exists()


def test_files_of_a_data_set_that_have_different_columns_are_one_sentence(tmp_path, cache_dir):
    for name, column in (("a", "tokens"), ("b", "words")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({column: ["IL-2"]}) + "\n")
    with pytest.raises(UsageError, match=r"can't be loaded \(\w*CastError: "):
        load_from_hub(str(tmp_path), DataArguments(), str(cache_dir))


def test_a_data_set_that_nobody_can_be_asked_about_is_private(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with silent_port() as port:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert not is_public_on_hub("nobody/nothing")


def test_the_overview_counts_what_is_there(tmp_path, cache_dir, tiny_bert, capsys):
    train = [["Breast B-D", "<b>cancer</b> I-D", ". O"], ["Breast O"], ["Breast O"], ["\x1b[31mred B-E"]]
    test = [["Breast O"], ["orphan I-D"]]
    for name, sentences in (("train", train), ("test", test)):
        text = "\n\n".join("\n".join(lines) for lines in sentences)
        (tmp_path / f"{name}.conll").write_text(text.replace(" ", "\t"))
    page = tmp_path / "page.html"
    files = [str(tmp_path / f"{name}.conll") for name in ("train", "test")]
    words = [*files, "--cache_dir", str(cache_dir), "--html", str(page)]
    words += ["--model_name_or_path", str(tiny_bert)]
    assert overview_main(words) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.split("\n")[1:] if "  " in line.strip()]
    rows = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines)
    assert rows["sentences"].split() == ["4", "2"] and rows["documents"].split() == ["unknown", "unknown"]
    assert rows["repeated sentences"].split() == ["1", "0"]
    assert rows["words in a sentence, longest"].split() == ["3", "1"]
    for line in (
        "sentences of train that are also in validation (each counted once): 1",
        "tag scheme: IOB2; 1 invalid tags repaired (train, validation)",
        "[Breast <b>cancer</b>](D) .",
        "[\\x1b[31mred](E)",
    ):
        assert line in shown
    html = page.read_text()
    assert "&lt;b&gt;cancer" in html and "<b>cancer" not in html and "<script" not in html
    assert overview_main([str(tmp_path / "nothing.tsv"), str(tmp_path / "no.tsv")]) == 2
    assert "found no file" in capsys.readouterr().err
