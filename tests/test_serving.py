"""What pipeline("ner") answers: plain text, spans, every strategy against the stock pipeline.

python -m pytest tests/test_serving.py
"""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, pipeline

import run_ner
from jnlpba_dataset import encode, load_jnlpba
from metrics import entities
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.reports.result import FORMS
from ner_recipe.serving import (
    STRATEGIES,
    EveryStrategy,
    answered_spans,
    plain_texts,
    recommended,
    score_answers,
    serve_check,
    serving_stride,
    write_out,
)

LONG = "Activation of the CD28 surface receptor in (CD4+) T cells induces GATA-3 gene expression. " * 30
WORDS = st.lists(st.text("aB3-,.()[]'/%+", min_size=1, max_size=5), max_size=12)


@given(WORDS)
def test_each_word_is_found_where_it_is_said_to_be(words):
    text, places = write_out(words)
    assert [text[start:end] for start, end in places] == words
    assert text.replace(" ", "") == "".join(words)
    assert text == " ".join(text.split()), "no space but between words"


def test_text_is_written_as_in_print():
    words = "T cells ( CD4+ ) , 5 % of all , need IL-2 -mediated 's ; see [ 3 ] ."
    assert write_out(words.split())[0] == "T cells (CD4+), 5% of all, need IL-2-mediated's; see [3]."


def test_gold_spans_of_abstracts_are_those_of_their_sentences(trained):
    result = read_predictions(trained / "predictions_test.tsv")
    for form, count in (("sentences", 40), ("abstracts", 6)):
        texts = plain_texts(result, form)
        assert len(texts) == count
        shown = sorted((kind, text.text[a:b].replace(" ", "")) for text in texts for kind, a, b in text.spans)
        assert shown == sorted(
            (kind, "".join(words[a:b]))
            for words, tags in zip(result.words, result.gold, strict=True)
            for kind, a, b in entities(tags)
        )


def test_text_as_printed_gives_the_saved_tokenizer_the_subtokens_of_the_training(trained, cache_dir):
    sentences = load_jnlpba(name="sample", cache_dir=cache_dir)["train"]
    tokenizer = AutoTokenizer.from_pretrained(trained)
    for words, tags in zip(sentences["tokens"], sentences["ner_tags"], strict=True):
        row = encode({"tokens": [words], "ner_tags": [tags]}, [0], tokenizer=tokenizer, max_seq_length=256)
        assert tokenizer(write_out(words)[0], truncation=True)["input_ids"] == row["input_ids"][0]


def test_an_answer_that_is_the_gold_scores_1_and_one_character_off_is_wrong(trained):
    result = read_predictions(trained / "predictions_test.tsv")
    texts = plain_texts(result, "sentences")

    def answers(shift: int) -> list[dict]:
        groups = [
            [{"entity_group": kind, "start": a, "end": b - shift} for kind, a, b in text.spans]
            for text in texts
        ]
        return [dict.fromkeys(STRATEGIES, group) for group in groups]

    assert score_answers(texts, answers(0))["first"]["f1"] == 1
    assert score_answers(texts, answers(1))["first"]["correct"] == 0


@pytest.mark.parametrize("text", [LONG, "Levels of c-fos mRNA rose in Jurkat cells.", "-", ""])
def test_every_strategy_at_once_is_each_strategy_of_the_stock_pipeline(trained, text):
    ner = pipeline("ner", model=str(trained), pipeline_class=EveryStrategy, aggregation_strategy="simple")
    stride = serving_stride(ner.tokenizer.model_max_length)
    together = list(ner((text for _ in range(2)), batch_size=2, stride=stride))[1]
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy} | ({"stride": stride} if strategy != "none" else {})
        alone = pipeline("ner", model=str(trained), **options)(text)
        assert answered_spans(text, together[strategy]) == answered_spans(text, alone)


def test_tokens_of_none_are_read_as_iob2():
    tokens = [("B-DNA", 1, 0, 3), ("I-DNA", 2, 4, 6), ("B-DNA", 3, 6, 7), ("I-RNA", 5, 9, 12)]
    answer = [{"entity": tag, "index": i, "start": a, "end": b} for tag, i, a, b in tokens]
    assert answered_spans("x" * 12, answer) == {("DNA", 0, 6), ("DNA", 6, 7), ("RNA", 9, 12)}
    assert answered_spans(" ab ", [{"entity_group": "DNA", "start": 0, "end": 4}]) == {("DNA", 1, 3)}


def naive_f1(model, texts, strategy: str, stride: int) -> float:
    """The stock pipeline, text by text, and a loop."""
    ner = pipeline("ner", model=str(model), aggregation_strategy=strategy, stride=stride)
    right = answered = gold = 0
    for text, spans in texts:
        found = {(group["entity_group"], group["start"], group["end"]) for group in ner(text)}
        right += len(found & spans)
        answered += len(found)
        gold += len(spans)
    return 2 * right / (answered + gold) if answered + gold else 0.0


def test_the_served_figures_are_those_of_the_stock_pipeline(trained):
    result = read_predictions(trained / "predictions_test.tsv")
    results = json.loads((trained / "test_results.json").read_text())
    stride = results["test_served_stride"]
    assert results["test_served_max_length"] == 256 and stride == 64
    for form in FORMS:
        texts = plain_texts(result, form)
        assert results[f"test_served_{form}_texts"] == len(texts)
        assert results[f"test_served_{form}_first_support"] == 109
        for strategy in ("simple", "first"):
            expected = naive_f1(trained, texts, strategy, stride)
            assert results[f"test_served_{form}_{strategy}_f1"] == pytest.approx(expected)
    assert results["test_served_abstracts_too_long"] > 0 == results["test_served_sentences_too_long"]
    none, simple = (results[f"test_served_abstracts_{name}_predicted"] for name in ("none", "simple"))
    assert none < simple, "without a stride the ends of long abstracts are lost"


def test_no_batch_of_the_served_check_has_more_subtokens_than_the_annotators(trained, monkeypatch):
    shapes = []
    forward = EveryStrategy._forward

    def recorded(ner, inputs):
        shapes.append(inputs["input_ids"].shape)
        return forward(ner, inputs)

    monkeypatch.setattr(EveryStrategy, "_forward", recorded)
    result = read_predictions(trained / "predictions_test.tsv")
    serve_check(str(trained), result, device="cpu", disable_tqdm=True)
    assert max(rows * columns for rows, columns in shapes) <= 1024
    assert max(rows for rows, _ in shapes) > 1


def test_the_report_and_the_record_say_what_was_served(trained):
    run = json.loads((trained / "run.json").read_text())
    rows = {
        role: json.loads((trained / f"{prefix}_results.json").read_text())
        for role, prefix in (("", "eval"), ("_test", "test"))
    }
    means = {
        strategy: sum(rows[""][f"eval_served_{form}_{strategy}_f1"] for form in FORMS)
        for strategy in STRATEGIES
    }
    assert run["pipeline"]["chosen_on"] == "validation"
    assert means[run["pipeline"]["aggregation_strategy"]] == max(means.values())
    for suffix, (role, results) in zip(("", "_test"), rows.items(), strict=True):
        prefix = "test" if role else "eval"
        report = (trained / f"classification_report{suffix}.txt").read_text()
        for form in FORMS:
            for strategy in STRATEGIES:
                line = next(
                    line for line in report.splitlines() if line.split()[:2] == [form, strategy]
                ).split()
                f1 = results[f"{prefix}_served_{form}_{strategy}_f1"]
                assert line[4:6] == [f"{f1:.4f}", f"{f1 - results[f'{prefix}_f1']:+.4f}"]
                assert (line[-1] == "recommended") == (strategy == run["pipeline"]["aggregation_strategy"])


def test_recommended_is_the_best_mean_and_the_first_of_equals():
    def served(**f1):
        rows = {name: {"f1": f1.get(name, 0)} for name in STRATEGIES}
        return {form: {"scores": rows} for form in FORMS}

    assert recommended(served(first=0.5, max=0.6)) == "max"
    assert recommended(served(first=0.6, max=0.6)) == "first"
    assert recommended(served(none=0.9, first=0.6)) == "first", "none answers tokens and takes no stride"
    assert recommended(served()) == "simple"


def test_a_tokenizer_that_knows_no_length_is_refused(trained, tmp_path, cache_dir, capsys):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    words = ["--do_serve_check", "--do_eval", "--model_name_or_path", folder, "--cache_dir", cache_dir]
    words += ["--dataset_config_name", "sample", "--output_dir", tmp_path / "out"]
    assert run_ner.main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert "model_max_length" in said.err and "Traceback" not in said.err
    assert "eval_" not in said.out and not (tmp_path / "out").exists(), "refused before a split is scored"


def test_a_published_folder_can_be_checked_by_itself(trained, tmp_path, cache_dir):
    words = ["--do_serve_check", "--do_predict", "--model_name_or_path", trained, "--cache_dir", cache_dir]
    words += ["--dataset_config_name", "sample", "--output_dir", tmp_path, "--do_report_page", "false"]
    assert run_ner.main([str(word) for word in words]) == 0
    again, first = (json.loads((place / "test_results.json").read_text()) for place in (tmp_path, trained))
    served = [name for name in first if "_served_" in name]
    assert len(served) > 50
    assert {name: again[name] for name in served} == {name: first[name] for name in served}
    assert json.loads((tmp_path / "run.json").read_text())["pipeline"]["chosen_on"] == "test"
    assert "recommended" in (tmp_path / "classification_report_test.txt").read_text()
    assert not (tmp_path / "README.md").exists()
