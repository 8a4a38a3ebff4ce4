"""The Annotator: exact offsets, any length, laziness, and the tags that the evaluation gives the same words.

python -m pytest tests/test_annotator.py
"""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, AutoTokenizer

from jnlpba_dataset import special_frame
from jnlpba_dataset.alignment import encode_subtokens
from ner_recipe.annotation.windows import lay_out
from ner_recipe.decoding import best_valid_sequences
from ner_recipe.launch import UsageError
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.reports.result import FORMS
from ner_recipe.serving import JOINT, Annotator, ServeError, plain_texts

PARTS = (
    "Interleukin-4",
    "GATA-3",
    "(CD4+)",
    "T cells",
    " ",
    "\n\t",
    "é",
    "e\u0301",
    "中文",
    "👩‍🔬",
    "ß",
    "\u00a0",
    "",
)
some_text = st.lists(st.sampled_from(PARTS) | st.text(max_size=6), max_size=40).map("".join)


@pytest.fixture(scope="module")
def annotator(trained) -> Annotator:
    return Annotator(str(trained), buffer=3, batch_tokens=300, min_score=0)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(texts=st.lists(some_text, max_size=5))
def test_offsets_are_those_of_the_text_and_entities_do_not_overlap(annotator, texts):
    answers = list(annotator(texts))
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        for found in answer:
            assert found["text"] == text[found["start"] : found["end"]] == found["text"].strip()
            assert 0 < found["score"] <= 1
        assert all(one["end"] <= other["start"] for one, other in itertools.pairwise(answer))


def naive_entities(folder, text: str) -> list[tuple[str, int, int]]:
    """One forward pass over a text that fits, and joint decoding word by word."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        values = model(**encoded).logits[0].log_softmax(-1).double()
    words: dict[int, list[int]] = {}
    for position, word in enumerate(encoded.word_ids()):
        if word is not None:
            words.setdefault(word, []).append(position)
    later = [names.index(name.replace("B-", "I-")) for name in names]
    rows = [values[at[0]] + values[at[1:]][:, later].sum(0) for at in words.values()]
    if not rows:
        return []
    ids = best_valid_sequences(torch.stack(rows).numpy(), torch.tensor([len(rows)]).numpy(), names)
    spans: list = []
    for at, tag in zip(words.values(), (names[number] for number in ids), strict=True):
        if tag[0] == "B":
            spans.append([tag[2:], offsets[at[0]][0], 0])
        if tag != "O":
            spans[-1][2] = offsets[at[-1]][1]
    return [tuple(span) for span in spans]


def test_each_text_is_answered_as_alone_whatever_stands_beside_it(trained, annotator):
    result = read_predictions(trained / "predictions_test.tsv")
    texts = [text.text for text in plain_texts(result, "sentences")] + ["", " "]
    answers = [[(one["label"], one["start"], one["end"]) for one in answer] for answer in annotator(texts)]
    assert answers == [naive_entities(trained, text) for text in texts]
    assert sum(map(len, answers)) > 50


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(texts=st.lists(some_text, min_size=1, max_size=4), capacity=st.integers(1, 30))
def test_windows_are_those_of_training(tiny_bert, tiny_roberta, texts, capacity):
    for folder in (tiny_bert, tiny_roberta):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        frame = special_frame(tokenizer)
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        layout = lay_out(encoded, capacity)
        words: list[list[list[int]]] = []
        for number in range(len(texts)):
            grouped = itertools.groupby(
                zip(encoded.word_ids(number), encoded["input_ids"][number], strict=True), lambda pair: pair[0]
            )
            words.append([[token for _, token in group] for _, group in grouped])
        rows = encode_subtokens(
            words,
            [[0] * len(one) for one in words],
            range(len(texts)),
            inside=[0],
            tokenizer=tokenizer,
            max_seq_length=capacity + len(frame.before) + len(frame.after),
        )
        mine = [[*frame.before, *layout.ids[start:end].tolist(), *frame.after] for start, end in layout.shown]
        assert mine == [
            ids for ids, owned in zip(rows["input_ids"], rows["word_sizes"], strict=True) if owned
        ]
        assert np.concatenate([np.arange(0), *[np.arange(*one) for one in layout.owned]]).tolist() == list(
            range(len(layout.ids))
        )
        assert layout.lengths.tolist() == [len(one) for one in words]


def test_entities_below_min_score_are_left_out(trained, annotator, tmp_path):
    result = read_predictions(trained / "predictions_test.tsv")
    texts = [text.text for text in plain_texts(result, "sentences")]
    everything = list(annotator(texts))
    scores = sorted(one["score"] for entities in everything for one in entities)
    model = shutil.copytree(trained, tmp_path / "model")
    config = json.loads((trained / "config.json").read_text())
    low, high = scores[len(scores) // 3], scores[2 * len(scores) // 3]
    (model / "config.json").write_text(json.dumps(config | {"min_score": low}))
    for least, flag in ((low, {}), (high, {"min_score": high}), (0.0, {"min_score": 0})):
        kept = [[one for one in entities if one["score"] >= least] for entities in everything]
        assert list(Annotator(model, buffer=3, batch_tokens=300, **flag)(texts)) == kept
        assert sum(map(len, kept)) == sum(score >= least for score in scores)
    for wrong in ("0.4", True, 2, [0.4]):
        (model / "config.json").write_text(json.dumps(config | {"min_score": wrong}))
        with pytest.raises(UsageError, match=r"config.json of .*: found min_score .*; expected"):
            Annotator(model)
    (model / "config.json").write_text(json.dumps(config | {"label_all_tokens": "no"}))
    with pytest.raises(UsageError, match=r"config.json of .*: found label_all_tokens 'no'; expected true or"):
        Annotator(model)
    with pytest.raises(ValueError, match="min_score: found 45; expected a probability from 0 to 1"):
        Annotator(trained, min_score=45)


def test_a_long_text_is_read_to_its_end(annotator):
    sentence = "Levels of c-fos mRNA rose in Jurkat T cells after Interleukin-4. "
    found = next(annotator([sentence * 200]))
    assert {one["start"] // len(sentence) for one in found} == set(range(200)), "each sentence has an entity"


def test_texts_are_read_as_they_are_needed(annotator):
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield f"GATA-{number}"

    answers = annotator(endless())
    for _ in range(4):
        next(answers)
    assert len(read) == 3 * annotator.buffer, "two to answer from, one being prepared"


def test_the_served_check_scores_the_annotator(trained):
    annotator = Annotator(str(trained), buffer=3, batch_tokens=300)  # with the min_score of config.json
    result = read_predictions(trained / "predictions_test.tsv")
    results = json.loads((trained / "test_results.json").read_text())
    report = (trained / "classification_report_test.txt").read_text()
    for form in FORMS:
        texts = plain_texts(result, form)
        right = answered = 0
        for text, answer in zip(texts, annotator(text.text for text in texts), strict=True):
            spans = {(one["label"], one["start"], one["end"]) for one in answer}
            right += len(spans & text.spans)
            answered += len(spans)
        f1 = results[f"test_served_{form}_{JOINT}_f1"]
        assert f1 == pytest.approx(2 * right / (answered + 109))
        assert any(line.split()[:2] == [form, JOINT] and f"{f1:.4f}" in line for line in report.splitlines())


def test_one_text_is_not_taken_for_many(annotator):
    with pytest.raises(TypeError, match=r"such as \[text\]"):
        annotator("GATA-3")


def test_no_buffer_is_refused(trained):
    with pytest.raises(ValueError, match="buffer: found 0; expected at least 1"):
        Annotator(trained, buffer=0)


def test_a_folder_that_annotate_refuses_is_refused(trained, tiny_bert, tmp_path):
    headless = shutil.copytree(tiny_bert, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    labels = {
        name: json.loads((trained / "config.json").read_text())[name] for name in ("id2label", "label2id")
    }
    (headless / "config.json").write_text(json.dumps(config | labels))
    longer = shutil.copytree(trained, tmp_path / "longer")
    settings = json.loads((longer / "tokenizer_config.json").read_text()) | {"model_max_length": 1024}
    (longer / "tokenizer_config.json").write_text(json.dumps(settings))
    for folder, says in (
        (headless, "model: 2 weights are missing"),
        (longer, "model: the tokenizer of .* lets 1024 subtokens pass, the model has 256 positions"),
        (tmp_path / "none", "model: '.*none' can't be loaded"),
    ):
        with pytest.raises(UsageError, match=says):
            Annotator(folder)


def test_labels_of_another_scheme_are_refused(trained):
    model = AutoModelForTokenClassification.from_pretrained(trained)
    model.config.id2label = dict(enumerate(["O", *[f"LABEL_{number}" for number in range(1, 11)]]))
    model.config.id2label[1] = "LABEL_1\x1b[2J"
    with pytest.raises(ServeError, match=r"LABEL_1\\x1b\[2J.*expected O, and B-TYPE"):
        Annotator(model, AutoTokenizer.from_pretrained(trained))
