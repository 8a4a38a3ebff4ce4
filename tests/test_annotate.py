"""annotate.py: the same entities from every format, exact offsets, and whole files after any kill.

python -m pytest tests/test_annotate.py             # the slow ones too: -m ''
"""

import errno
import gzip
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPO, run_program
from huggingface_hub.utils import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_page import browser, opened  # noqa: F401 (fixtures)
from transformers import ByT5Tokenizer, pipeline

import annotate
from ner_recipe.annotation import engine, manifest
from ner_recipe.annotation.output import put_in_place, refuse_labels
from ner_recipe.annotation.page import write_page
from ner_recipe.annotation.progress import Progress, render_summary
from ner_recipe.annotation.run import Job, run_task
from ner_recipe.annotation.settings import parse
from ner_recipe.annotation.tasks import prepare
from ner_recipe.formats.document import Document
from ner_recipe.formats.files import read_documents
from ner_recipe.formats.writing import write_documents
from ner_recipe.launch import UsageError
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.serving import plain_texts, serving_stride

STRANGE = "<b>IL-2</b> & \u00e9e\u0301 中文 👩‍🔬 \u2028 GATA-3 \u00a0 T cells\r\n(CD4+)\x85end"


@pytest.fixture(scope="module")
def texts(trained) -> list[str]:
    """Titles and abstracts: two sentences of the sample's test split each."""
    result = read_predictions(trained / "predictions_test.tsv")
    sentences = [text.text for text in plain_texts(result, "sentences")]
    return [f"{one}\n{other}" for one, other in zip(sentences[::2], sentences[1::2], strict=True)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, texts) -> Path:
    """Some large and many small files, with two documents that can't be read."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [json.dumps({"id": f"{number}", "text": text}) for number, text in enumerate(texts * 3)]
    (folder / "many.jsonl").write_text("\n".join([*rows, "{", *rows[:4], rows[3]]) + "\n")
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:9]).encode())[:-20])
    for number, text in enumerate([*texts[:7], STRANGE, "", " \n"]):
        (folder / f"note {number}.txt").write_text(text, newline="")
    return folder


def run(*words: object, code: int = 0) -> None:
    assert annotate.main([*map(str, words), "--disable_tqdm", "--device", "cpu"]) == code


def rows_in(folder: Path) -> list[dict]:
    parts = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for path in parts for line in path.read_text().split("\n") if line]


def tree(folder: Path) -> dict[str, bytes]:
    """All that was written, but for locks and datatrove's logs."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    mine = [path for path in paths if not any(part.startswith((".", "datatrove")) for part in path.parts)]
    return {str(path): (folder / path).read_bytes() for path in mine}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, trained, inputs) -> Path:
    """The output of one run that nothing disturbed, in all formats."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    run(*command(trained, inputs, folder), code=3)
    return folder


def command(model: Path, inputs: Path, folder: Path) -> list[object]:
    formats = ["--convert_to", "bioc", "pubtator", "brat", "conll", "--with_text"]
    return [model, inputs, "--output_dir", folder, "--chunk_documents", 7, *formats]


def test_the_same_entities_from_every_format(trained, texts, tmp_path):
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    for name, suffix in (("jsonl", ".jsonl"), ("bioc", ".json"), ("bioc", ".xml"), ("pubtator", ".txt")):
        write_documents(documents, tmp_path / f"{name}{suffix}" / f"all{suffix}", name)
    (tmp_path / "text").mkdir()
    for document in documents:
        (tmp_path / "text" / f"{document.id}.txt").write_text(document.text)
    (tmp_path / "pubmed").mkdir()
    (tmp_path / "pubmed" / "all.xml.gz").write_bytes(gzip.compress(pubmed(documents).encode()))
    found = {}
    for folder in sorted(tmp_path.iterdir()):
        output = tmp_path / f"out {folder.name}"
        run(trained, folder, "--output_dir", output)
        found[folder.name] = sorted((row["id"], *without_score(row["entities"])) for row in rows_in(output))
    assert len(found) == 6 and all(answers == found["text"] for answers in found.values())
    assert sum(len(answer) - 1 for answer in found["text"]) > 50


def pubmed(documents: list[Document]) -> str:
    articles = []
    for document in documents:
        title, abstract = map(escape, document.text.split("\n"))
        articles.append(
            f"<PubmedArticle><MedlineCitation><PMID>{document.id}</PMID><Article><ArticleTitle>{title}"
            f"</ArticleTitle><Abstract><AbstractText>{abstract}</AbstractText></Abstract></Article>"
            "</MedlineCitation></PubmedArticle>"
        )
    return f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>"


def without_score(entities: list[dict]) -> list[tuple]:
    return [(one["start"], one["end"], one["label"], one["text"]) for one in entities]


def test_what_is_written_is_exact_in_every_format(whole, trained, texts):
    rows = rows_in(whole)
    assert len(rows) == 8 + 3 * len(texts) + 5 + 10, "eight before the cut"
    assert {row["text"] for row in rows} >= {STRANGE, "", " \n", *texts}
    entities = [one | {"of": row} for row in rows for one in row["entities"]]
    assert len(entities) > 150
    for one in entities:
        assert one["of"]["text"][one["start"] : one["end"]] == one["text"] and 0 < one["score"] <= 1
    spans = [(row["id"], *without_score(row["entities"])) for row in rows]
    failed = [json.loads(line) for line in (whole / "failed.jsonl").read_text().splitlines()]
    for name, pattern in (("bioc", "*.json"), ("brat", "*")):
        parts = sorted((whole / name).glob(pattern))
        again = [
            (one.id, *((e.start, e.end, e.label, one.text[e.start : e.end]) for e in one.entities))
            for part in parts
            for one in read_documents(part)
        ]
        assert not Counter(again) - Counter(spans)
        lost = [one for one in failed if f"--convert_to {name}: " in one["reason"]]
        assert len(again) + len(lost) == len(spans)
        assert all("twice" in one["reason"] for one in lost) and bool(lost) == (name == "brat")
    tags = [line.split("\t") for path in (whole / "conll").iterdir() for line in path.read_text().split("\n")]
    assert sum(row[-1].startswith("B-") for row in tags) == len(entities)


def test_what_failed_is_recorded_and_the_rest_goes_on(whole, inputs, capsys):
    failed = [json.loads(line) for line in (whole / "failed.jsonl").read_text().splitlines()]
    readable = [one for one in failed if "--convert_to" not in one["reason"]]
    assert {one["place"] for one in readable} == {f"{inputs}/many.jsonl:61", f"{inputs}/cut.jsonl.gz"}
    summary = json.loads((whole / "summary.json").read_text())
    rows = rows_in(whole)
    assert summary["documents"] == len(rows) and summary["failed"] == len(failed)
    assert summary["words"] == sum(len(row["text"].split()) for row in rows)
    assert sum(summary["entities"].values()) == sum(len(row["entities"]) for row in rows)


def test_a_finished_output_is_recognised(whole, trained, inputs, capsys):
    before = tree(whole)
    times = {path: path.stat().st_mtime_ns for path in whole.glob("part-*")}
    run(*command(trained, inputs, whole), code=3)
    shown = capsys.readouterr()
    assert "is complete; nothing was computed" in shown.out and "failed.jsonl" in shown.err
    assert tree(whole) == before
    assert times == {path: path.stat().st_mtime_ns for path in whole.glob("part-*")}


def test_one_task_or_several_write_the_same_bytes(whole, trained, inputs, tmp_path, capsys):
    for rank in (2, 0, 1):
        code = 3 if rank == 1 else 0
        run(*command(trained, inputs, tmp_path), "--tasks", 3, "--rank", rank, code=code)
        assert ("others are still open" in capsys.readouterr().out) == (rank != 1)
    assert tree(tmp_path) == tree(whole)


def test_what_is_damaged_is_computed_again_and_what_changed_is_refused(trained, texts, tmp_path, capsys):
    rows = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(texts[:6])]
    file, out = tmp_path / "in.jsonl", tmp_path / "out"
    file.write_text("\n".join(rows) + "\n")
    words = [trained, file, "--output_dir", out, "--chunk_documents", 2, "--convert_to", "bioc"]
    job = prepared(words)  # as a rank that waits for its machine
    run(*words)
    before = tree(out)
    (out / "part-00000-00001.jsonl").write_text("")
    (out / "bioc" / "part-00000-00000.json").unlink()
    (out / "chunks" / "00000-00002.json").write_text("")
    run(*words)
    assert tree(out) == before and "nothing was computed" not in capsys.readouterr().out
    for damaged in ("", "null", "[]"):
        (out / "chunks" / "00000.json").write_text(damaged)
        (out / "chunks" / "00000-00002.json").write_text(damaged)
        run(*words)
        assert tree(out) == before
    shutil.rmtree(out / "chunks")
    file.write_text("\n".join(rows[2:]) + "\n")
    with pytest.raises(UsageError, match=r"in.jsonl: has changed since the work began"):
        run_task(job, 0, 1, lambda *counts: None)
    file.unlink()
    with pytest.raises(UsageError, match=r"in.jsonl: No such file or directory; make it readable"):
        run_task(job, 0, 1, lambda *counts: None)


@pytest.mark.slow
def test_workers_end_with_their_parent(trained, texts, tmp_path):
    pytest.importorskip("datatrove")
    rows = [json.dumps({"id": str(number), "text": texts[number % 5] * 40}) for number in range(3000)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n")
    words = [trained, tmp_path / "in.jsonl", "--output_dir", tmp_path / "out", "--chunk_documents", 20]
    command = [sys.executable, "annotate.py", *map(str, words), "--workers", "2", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("part-*")):
        time.sleep(0.5)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(started) > 2 and not psutil.wait_procs(started, timeout=10)[1]
    job = prepared(words)
    for rank in range(2):
        with job.output.locked(rank, 2):
            pass


def test_datatrove_runs_the_same_step(whole, trained, inputs, tmp_path):
    pytest.importorskip("datatrove")
    from ner_recipe.annotation.step import AnnotateStep

    job = prepared(command(trained, inputs, tmp_path))
    for rank in range(2):
        step = AnnotateStep(job)
        assert list(step(None, rank, 2)) == []
        assert step.stats["words"].total > 0
    job.output.finish(job.output.summary(job.sources))
    assert tree(tmp_path) == tree(whole)


def prepared(words: list[object]) -> Job:
    return prepare(*parse([*map(str, words), "--device", "cpu"]), load=False)


def killed(words: list[object], seconds: float) -> bool:
    """Run annotate.py in a process of its own, and kill it after some seconds. Whether it still ran."""
    process = multiprocessing.get_context("fork").Process(target=run, args=words, daemon=True)
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(kills, whole, trained, inputs, tmp_path):
    chance = random.Random(kills)
    start = time.perf_counter()
    assert not killed(command(trained, inputs, tmp_path / "timed"), 600)
    seconds = time.perf_counter() - start
    for number in range(kills):
        folder = tmp_path / str(number)
        while killed(command(trained, inputs, folder), chance.uniform(0, seconds / 2)):
            assert_only_whole_files(folder, whole)
        run(*command(trained, inputs, folder), code=3)
        assert tree(folder) == tree(whole)


def assert_only_whole_files(folder: Path, whole: Path) -> None:
    done, expected = tree(folder) if folder.exists() else {}, tree(whole)
    assert all(expected[name] == content for name, content in done.items() if not name.endswith(".part"))


def test_a_second_process_in_the_same_folder_is_refused(trained, inputs, tmp_path, capsys):
    job = prepared(command(trained, inputs, tmp_path))
    with job.output.locked(0, 1):
        before = tree(tmp_path)
        run(*command(trained, inputs, tmp_path), code=2)
        assert "another process works on task 0 of 1" in capsys.readouterr().err
        assert tree(tmp_path) == before


@pytest.mark.parametrize("strategy", ["first", "average", "max", "simple"])
def test_the_pipelines_answers_are_those_of_the_pipeline(strategy, trained, texts, tmp_path):
    long = " ".join(texts)
    documents = [Document(str(number), text) for number, text in enumerate([*texts, long, "", STRANGE])]
    write_documents(documents, tmp_path / "in.jsonl", "jsonl")
    words = [trained, tmp_path / "in.jsonl", "--output_dir", tmp_path / "out", "--decoding", "pipeline"]
    run(*words, "--aggregation_strategy", strategy)
    ner = pipeline("ner", str(trained), aggregation_strategy=strategy, stride=serving_stride(256))
    rows = rows_in(tmp_path / "out")
    assert len(rows) == len(documents)
    for document, row in zip(documents, rows, strict=True):
        answer = ner(document.text)
        assert [(one["start"], one["end"], one["label"]) for one in row["entities"]] == [
            (one["start"], one["end"], one["entity_group"]) for one in answer
        ]
        assert [one["score"] for one in row["entities"]] == pytest.approx(
            [float(one["score"]) for one in answer], abs=2e-4
        )


def test_min_score_and_parquet(trained, texts, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(text.replace("\n", " ") for text in texts))
    words = [trained, tmp_path / "in.txt", "--lines", "--with_text", "--output_format", "parquet"]
    run(*words, "--output_dir", tmp_path / "all", "--min_score", 0)
    everything = pq.read_table(tmp_path / "all" / "part-00000-00000.parquet").to_pylist()
    scores = sorted(one["score"] for row in everything for one in row["entities"])
    least = scores[len(scores) // 2]
    run(*words, "--output_dir", tmp_path / "sure", "--min_score", least - 5e-5)  # written with four digits
    manifest = json.loads((tmp_path / "sure" / "manifest.json").read_text())
    assert manifest["versions"]["pyarrow"] == pa.__version__
    sure = pq.read_table(tmp_path / "sure" / "part-00000-00000.parquet").to_pylist()
    assert [row["id"] for row in sure] == [f"in.txt:{number + 1}" for number in range(len(texts))]
    assert [row["text"] for row in sure] == [text.replace("\n", " ") for text in texts]
    for row, fewer in zip(everything, sure, strict=True):
        assert fewer["entities"] == [one for one in row["entities"] if one["score"] >= least]
    model = shutil.copytree(trained, tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"min_score": least - 5e-5}
    (model / "config.json").write_text(json.dumps(config))
    run(model, *words[1:], "--output_dir", tmp_path / "own")
    assert pq.read_table(tmp_path / "own" / "part-00000-00000.parquet").to_pylist() == sure
    assert (
        json.loads((tmp_path / "own" / "manifest.json").read_text())["settings"]["min_score"] == least - 5e-5
    )
    for name, folder in (("with", model), ("without", trained)):
        run(folder, *words[1:], "--decoding", "pipeline", "--output_dir", tmp_path / name)
    pipelines = [
        pq.read_table(tmp_path / name / "part-00000-00000.parquet").to_pylist()
        for name in ("with", "without")
    ]
    assert pipelines[0] == pipelines[1], "the pipeline knows no min_score"


def test_another_model_other_settings_or_inputs_are_refused(trained, texts, tmp_path, capsys):
    model, source, folder = tmp_path / "model", tmp_path / "in", tmp_path / "out"
    shutil.copytree(trained, model)
    source.mkdir()
    (source / "a.txt").write_text(texts[0])
    words = [model, source, "--output_dir", folder]
    run(*words)
    before = tree(folder)

    def refused(*more: object, says: str) -> None:
        capsys.readouterr()
        run(*words, *more, code=2)
        assert says in capsys.readouterr().err
        assert tree(folder) == before

    config = json.loads((model / "config.json").read_text())
    refused("--min_score", 0.9, says=f"--min_score: begun with {config['min_score']}, now 0.9")
    refused("--output_format", "parquet", says="--output_format: begun with jsonl, now parquet")
    (source / "b.txt").write_text(texts[1])
    refused(says=f"{source}/b.txt: is a new input")
    (source / "b.txt").unlink()
    (source / "a.txt").write_text(texts[1])
    refused(says=f"{source}/a.txt: has changed")
    (source / "a.txt").write_text(texts[0])
    (source / "a.txt").rename(tmp_path / "a.txt")
    (source / "a.txt").symlink_to(tmp_path / "a.txt")
    (model / "tokenizer_config.json").write_text((model / "tokenizer_config.json").read_text() + " ")
    refused(says="tokenizer_config.json differ")
    manifest = json.loads((folder / "manifest.json").read_text())
    now, manifest["versions"]["torch"] = manifest["versions"]["torch"], "1.0"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = tree(folder)
    refused(says=f"torch: begun with version 1.0, now {now}")
    del manifest["versions"]["scores of joint decoding"]  # as before scores were probabilities of entities
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = tree(folder)
    refused(says="scores of joint decoding: begun with version None, now 2")


def test_files_of_one_name_have_different_ids_and_entities_of_the_input_do_no_harm(trained, texts, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, source / "below", source / "below/more"):
        folder.mkdir()
        (folder / "a.txt").write_text(texts[0])
        (folder / "a.ann").write_text("T1\tprotein 0 9999\tno such\nnonsense\n")
        (folder / "b.jsonl").write_text(json.dumps({"text": texts[1], "entities": [{"start": "x"}]}) + "\n")
    (source / "c.pubtator").write_text("c|t|IL-2 gene\nc\t0\t400\tno such\tgene\t-\n")
    passages = [{"offset": 0, "text": "IL-2", "annotations": [{"locations": [{"offset": 7, "length": 9}]}]}]
    (source / "d.json").write_text(json.dumps({"documents": [{"id": "d", "passages": passages}]}))
    run(trained, source, "--output_dir", out, "--convert_to", "brat")
    places = ("", "below/", "below/more/")
    ids = [*(f"{place}a" for place in places), *(f"{place}b.jsonl:1" for place in places), "c", "d"]
    rows = rows_in(out)
    assert sorted(row["id"] for row in rows) == sorted(ids)
    again = list(read_documents(out / "brat" / "part-00000-00000"))
    assert sorted(one.id for one in again) == sorted(ids)
    assert sum(len(one.entities) for one in again) == sum(len(row["entities"]) for row in rows) > 3


def test_a_document_that_two_formats_refuse_failed_once(trained, tmp_path, capsys):
    write_documents([Document("a|b\\c", "IL-2"), Document("d", "IL-2")], tmp_path / "in.jsonl", "jsonl")
    words = [trained, tmp_path / "in.jsonl", "--output_dir", tmp_path / "out"]
    run(*words, "--convert_to", "brat", "pubtator", code=3)
    (failed,) = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").open()]
    assert failed["place"].endswith("in.jsonl:1")
    assert all(f"--convert_to {name}: " in failed["reason"] for name in ("brat", "pubtator"))
    assert "annotate.py: error: 1 failed" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["failed"] == 1


def test_flags_that_these_inputs_or_this_model_give_no_effect_are_refused(trained, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "IL-2"}\n')
    (tmp_path / "a.txt").write_text("IL-2")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"IL-2"))
    model = shutil.copytree(trained, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {number: name.replace("_", " ") for number, name in config["id2label"].items()}
    (model / "config.json").write_text(json.dumps(config))
    for model_folder, names, flags, says in (
        (trained, ["a.jsonl"], ["--lines"], "--lines: found no input that it is for; expected text, .txt"),
        (trained, ["a.txt"], ["--text_column", "x"], "--text_column: found no input"),
        (trained, ["a.txt"], ["--id_column", "x"], "--id_column: found no input"),
        (trained, ["a.txt", "a.txt.gz"], [], "would have the same id; rename one of them"),
        (model, ["a.txt"], ["--convert_to", "brat"], "--convert_to brat: found the label 'cell line'"),
    ):
        inputs = [tmp_path / name for name in names]
        run(model_folder, *inputs, "--output_dir", tmp_path / "out", *flags, code=2)
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    refuse_labels(["bioc"], ["a\x01"])  # which BioC's XML could not hold, but its JSON can


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet", ".xml"])
def test_the_bar_says_how_many_documents_there_are(suffix, trained, texts, tmp_path):
    documents = [Document(str(number), text) for number, text in enumerate(texts * 2)]
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": [document.text for document in documents]}), path)
    else:
        write_documents(documents, path, "bioc" if suffix == ".xml" else "jsonl")
    words = [str(trained), str(path), "--output_dir", str(tmp_path / "out"), "--chunk_documents", "7"]
    given, options = parse([*words, "--device", "cpu", "--disable_tqdm"])
    assert Progress(prepare(given, options), given).bar.total == len(documents)
    run(*words)
    (tmp_path / "out" / "part-00000-00001.jsonl").unlink()
    bar = Progress(prepare(given, options), given).bar
    assert (bar.n, bar.total) == (len(documents) - 7, len(documents))


def test_empty_and_damaged_files_may_come_first(trained, tmp_path):
    (tmp_path / "a.txt").touch()
    run(trained, tmp_path / "a.txt", "--output_dir", tmp_path / "empty")
    assert rows_in(tmp_path / "empty") == [{"id": "a", "entities": []}]
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "b.jsonl").write_text('{"text": "IL-2"}\n')
    run(trained, tmp_path / "a.parquet", tmp_path / "b.jsonl", "--output_dir", tmp_path / "out", code=3)
    assert [row["id"] for row in rows_in(tmp_path / "out")] == ["b.jsonl:1"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--min_score", "2"], "--min_score: found 2.0; expected a probability"),
        (["--rank", "2", "--tasks", "2"], "--rank: found 2; expected less than --tasks, which is 2"),
        (["--rank", "0", "--workers", "2"], "--rank: does one task"),
        (["--tasks", "2"], "--tasks: has no effect alone; add --rank or --workers"),
        (["--chunk_documents", "0"], "--chunk_documents: found 0; expected at least 1"),
        (["--decoding", "pipeline", "--stride", "200"], "--stride: found 200; expected at most 127, half"),
        (["--model_revision", "v1"], "--model_revision: 'v1' has no effect on the folder"),
        (["--stride", "3"], "--stride: belongs to --decoding pipeline"),
        (["--device", "moon"], "--device: 'moon' can't be used"),
        (["missing.txt"], "INPUT: missing.txt: No such file or directory"),
        (["setup.cfg"], "INPUT: setup.cfg: found an unknown kind of file"),
    ],
)
def test_bad_flags_are_one_sentence_and_nothing_is_written(
    more, says, trained, inputs, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(REPO)
    words = [str(trained), str(inputs), "--output_dir", str(tmp_path / "out"), *more]
    assert annotate.main(words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_bad_input(trained, tiny_bert, inputs, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("not to be touched")
    run(trained, inputs, "--output_dir", tmp_path, code=2)
    assert "holds mine.txt and no manifest.json" in capsys.readouterr().err
    run(tmp_path / "no model", inputs, "--output_dir", tmp_path / "out", code=2)
    assert "MODEL: " in capsys.readouterr().err
    run(tiny_bert, inputs, "--output_dir", tmp_path / "out", code=2)  # an encoder without a head
    assert "weights are missing" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    latin = tmp_path / os.fsdecode(b"caf\xe9.txt")
    latin.write_text("IL-2")
    run(trained, latin, "--output_dir", tmp_path / "out", code=2)
    assert "caf\\udce9.txt', which is not UTF-8" in capsys.readouterr().err
    run(trained, tmp_path, "--output_dir", tmp_path / "out", code=2)
    assert "found a name that is not UTF-8" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json.part").write_text("{")  # left by a kill
    run(trained, inputs, "--output_dir", tmp_path / "out", code=3)
    (tmp_path / "out" / "manifest.json").write_text('{"name": "app"}')
    run(trained, inputs, "--output_dir", tmp_path / "out", code=2)
    assert "manifest.json: expected the manifest of annotate.py" in capsys.readouterr().err
    longer = shutil.copytree(trained, tmp_path / "longer")
    settings = json.loads((longer / "tokenizer_config.json").read_text()) | {"model_max_length": 1024}
    (longer / "tokenizer_config.json").write_text(json.dumps(settings))
    run(longer, inputs, "--output_dir", tmp_path / "new", code=2)
    assert "lets 1024 subtokens pass, the model has 256 positions" in capsys.readouterr().err


def test_tokenizers_that_the_pipeline_cannot_cut_with_are_refused(trained, inputs, tmp_path, capsys):
    endless = shutil.copytree(trained, tmp_path / "endless")
    settings = json.loads((endless / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (endless / "tokenizer_config.json").write_text(json.dumps(settings))
    slow = shutil.copytree(trained, tmp_path / "slow", ignore=shutil.ignore_patterns("tokenizer*"))
    ByT5Tokenizer(model_max_length=256).save_pretrained(slow)
    for model, says in ((endless, "has no model_max_length"), (slow, "ByT5Tokenizer is a slow tokenizer")):
        words = [model, inputs, "--output_dir", tmp_path / "out", "--decoding", "pipeline", "--stride", 20]
        run(*words, code=2)
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_model_of_the_hub_is_named_as_it_was_given(inputs, tmp_path, monkeypatch, capsys):
    words = ["ada/ner", inputs, "--output_dir", tmp_path / "out"]
    monkeypatch.setattr(engine, "snapshot_download", lambda *name, **options: str(tmp_path))
    run(*words, "--backend", "onnx", code=2)
    error = capsys.readouterr().err
    assert "found no model.onnx in ada/ner; make one with python -m" in error and str(tmp_path) not in error
    for broken in (httpx.ProxyError, httpx.ReadError, httpx.RemoteProtocolError):
        monkeypatch.setattr(engine, "snapshot_download", raising(broken("the connection was cut")))
        run(*words, code=2)
        assert "MODEL: 'ada/ner' can't be loaded" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def raising(error: Exception):
    """A function that raises an error, whatever it is called with."""

    def function(*arguments, **options):
        raise error

    return function


def test_a_full_disk_is_no_wrong_folder(trained, inputs, tmp_path, monkeypatch, capsys):
    place = tmp_path / "out" / "manifest.json"
    monkeypatch.setattr(
        manifest, "write_text", raising(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(place)))
    )
    run(trained, inputs, "--output_dir", tmp_path / "out", code=1)
    assert f"{place} can't be written (Disk quota exceeded); make room" in capsys.readouterr().err


def test_a_label_that_a_terminal_would_obey_is_shown(tmp_path):
    total = {"documents": 1, "words": 1, "entities": {"a\x1b[2J": 1}, "failed": []}
    assert r"(a\x1b[2J 1)" in render_summary(total, tmp_path, None)


def some_folder(place: Path) -> Path:
    place.mkdir(parents=True)
    for number in range(20):
        (place / f"{number}.txt").write_text("IL-2")
    return place


def test_two_processes_put_one_folder_in_place(tmp_path):
    """As --tasks 2 --rank 0 and a run without --tasks do, whose locks differ."""
    place, said = tmp_path / "part", []

    def put(name: str) -> None:
        try:
            for number in range(200):
                put_in_place(some_folder(tmp_path / name / str(number)), place)
        except OSError as error:
            said.append(error)

    threads = [threading.Thread(target=put, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [] and len(list(place.iterdir())) == 20
    assert not list(tmp_path.glob("[ab]/*")), "nothing is left over"


def test_a_folder_in_place_is_whole_when_its_removal_is_killed(tmp_path, monkeypatch):
    def killed_half_way(folder: Path, **options) -> None:
        (folder / "7.txt").unlink()
        raise KeyboardInterrupt

    place = some_folder(tmp_path / "part")
    monkeypatch.setattr(shutil, "rmtree", killed_half_way)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(some_folder(tmp_path / "scratch" / "part"), place)
    assert len(list(place.iterdir())) == 20


def test_the_page_shows_the_documents_and_runs_nothing_in_them(trained, texts, tmp_path, opened):  # noqa: F811
    evil = "<script>alert(1)</script> IL-2 gene"
    write_documents(
        [Document("<img src=x onerror=alert(2)>", evil), *(Document(str(n), t) for n, t in enumerate(texts))],
        tmp_path / "in.jsonl",
        "jsonl",
    )
    run(trained, tmp_path / "in.jsonl", "--output_dir", tmp_path / "out", "--html")
    page = opened(tmp_path / "out" / "entities.html")
    assert page.locator("article").count() == len(texts) + 1
    assert page.locator("article .text").first.text_content() == evil
    rows = rows_in(tmp_path / "out")
    shown = page.locator("article mark").all_text_contents()
    assert shown == [one["text"] for row in rows for one in row["entities"]]


def test_the_page_is_written_by_one_process_at_a_time(trained, tmp_path):
    (tmp_path / "in.txt").write_text("IL-2 gene")
    words = [trained, tmp_path / "in.txt", "--output_dir", tmp_path / "out"]
    run(*words)
    job = prepared(words)
    total = job.output.summary(job.sources)
    writer = threading.Thread(target=write_page, args=[job.output, job.sources, total])
    with job.output.finishing():
        writer.start()
        writer.join(0.5)
        assert writer.is_alive() and not (tmp_path / "out" / "entities.html").exists()
    writer.join()
    assert (tmp_path / "out" / "entities.html").exists()


@settings(derandomize=True, deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=30)
)
def test_offsets_are_exact_for_any_unicode(trained, tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("unicode")
    texts = [f"{text}IL-2 gene{text}" for text in texts] or ["IL-2"]
    write_documents([Document(str(n), text) for n, text in enumerate(texts)], folder / "in.jsonl", "jsonl")
    run(trained, folder / "in.jsonl", "--output_dir", folder / "out", "--with_text")
    rows = rows_in(folder / "out")
    assert [row["text"] for row in rows] == texts
    for row in rows:
        assert all(row["text"][one["start"] : one["end"]] == one["text"] for one in row["entities"])


@pytest.mark.slow
def test_workers_on_this_machine(whole, trained, inputs, tmp_path):
    pytest.importorskip("datatrove")
    words = [*command(trained, inputs, tmp_path), "--tasks", 3, "--workers", 2, "--device", "cpu"]
    result = run_program(*words, program="annotate.py")
    assert result.returncode == 3, result.stderr
    assert tree(tmp_path) == tree(whole)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_documents(trained, texts, tmp_path):
    peaks = []
    for times in (50, 500):
        rows = (json.dumps({"text": text}) + "\n" for text in texts * times)
        (tmp_path / f"{times}.jsonl").write_text("".join(rows))
        words = [trained, tmp_path / f"{times}.jsonl", "--output_dir", tmp_path / f"out{times}"]
        words += ["--chunk_documents", 100]
        process = multiprocessing.get_context("fork").Process(target=run_and_measure, args=(words, tmp_path))
        process.start()
        process.join()
        peaks.append(int((tmp_path / "peak").read_text()))
    assert peaks[1] < 1.1 * peaks[0]


def run_and_measure(words: list[object], folder: Path) -> None:
    import resource

    run(*words)
    (folder / "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
