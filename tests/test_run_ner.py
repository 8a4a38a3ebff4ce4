"""The program as users run it: real trainings of tiny encoders on the embedded sample, real files read.

python -m pytest tests/test_run_ner.py
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from conftest import REPO, run_program
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification, pipeline

import run_ner
from jnlpba_dataset import LABELS, load_jnlpba
from metrics import flatten
from ner_recipe.arguments import RecipeArguments
from ner_recipe.checkpoints import LOCK
from ner_recipe.checks import parse_arguments
from ner_recipe.launch import cpu_has_bf16
from ner_recipe.models import fit_together, load_model, load_tokenizer
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.reports.record import current_commit
from ner_recipe.training import row_losses, token_loss, train

OUTPUT_FILES = {
    *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "run.json"),
    *("classification_report.txt", "classification_report_test.txt"),
    *("predictions_validation.tsv", "predictions_test.tsv", "mistakes_validation.txt", "mistakes_test.txt"),
    *("predictions_validation_joint.tsv", "predictions_test_joint.tsv"),
    *(
        "train_results.json",
        "eval_results.json",
        "test_results.json",
        "all_results.json",
        "trainer_state.json",
    ),
    *("report.html", "figures"),
}
PROMISE = "Mouse thymus was used as a source of glucocorticoid receptor from normal CS lymphocytes."


def read_json(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def weights_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def predicted_words(folder: Path, split: str) -> list[list[str]]:
    return read_predictions(folder / f"predictions_{split}.tsv").words


def corpus_words(split: str, cache_dir: Path) -> list[list[str]]:
    return list(load_jnlpba(name="sample", cache_dir=cache_dir)[split]["tokens"])


def test_a_training_leaves_a_whole_folder(trained, cache_dir):
    assert {path.name for path in trained.iterdir()} == OUTPUT_FILES
    for split, prefix in (("validation", "eval"), ("test", "test")):
        assert predicted_words(trained, split) == corpus_words(split, cache_dir)
        scores = read_predictions(trained / f"predictions_{split}.tsv").scores
        results = read_json(trained, f"{prefix}_results.json")
        expected = flatten(scores, f"{prefix}_")
        assert {name: results[name] for name in expected} == pytest.approx(expected)
        assert results[f"{prefix}_f1"] == pytest.approx(scores["span"]["micro"]["f1"])
        assert read_json(trained, "all_results.json")[f"{prefix}_f1"] == results[f"{prefix}_f1"]
        joint = read_predictions(trained / f"predictions_{split}_joint.tsv").scores
        expected = flatten(joint, f"{prefix}_joint_")
        assert {name: results[name] for name in expected} == pytest.approx(expected)
        assert joint["span"] == joint["span_strict"], "an entity starts with B-"
        assert results[f"{prefix}_joint_f1"] == joint["span"]["micro"]["f1"] != results[f"{prefix}_f1"]


def test_reports_say_what_the_results_say(trained):
    state = read_json(trained, "trainer_state.json")
    evaluations = [entry for entry in state["log_history"] if "eval_f1" in entry][:3]
    best = max(evaluations, key=lambda entry: entry["eval_f1"])
    report = (trained / "classification_report.txt").read_text()
    results = read_json(trained, "eval_results.json")
    assert f"best epoch by f1    {best['epoch']:g} (step {best['step']})" in report
    assert f"validation loss     {best['eval_loss']:.4f}" in report
    assert results["eval_f1"] == pytest.approx(best["eval_f1"]), "the best epoch was not restored"
    assert f"gold entities       {results['eval_entities']}" in report
    assert re.search(r"corpus fingerprint  [0-9a-f]{16}\n", report)
    test_report = (trained / "classification_report_test.txt").read_text()
    assert f"best epoch by f1    {best['epoch']:g} (step {best['step']})" in test_report
    assert f"test loss           {read_json(trained, 'test_results.json')['test_loss']:.4f}" in test_report
    for split, prefix, name in (("validation", "eval", ""), ("test", "test", "_test")):
        report = (trained / f"classification_report{name}.txt").read_text()
        numbers = read_json(trained, f"{prefix}_results.json")
        for row, key in (
            ("first: each word alone, by its first subtoken", "span_micro"),
            ("joint: the best sequence in which entities start with B-", "joint_span_micro"),
            ("micro average", "span_micro"),
            ("protein", "span_protein"),
            ("B-DNA", "word_B-DNA"),
        ):
            line = next(line for line in report.splitlines() if line.startswith(row + " "))
            shown = line.removeprefix(row).split()
            expected = [
                f"{numbers[f'{prefix}_{key}_{score}']:.4f}" for score in ("precision", "recall", "f1")
            ]
            assert shown == [*expected, f"{numbers[f'{prefix}_{key}_support']}"]
        stdout = trained.with_suffix(".stdout").read_text()
        assert re.search(rf"^{split} .* {numbers[f'{prefix}_f1']:.4f} ", stdout, re.MULTILINE)


def test_training_loss_in_the_report_is_the_mean_since_the_evaluation_before(trained):
    history = read_json(trained, "trainer_state.json")["log_history"]
    report = (trained / "classification_report.txt").read_text()
    best_epoch = float(re.search(r"best epoch by f1 +([\d.]+) ", report)[1])
    losses = [entry for entry in history if "loss" in entry and best_epoch - 1 < entry["epoch"] <= best_epoch]
    before = [entry["step"] for entry in history if "loss" in entry and entry["epoch"] <= best_epoch - 1]
    steps = np.diff([max(before, default=0), *(entry["step"] for entry in losses)])
    mean = np.average([entry["loss"] for entry in losses], weights=steps)
    assert f"training loss       {mean:.4f}" in report


def test_mistakes_are_the_sentences_with_an_error(trained):
    for split in ("validation", "test"):
        evaluation = read_predictions(trained / f"predictions_{split}.tsv")
        wrong = [
            number
            for number, (gold, guess) in enumerate(
                zip(evaluation.gold, evaluation.predicted, strict=True), start=1
            )
            if gold != guess
        ]
        text = (trained / f"mistakes_{split}.txt").read_text()
        assert [int(number) for number in re.findall(r"^sentence (\d+)$", text, re.MULTILINE)] == wrong
        marked = sum(
            gold != guess
            for sides in zip(evaluation.gold, evaluation.predicted, strict=True)
            for gold, guess in zip(*sides, strict=True)
        )
        assert text.count("  <--\n") == marked


def test_run_json_records_where_the_figures_come_from(trained):
    record = read_json(trained, "run.json")
    assert record["seed"] == 1
    assert record["command"].startswith("run_ner.py --model_name_or_path")
    assert record["versions"]["torch"] == torch.__version__
    assert record["seconds"] > 0
    assert record["repository"] is None, "--hub_model_id alone publishes nothing"
    assert record["pipeline"].keys() == {"aggregation_strategy", "chosen_on", "stride", "max_length"}
    assert not {"stride", "max_seq_length", "hub_model_id"} & record.keys(), "one name, one meaning"
    assert (record["commit"] or "none")[:40] == (current_commit() or "none")[:40]


def test_the_published_folder_serves_the_pipeline(trained):
    answers = pipeline("ner", model=str(trained), aggregation_strategy="first")(PROMISE)
    for answer in answers:
        assert answer["entity_group"] in {label[2:] for label in LABELS}
        assert PROMISE[answer["start"] : answer["end"]].strip()
    config = read_json(trained, "config.json")
    assert [config["id2label"][str(number)] for number in range(len(LABELS))] == list(LABELS)


def test_evaluating_the_saved_model_gives_the_reported_scores(trained, tmp_path, cache_dir):
    for batch_size, strategy in ((1, "random"), (7, "group_by_length")):
        folder = tmp_path / strategy
        code = run_ner.main(
            [
                *("--model_name_or_path", str(trained), "--dataset_config_name", "sample", "--do_eval"),
                *("--do_predict", "--cache_dir", str(cache_dir), "--output_dir", str(folder)),
                *("--per_device_eval_batch_size", str(batch_size), "--train_sampling_strategy", strategy),
                *("--disable_tqdm", "true", "--do_report_page", "false"),
            ]
        )
        assert code == 0
        for name in ("test", "validation", "test_joint", "validation_joint"):
            name = f"predictions_{name}.tsv"
            assert (folder / name).read_bytes() == (trained / name).read_bytes()
        loss = read_json(folder, "eval_results.json")["eval_loss"]
        assert loss == pytest.approx(read_json(trained, "eval_results.json")["eval_loss"], rel=5e-3)
        assert not (folder / "model.safetensors").exists()


def test_a_model_of_first_subtokens_is_scored_as_it_was_trained(sample_flags, tmp_path):
    model, folder = tmp_path / "model", tmp_path / "scored"
    first = ["--label_all_tokens", "false", "--output_dir", str(model)]
    assert run_ner.main([*sample_flags, *first]) == 0
    words = ["--model_name_or_path", str(model), "--dataset_config_name", "sample", "--do_eval"]
    assert run_ner.main([*words, "--output_dir", str(folder), "--disable_tqdm", "true"]) == 0
    names = [f"predictions_validation{reading}.tsv" for reading in ("", "_joint")]
    assert read_json(model, "eval_results.json")["eval_joint_f1"] > 0.2
    assert [(folder / name).read_bytes() for name in names] == [(model / name).read_bytes() for name in names]
    loss = read_json(folder, "eval_results.json")["eval_loss"]
    assert loss == pytest.approx(read_json(model, "eval_results.json")["eval_loss"], rel=5e-3)
    # Flags of a training say nothing about a model that is only scored.
    assert read_json(folder, "run.json")["settings"] == {"label_all_tokens": False, "max_seq_length": 256}


def test_min_score_is_chosen_on_validation_and_kept(trained, tmp_path, cache_dir):
    chosen = read_json(trained, "config.json")["min_score"]
    for split in ("eval", "test"):
        assert read_json(trained, f"{split}_results.json")[f"{split}_joint_min_score"] == chosen

    def score(split: str, model: Path, *flags: str) -> dict:
        words = ["--model_name_or_path", str(model), "--dataset_config_name", "sample", *flags]
        words += ["--cache_dir", str(cache_dir), "--output_dir", str(tmp_path / "out")]
        assert run_ner.main([*words, "--disable_tqdm", "true", "--do_report_page", "false"]) == 0
        return read_json(tmp_path / "out", f"{split}_results.json")

    given = {value: score("eval", trained, "--do_eval", "--min_score", str(value)) for value in (0, 0.5, 1)}
    best = read_json(trained, "eval_results.json")["eval_joint_f1"]
    assert best == max(best, *(row["eval_joint_f1"] for row in given.values()))
    predicted = [row["eval_joint_span_micro_predicted"] for row in given.values()]
    assert predicted[0] > predicted[1] >= predicted[2] == 0

    model = shutil.copytree(trained, tmp_path / "model")
    config = read_json(trained, "config.json")
    del config["min_score"]
    (model / "config.json").write_text(json.dumps(config))
    alone = score("test", model, "--do_eval", "--do_predict")
    assert alone["test_joint_min_score"] == 0, "only a training chooses"
    assert "joint leaves out" not in (tmp_path / "out" / "classification_report_test.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--min_score", "0.3"], 0.3),
        (["--train_split_name", "train+validation"], 0.0),  # not chosen on what it was trained on
        (["--eval_split_name", "test"], 0.0),
        (["--eval_strategy", "no", "--do_eval", "false", "--load_best_model_at_end", "false"], None),
    ],
)
def test_min_score_is_chosen_on_held_out_data_only_and_said(flags, expected, trained, sample_flags, tmp_path):
    """The training begins with a model that has one, which says nothing about the new model."""
    out = tmp_path / "out"
    more = ["--model_name_or_path", str(trained), "--max_steps", "1", "--do_report_page", "true", *flags]
    assert run_ner.main([*sample_flags, *more, "--output_dir", str(out)]) == 0
    assert read_json(out, "config.json")["min_score"] == expected
    assert read_json(out, "test_results.json")["test_joint_min_score"] == (expected or 0.0)
    names = ("README.md", "report.html", "classification_report_test.txt")
    texts = [(out / name).read_text() for name in names]
    said = [
        "a probability below 0.3",
        "a probability below 0.3",
        "leaves out entities with a score below 0.3",
    ]
    assert [phrase in text for phrase, text in zip(said, texts, strict=True)] == [expected == 0.3] * 3


def test_validation_loss_does_not_depend_on_batches_or_processes(trained, tmp_path, cache_dir):
    """7 rows a batch on two processes: the last batches differ in size, so a mean of means would be off."""
    losses = []
    for batch_size, processes in (("1", 1), ("16", 1), ("7", 2)):
        folder = tmp_path / batch_size
        words = [
            *("--model_name_or_path", trained, "--dataset_config_name", "sample", "--do_eval"),
            *("--bf16", "false", "--cache_dir", cache_dir, "--output_dir", folder),
            *("--per_device_eval_batch_size", batch_size, "--label_smoothing_factor", "0.1"),
            *("--do_report_page", "false"),
        ]
        if processes == 1:
            assert run_ner.main([str(word) for word in words]) == 0
        else:
            launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
            result = run_program(*words, launcher=launcher)
            assert result.returncode == 0, result.stderr
        losses.append(read_json(folder, "eval_results.json")["eval_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_short_windows_lose_no_word_and_no_entity(trained, tmp_path, cache_dir):
    words = [
        *("--model_name_or_path", trained, "--dataset_config_name", "sample", "--do_predict"),
        *("--cache_dir", cache_dir, "--output_dir", tmp_path, "--max_seq_length", "16"),
        *("--do_report_page", "false"),
    ]
    assert run_ner.main([str(word) for word in words]) == 0
    assert predicted_words(tmp_path, "test") == corpus_words("test", cache_dir)
    entities = read_json(trained, "test_results.json")["test_entities"]
    assert read_json(tmp_path, "test_results.json")["test_entities"] == entities


def test_real_test_set_keeps_its_8662_entities_in_windows_of_16(real_corpus, trained, tmp_path, cache_dir):
    words = [
        *(
            "--model_name_or_path",
            trained,
            "--data_dir",
            real_corpus,
            "--do_predict",
            "--max_seq_length",
            "16",
        ),
        *("--cache_dir", cache_dir, "--output_dir", tmp_path, "--per_device_eval_batch_size", "256"),
    ]
    assert run_ner.main([str(word) for word in words]) == 0
    assert "gold entities       8,662" in (tmp_path / "classification_report_test.txt").read_text()
    scores = read_predictions(tmp_path / "predictions_test.tsv").scores
    assert (scores["sentences"], scores["words"], scores["entities"]) == (3856, 101039, 8662)


def test_same_seed_same_weights_other_seed_other_weights(sample_flags, tmp_path):
    digests = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        folder = tmp_path / name
        flags = [*sample_flags, "--output_dir", str(folder), "--num_train_epochs", "1", "--seed", seed]
        assert run_ner.main(flags) == 0
        digests.append(weights_digest(folder))
    assert digests[0] == digests[1] != digests[2]


def test_every_parameter_moves(trained, tiny_bert):
    before, after = load_file(tiny_bert / "model.safetensors"), load_file(trained / "model.safetensors")
    shared = [name for name in after if name in before and "position_embeddings" not in name]
    assert len(shared) > 30
    assert not [name for name in shared if torch.equal(before[name], after[name])]


def by_tokens(sample_flags: list[str], tokens: int) -> list[str]:
    """The flags with batches of subtokens in place of rows, and without anything random in a step."""
    place = sample_flags.index("--per_device_train_batch_size")
    flags = [*sample_flags[:place], *sample_flags[place + 2 :], "--train_batch_tokens", str(tokens)]
    exact = ["--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--bf16", "false"]
    return [*flags, *exact, "--logging_steps", "1"]


def loss_curve(folder: Path) -> np.ndarray:
    history = read_json(folder, "trainer_state.json")["log_history"]
    return np.array([(entry["loss"], entry["grad_norm"]) for entry in history if "loss" in entry])


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_accumulated_batches_follow_the_large_batch(sample_flags, tmp_path, strategy):
    curves = []
    for size, accumulate in (("8", "4"), ("32", "1")):
        folder = tmp_path / size
        flags = [
            *(*sample_flags, "--output_dir", str(folder), "--num_train_epochs", "2", "--logging_steps", "1"),
            *("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0", "--bf16", "false"),
            *("--per_device_train_batch_size", size, "--gradient_accumulation_steps", accumulate),
            *("--train_sampling_strategy", strategy, "--train_on", "sentences"),
        ]
        assert run_ner.main(flags) == 0
        curves.append(loss_curve(folder))
    assert len(curves[0]) == len(curves[1]) > 10
    assert curves[0] == pytest.approx(curves[1], rel=2e-3)


def test_a_batch_too_small_for_a_window_is_refused_before_anything_is_written(sample_flags, tmp_path, capsys):
    earlier = tmp_path / "eval_results.json"
    earlier.write_text("{}")
    assert run_ner.main([*by_tokens(sample_flags, 20), "--output_dir", str(tmp_path)]) == 2
    assert "--train_batch_tokens: 20 is less than the longest window" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]


def test_a_second_run_in_the_same_folder_is_refused(sample_flags, tmp_path, capsys):
    folder = tmp_path / "model"
    hold = (
        "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print(flush=True); time.sleep(60)"
    )
    (folder / "checkpoint-9").mkdir(parents=True)
    words = [sys.executable, "-c", hold, str(folder / LOCK)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert run_ner.main([*sample_flags, "--output_dir", str(folder)]) == 2
        assert f"--output_dir: another run is writing to {folder}; wait" in capsys.readouterr().err
        other.kill()
    assert {path.name for path in folder.iterdir()} == {LOCK, "checkpoint-9"}
    missing = ["--output_dir", str(tmp_path / "new" / "model"), "--train_batch_tokens", "1"]
    assert run_ner.main([*sample_flags, *missing]) == 2
    assert not (tmp_path / "new").exists()


def test_killed_and_resumed_equals_uninterrupted_and_a_token_is_written_nowhere(
    trained, sample_flags, tmp_path, capsys
):
    folder = tmp_path / "model"
    secret = "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"
    sample_flags = [*sample_flags, "--do_report_page", "true", "--hub_token", secret]
    words = [sys.executable, "run_ner.py", *sample_flags, "--output_dir", str(folder)]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert list(folder.glob("checkpoint-*")) and not (folder / "model.safetensors").exists()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]

    assert run_ner.main([*sample_flags, "--output_dir", str(folder)]) == 2
    assert "--resume_from_checkpoint" in capsys.readouterr().err

    (folder / "checkpoint-9999").mkdir()  # what a kill in the middle of writing a checkpoint leaves
    more = ["--resume_from_checkpoint", "--do_serve_check", "--log_level", "info"]
    environment = {**os.environ, "HF_TOKEN": secret}
    resumed = run_program(*sample_flags, "--output_dir", folder, *more, env=environment)
    assert resumed.returncode == 0, resumed.stderr
    assert secret not in resumed.stdout + resumed.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert {path.name for path in folder.iterdir()} == OUTPUT_FILES
    assert weights_digest(folder) == weights_digest(trained)
    for name in ("predictions_test.tsv", "predictions_validation.tsv"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    facts = [
        [
            line
            for line in (place / "classification_report.txt").read_text().splitlines()
            if "command" not in line
        ]
        for place in (folder, trained)
    ]
    assert facts[0] == facts[1]


@pytest.mark.parametrize(
    ("flags", "keep"),
    [
        (
            ["--metric_for_best_model", "loss"],
            lambda epochs: min(epochs, key=lambda epoch: epoch["eval_loss"]),
        ),
        (["--load_best_model_at_end", "false", "--learning_rate", "3e-2"], lambda epochs: epochs[-1]),
    ],
)
def test_the_report_is_of_the_model_that_is_kept(flags, keep, sample_flags, tmp_path):
    assert run_ner.main([*sample_flags, "--output_dir", str(tmp_path), *flags]) == 0
    history = read_json(tmp_path, "trainer_state.json")["log_history"]
    kept = keep([entry for entry in history if "eval_f1" in entry][:3])
    report = (tmp_path / "classification_report.txt").read_text()
    assert re.search(rf"epoch.* {kept['epoch']:g} \(step", report)
    assert read_json(tmp_path, "eval_results.json")["eval_f1"] == pytest.approx(kept["eval_f1"])
    assert re.search(rf"validation loss +{kept['eval_loss']:.4f}", report)


ROWS_SEEN = """
import json, os, sys
import run_ner
from ner_recipe.training import NerTrainer

seen = {}
step = NerTrainer.training_step

def watched(trainer, model, inputs, count=None):
    rows = [str([token for token in row if token]) for row in inputs["input_ids"].tolist()]
    seen.setdefault(int(trainer.state.epoch or 0), []).extend(rows)
    return step(trainer, model, inputs, count)

NerTrainer.training_step = watched
assert run_ner.main(sys.argv[2:]) == 0
json.dump(seen, open(f"{sys.argv[1]}/{os.environ['RANK']}.json", "w"))
"""


def test_two_processes_train_as_one_and_resume_within_an_epoch(sample_flags, few_pieces, tmp_path, cache_dir):
    """Each row once an epoch, the steps of one process that accumulates, and the same weights after a kill.
    Each word is scored once, and one process speaks. The processes add the same words to the vocabulary.

    With transformers' own sampler the processes share only three rows in four from the second epoch on, and
    accelerate does not tell them the epoch when they resume within one.
    """
    script = tmp_path / "rows_seen.py"
    script.write_text(ROWS_SEEN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    saving = [
        "--save_strategy",
        "steps",
        "--save_steps",
        "15",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "15",
    ]
    words = ["--model_name_or_path", str(few_pieces), "--add_tokens_min_count", "2"]
    flags = [*by_tokens(sample_flags, 320), *words, *saving, "--do_predict", "false"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}

    def start(folder: str, *more: str) -> subprocess.Popen:
        words = [*launch, str(script), str(tmp_path), *flags, "--output_dir", str(tmp_path / folder), *more]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, cwd=REPO, env=environment, start_new_session=True, **pipes)

    with start("whole", "--do_predict", "true") as process:
        said, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert said.decode().count("Scores (span level") == 1
    assert read_json(tmp_path / "whole", "run.json")["processes"] == 2
    for split in ("validation", "test"):
        assert predicted_words(tmp_path / "whole", split) == corpus_words(split, cache_dir)
    seen = [read_json(tmp_path, f"{rank}.json") for rank in (0, 1)]
    words = [sum(len(row.split(",")) for rank in seen for row in rank[epoch]) for epoch in ("0", "1", "2")]
    distinct = [len({*seen[0][epoch], *seen[1][epoch]}) for epoch in ("0", "1", "2")]
    shared = [len({*seen[0][epoch]} & {*seen[1][epoch]}) for epoch in ("0", "1", "2")]
    assert min(distinct) > 100 and words[0] == words[2] and max(shared) <= 2, (distinct, words, shared)

    alone = [*flags, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path / "alone")]
    assert run_ner.main(alone) == 0
    assert loss_curve(tmp_path / "alone") == pytest.approx(loss_curve(tmp_path / "whole"), rel=2e-3)

    steps_an_epoch = len(loss_curve(tmp_path / "alone")) // 3
    assert steps_an_epoch < 15 < 2 * steps_an_epoch, "the checkpoint lies within the second epoch"
    with start("killed") as process:
        deadline = time.monotonic() + 120
        while (
            not (tmp_path / "killed/checkpoint-15/trainer_state.json").exists()
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    with start("killed", "--resume_from_checkpoint") as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert weights_digest(tmp_path / "killed") == weights_digest(tmp_path / "whole")


def test_accelerate_launch_on_a_cpu_says_that_it_is_one_process(sample_flags, tmp_path, cache_dir):
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu")
    words = [*sample_flags, "--max_steps", "1", "--output_dir", tmp_path / "one"]
    result = run_program(*words, launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert "torchrun --nproc_per_node" in result.stdout
    assert read_json(tmp_path / "one", "run.json")["processes"] == 1
    assert predicted_words(tmp_path / "one", "test") == corpus_words("test", cache_dir)


def test_byte_level_bpe_gets_its_prefix_space(tiny_roberta, sample_flags, tmp_path, cache_dir):
    flags = [
        *sample_flags,
        "--model_name_or_path",
        str(tiny_roberta),
        "--output_dir",
        str(tmp_path / "model"),
    ]
    assert run_ner.main([*flags, "--num_train_epochs", "1"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    words = ["T", "cells", "bind"]
    one_by_one = tokenizer(words, is_split_into_words=True)["input_ids"]
    assert one_by_one == tokenizer(" ".join(words))["input_ids"]
    assert predicted_words(tmp_path / "model", "test") == corpus_words("test", cache_dir)


def test_the_length_of_a_window_is_what_the_model_has_positions_for(tiny_bert, tiny_roberta, tmp_path):
    """Positions of RoBERTa's kind count from after the padding's: 130 of them take 128 subtokens."""
    for folder, longest in ((tiny_bert, 256), (tiny_roberta, 128)):
        words = ["--model_name_or_path", str(folder), "--do_eval", "--output_dir", str(tmp_path / "out")]
        model_args, data_args, _ = parse_arguments(words)
        tokenizer = load_tokenizer(model_args)
        tokenizer.model_max_length = 10**30  # as of a model without a tokenizer configuration
        model = load_model(model_args, LABELS, fine_tune=True)
        fit_together(data_args, tokenizer, model)
        assert data_args.max_seq_length == tokenizer.model_max_length == longest
        model(input_ids=torch.full((1, longest), 5))
        tokenizer.save_pretrained(tmp_path / folder.name)
        assert AutoTokenizer.from_pretrained(tmp_path / folder.name).model_max_length == longest


def test_a_vocabulary_without_configuration_can_stay_cased(tiny_bert, tmp_path):
    folder = tmp_path / "cased"
    folder.mkdir()
    vocabulary = AutoTokenizer.from_pretrained(tiny_bert).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_bert / name).read_bytes())
    pieces = {}
    for case in ("true", "false"):
        arguments = parse_arguments(
            [
                "--model_name_or_path",
                str(folder),
                "--do_lower_case",
                case,
                "--do_eval",
                "--output_dir",
                str(tmp_path),
            ]
        )
        tokenizer = load_tokenizer(arguments[0])
        pieces[case] = tokenizer.tokenize("Jurkat")
        tokenizer.save_pretrained(tmp_path / case)
        assert AutoTokenizer.from_pretrained(tmp_path / case).tokenize("Jurkat") == pieces[case]
    assert "".join(pieces["false"]).replace("##", "") == "Jurkat"
    assert "J" not in "".join(pieces["true"])


def test_flags_win_over_the_file_and_values_keep_their_type(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        "model_name_or_path: x\ndo_eval: true\nlearning_rate: 5e-5\nseed: 3\nmax_seq_length: 64\n"
    )
    model, data, args = parse_arguments([str(config), "--seed", "4", "--output_dir", str(tmp_path / "out")])
    assert (args.learning_rate, args.seed, data.max_seq_length, model.model_name_or_path) == (
        5e-5,
        4,
        64,
        "x",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "launched", "expected"),
    [
        ([], "no", ("bf16" if cpu_has_bf16() else "fp32") + " (the CPU has"),
        (["--bf16", "false"], "no", "fp32 (as the flags say)"),
        (["--bf16"], "no", "bf16 (as the flags say)"),
        ([], "bf16", "bf16 (as accelerate launch says"),
        (["--bf16", "false"], "bf16", "fp32 (as the flags say)"),
        (["--bf16", "false"], "fp16", "fp32 (as the flags say)"),
    ],
)
@pytest.mark.skipif(torch.accelerator.is_available(), reason="the expectations are those of a CPU")
def test_precision_follows_flags_then_launcher_then_hardware(
    words, launched, expected, monkeypatch, tmp_path
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    common = ["--model_name_or_path", "x", "--do_train", "--output_dir", str(tmp_path / "out")]
    args = parse_arguments([*common, *words])[2]
    assert args.precision_reason.startswith(expected)
    assert args.mixed_precision == expected.split()[0].replace("fp32", "no")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 can be used")
def test_a_precision_of_the_launcher_that_a_cpu_lacks_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    words = ["--model_name_or_path", "x", "--do_train", "--output_dir", str(tmp_path / "out")]
    assert run_ner.main(words) == 2
    assert "accelerate launch --mixed_precision fp16: needs a GPU" in capsys.readouterr().err


def test_several_gpus_without_a_launcher_are_refused_with_the_command_to_use(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(RecipeArguments, "n_gpu", 4)
    words = ["--model_name_or_path", "x", "--do_train", "--output_dir", str(tmp_path / "out")]
    assert run_ner.main(words) == 2
    assert "accelerate launch --num_processes 4" in capsys.readouterr().err


def test_loss_is_one_mean_over_all_labelled_subtokens():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 9, 5, generator=generator)
    labels = torch.randint(0, 5, (6, 9), generator=generator)
    labels[:, ::2] = -100
    labels[0] = -100  # a micro-batch may hold rows of very different numbers of labels

    class Output:
        def __init__(self, part):
            self.logits = part

    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    count = labels.ne(-100).sum()
    parts = sum(token_loss(Output(logits[i : i + 2]), labels[i : i + 2], count) for i in (0, 2, 4))
    torch.testing.assert_close(token_loss(Output(logits), labels), whole)
    torch.testing.assert_close(parts, whole)
    smoothed = token_loss(Output(logits), labels, label_smoothing=0.1)
    torch.testing.assert_close(row_losses(logits, labels, label_smoothing=0.1).sum() / count, smoothed)


def other_labels(folder: Path, tiny_bert: Path) -> Path:
    config = BertConfig.from_pretrained(tiny_bert, num_labels=2, id2label={0: "O", 1: "B-gene"})
    BertForTokenClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


def write_config(folder: Path, text: str) -> str:
    path = folder / "bad.yaml"
    path.write_text(text)
    return str(path)


BAD_INPUT = {
    "no model": (lambda f: ["--do_eval"], ["--model_name_or_path"]),
    "nothing to do": (lambda f: ["--model_name_or_path", "x"], ["--do_train, --do_eval or --do_predict"]),
    "several at once": (
        lambda f: ["--max_eval_samples", "0"],
        ["--model_name", "nothing to do", "--max_eval_samples"],
    ),
    "unknown flag": (lambda f: ["--do_trian"], ["--do_trian", "did you mean --do_train?"]),
    "abbreviated flag": (lambda f: ["--learning", "1e-4"], ["--learning"]),
    "not a number": (lambda f: ["--learning_rate", "fast"], ["--learning_rate", "fast"]),
    "bad choice": (lambda f: ["--model_name_or_path", "x", "--do_train", "--eval_strategy", "now"], ["now"]),
    "no such config": (lambda f: ["none.yaml"], ["none.yaml", "No such file"]),
    "second config": (lambda f: [write_config(f, "seed: 1\n"), "b.yaml"], ["b.yaml"]),
    "unknown key": (lambda f: [write_config(f, "seed: 1\nlr: 2\n")], ["bad.yaml:2", "'lr'"]),
    "doubled key": (lambda f: [write_config(f, "seed: 1\nseed: 2\n")], ["bad.yaml:2", "second time"]),
    "no value": (lambda f: [write_config(f, "seed:\n")], ["bad.yaml:1", "no value"]),
    "not a mapping": (lambda f: [write_config(f, "- seed\n")], ["bad.yaml", "list"]),
    "empty config": (lambda f: [write_config(f, "")], ["bad.yaml"]),
    "not YAML": (lambda f: [write_config(f, "seed: [1\n")], ["bad.yaml", "not YAML"]),
    "fp16 without a GPU": (lambda f: ["--model_name_or_path", "x", "--do_eval", "--fp16"], ["--fp16", "GPU"]),
    "both precisions": (lambda f: ["--bf16", "--fp16"], ["fp16"]),
    "no such score": (lambda f: ["--do_train", "--metric_for_best_model", "mcc"], ["'mcc'", "macro_f1"]),
    "dropped rows": (lambda f: ["--dataloader_drop_last"], ["--dataloader_drop_last"]),
    "batches of rows and of subtokens": (
        lambda f: ["--train_batch_tokens", "1400", "--per_device_train_batch_size", "8"],
        ["--per_device_train_batch_size: 8", "--train_batch_tokens 1400", "--train_batch_tokens 0"],
    ),
    "subtokens in random order": (
        lambda f: ["--train_batch_tokens", "1400", "--train_sampling_strategy", "random"],
        ["--train_sampling_strategy", "'random'", "group_by_length"],
    ),
    "forms in turn in random order": (
        lambda f: ["--do_train", "--train_sampling_strategy", "random"],
        ["--train_sampling_strategy", "--train_on alternate"],
    ),
    "batches divided by accelerate": (
        lambda f: ["--accelerator_config", '{"split_batches": true}'],
        ["--accelerator_config", "split_batches"],
    ),
    "bad order": (lambda f: ["--data_seed", "-1"], ["--data_seed", "at least 0"]),
    "negative batch": (
        lambda f: ["--train_batch_tokens", "-5"],
        ["--train_batch_tokens", "-5", "at least 0"],
    ),
    "no such form of text": (lambda f: ["--train_on", "pages"], ["--train_on", "pages", "alternate"]),
    "bad seed": (lambda f: ["--seed", "-1"], ["--seed", "4294967296"]),
    "not finite": (lambda f: ["--warmup_steps", "0.1", "--max_grad_norm", "nan"], ["--max_grad_norm"]),
    "no epochs": (lambda f: ["--num_train_epochs", "0"], ["--num_train_epochs"]),
    "negative rate": (lambda f: ["--learning_rate", "-1"], ["--learning_rate", "-1"]),
    "push": (
        lambda f: ["--push_to_hub", "--do_eval"],
        ["--push_to_hub", "ner_recipe.publishing"],
    ),
    "optimizer's arguments": (lambda f: ["--do_train", "--optim_args", "a=1,x"], ["--optim_args", "'x'"]),
    "secret in a mistyped flag": (lambda f: ["--hub_tokn", "hf_abc"], ["--hub_tokn '***'", "--hub_token?"]),
    "push often": (lambda f: ["--do_train", "--hub_strategy", "checkpoint"], ["--hub_strategy", "end"]),
    "serve nothing": (lambda f: ["--do_serve_check"], ["--do_serve_check", "--do_eval"]),
    "trust": (lambda f: ["--trust_remote_code"], ["--trust_remote_code"]),
    "output below a file": (
        lambda f: ["--model_name_or_path", "x", "--do_eval", "--output_dir", f"{write_config(f, '')}/out"],
        ["--output_dir", "bad.yaml is a file"],
    ),
    "output where nothing can be written": (
        lambda f: ["--model_name_or_path", "x", "--do_eval", "--output_dir", "/proc/out"],
        ["--output_dir", "nothing can be written in /proc"],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_settings_end_in_one_message(case, tmp_path, capsys):
    words, expected = BAD_INPUT[case]
    output = tmp_path / "out"
    words = words(tmp_path)
    place = [] if "--output_dir" in words else ["--output_dir", str(output)]
    code = run_ner.main([*words, *place])
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("run_ner.py: error: ") and "Traceback" not in error
    assert all(piece in error for piece in expected), error
    assert not output.exists()


def test_a_default_cache_that_can_not_be_written_to_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/proc/x"))
    words = ["--model_name_or_path", "x", "--do_eval", "--output_dir", str(tmp_path / "out")]
    assert run_ner.main(words) == 2
    error = capsys.readouterr().err
    assert "--cache_dir: nothing can be written in /proc" in error and "another HF_HOME" in error


BAD_RUNS = {
    "no such model": (["--model_name_or_path", "nobody/nothing"], ["nobody/nothing"]),
    "no such package": (["--model_name_or_path", "package:no_such/model"], ["no_such"]),
    "no model in package": (["--model_name_or_path", "package:seqeval/metrics"], ["config.json"]),
    "too short": (["--max_seq_length", "2"], ["--max_seq_length", "at least 3"]),
    "too long": (["--max_seq_length", "9999"], ["--max_seq_length", "at most 256"]),
    "overlap": (["--max_seq_length", "16", "--stride", "14"], ["--stride", "14"]),
    "no such split": (["--eval_split_name", "dev"], ["'dev'", "validation"]),
    "no such folder": (
        ["--data_dir", "/nowhere", "--dataset_config_name", "jnlpba"],
        ["/nowhere", "train.tsv"],
    ),
    "sample beside a folder": (["--data_dir", "/tmp"], ["--data_dir"]),
    "no checkpoint": (["--resume_from_checkpoint"], ["--resume_from_checkpoint"]),
    "no such checkpoint": (["--resume_from_checkpoint", "/nowhere"], ["/nowhere"]),
    "no such logger": (["--report_to", "nosuchlogger"], ["nosuchlogger"]),
    "no such setting": (["--hidden_dropout_prob", "1.5"], ["--hidden_dropout_prob", "1.5"]),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_runs_end_in_one_message(case, sample_flags, tmp_path, capsys):
    words, expected = BAD_RUNS[case]
    output = tmp_path / "out"
    code = run_ner.main([*sample_flags, "--output_dir", str(output), *words])
    error = capsys.readouterr().err
    assert code == 2 and "run_ner.py: error: " in error and "Traceback" not in error
    assert all(piece in error for piece in expected), error
    assert not output.exists()


def test_other_labels_are_refused_for_scoring_and_replaced_in_training(
    tiny_bert, sample_flags, tmp_path, capsys, cache_dir
):
    folder = other_labels(tmp_path / "gene", tiny_bert)
    words = [
        "--model_name_or_path",
        str(folder),
        "--dataset_config_name",
        "sample",
        "--cache_dir",
        str(cache_dir),
    ]
    assert run_ner.main([*words, "--do_predict", "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "O, B-gene" in error and ", ".join(LABELS) in error
    flags = [*sample_flags, *words, "--output_dir", str(tmp_path / "new"), "--num_train_epochs", "1"]
    assert run_ner.main(flags) == 0


def test_pickled_weights_are_refused(tiny_bert, sample_flags, tmp_path, capsys):
    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in tiny_bert.iterdir():
        if path.name != "model.safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(tiny_bert / "model.safetensors"), folder / "pytorch_model.bin")
    flags = [*sample_flags, "--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "out")]
    assert run_ner.main(flags) == 2
    assert "safetensors" in capsys.readouterr().err


def test_show_mistakes_prints_aligned_tables(trained, cache_dir, tmp_path, capsys):
    words = [
        *(
            "--model_name_or_path",
            trained,
            "--dataset_config_name",
            "sample",
            "--do_predict",
            "--cache_dir",
            cache_dir,
        ),
        *("--output_dir", tmp_path, "--show_mistakes", "1"),
    ]
    assert run_ner.main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert shown.count("TOKEN") == 1
    block = shown[shown.index("TOKEN") :].split("\n\n")[0].splitlines()
    column = block[0].index("LABEL")
    assert all(line[column:].startswith(("LABEL", "O", "B-", "I-")) for line in block)


def test_mistakes_are_printed_once_for_each_split(trained):
    stdout = trained.with_suffix(".stdout").read_text()
    assert stdout.count("sentences have an error; 1 shown") == stdout.count("TOKEN") == 2


def test_evaluation_alone_selects_nothing_and_is_not_called_optimistic(trained, cache_dir, tmp_path):
    words = ["--model_name_or_path", trained, "--dataset_config_name", "sample", "--do_eval"]
    words += ["--eval_split_name", "test", "--cache_dir", cache_dir, "--output_dir", tmp_path]
    words += ["--do_report_page", "false"]
    assert run_ner.main([str(word) for word in words]) == 0
    assert "optimistic" not in (tmp_path / "classification_report.txt").read_text()
    assert read_json(tmp_path, "run.json")["protocol"] is None


def without_marks(folder: Path) -> Path:
    """The sample without -DOCSTART- lines: nobody knows where its documents begin."""
    folder.mkdir()
    for path in (REPO / "jnlpba_dataset" / "sample").glob("*.tsv"):
        (folder / path.name).write_text(path.read_text().replace("-DOCSTART-\tO\n\n", ""))
    return folder


def test_unknown_documents_mean_sentences_only(sample_flags, tmp_path):
    flags = [
        *sample_flags,
        "--dataset_config_name",
        "jnlpba",
        "--data_dir",
        str(without_marks(tmp_path / "c")),
    ]
    more = ["--num_train_epochs", "1", "--do_serve_check", "--do_report_page", "true"]
    folder = tmp_path / "model"
    assert run_ner.main([*flags, *more, "--output_dir", str(folder)]) == 0
    splits = read_json(folder, "run.json")["splits"]
    assert splits["train"]["windows"] == splits["train"]["sentences"] == 200, "no abstract was made of them"
    assert splits["train"]["documents"] is None
    results = read_json(folder, "test_results.json")
    assert "test_served_sentences_first_f1" in results
    assert not [name for name in results if "abstracts" in name]
    report = (folder / "classification_report_test.txt").read_text()
    assert "documents           unknown" in report and "sentences were drawn" in report
    assert "trained on          single sentences, because documents are unknown" in report
    assert "only sentences were served" in report and not re.search("^abstracts", report, re.MULTILINE)
    assert "| test | unknown | 40 |" in (folder / "README.md").read_text()
    assert "<td>unknown</td>" in (folder / "report.html").read_text()


def test_checksums_are_those_of_the_files_that_were_read(sample_flags, tmp_path, monkeypatch):
    corpus = shutil.copytree(REPO / "jnlpba_dataset" / "sample", tmp_path / "corpus")
    expected = hashlib.sha256((corpus / "test.tsv").read_bytes()).hexdigest()

    def train_and_lose_the_corpus(trainer):
        train(trainer)
        shutil.rmtree(corpus)

    monkeypatch.setattr(run_ner, "train", train_and_lose_the_corpus)
    flags = ["--dataset_config_name", "jnlpba", "--data_dir", str(corpus), "--num_train_epochs", "1"]
    assert run_ner.main([*sample_flags, *flags, "--output_dir", str(tmp_path / "out")]) == 0
    assert read_json(tmp_path / "out", "run.json")["splits"]["test"]["sha256"] == expected


def test_limited_samples_are_said(sample_flags, tmp_path):
    limits = ["--max_train_samples", "16", "--max_eval_samples", "5", "--max_predict_samples", "7"]
    flags = [*sample_flags, "--output_dir", str(tmp_path / "out"), "--num_train_epochs", "1", *limits]
    assert run_ner.main(flags) == 0
    assert "5 of 40" in (tmp_path / "out" / "classification_report.txt").read_text()
    assert "7 of 40" in (tmp_path / "out" / "classification_report_test.txt").read_text()


def test_the_2020_protocol_says_that_it_is_optimistic(tiny_bert, sample_flags, tmp_path):
    config = REPO / "configs" / "jnlpba_2020_protocol.yaml"
    flags = [
        *(str(config), *sample_flags, "--num_train_epochs", "1", "--output_dir", str(tmp_path / "out")),
        *("--model_revision", "main"),
    ]
    assert run_ner.main(flags) == 0
    results = read_json(tmp_path / "out", "all_results.json")
    assert results["eval_f1"] == results["test_f1"]
    for name in ("classification_report.txt", "classification_report_test.txt", "README.md"):
        assert "optimistic" in (tmp_path / "out" / name).read_text()


def test_a_folder_tells_of_one_run(trained, sample_flags, tmp_path, cache_dir, capsys):
    folder = tmp_path / "model"
    words = [*sample_flags, "--output_dir", str(folder), "--num_train_epochs", "1"]
    assert run_ner.main([*words, "--do_report_page", "true"]) == 0
    assert {path.name for path in folder.iterdir()} == OUTPUT_FILES
    (folder / "figures" / "mine.png").write_text("not the recipe's")
    words = [*sample_flags, "--output_dir", str(folder), "--num_train_epochs", "1", "--do_predict", "false"]
    assert run_ner.main(words) == 0
    expected = {name for name in OUTPUT_FILES if "_test" not in name and not name.startswith("test_")}
    assert {path.name for path in folder.iterdir()} == expected - {"report.html"}
    assert [path.name for path in (folder / "figures").iterdir()] == ["mine.png"]
    assert not [name for name in read_json(folder, "all_results.json") if name.startswith("test_")]

    scoring = ["--model_name_or_path", str(trained), "--dataset_config_name", "sample", "--do_predict"]
    scoring += ["--cache_dir", str(cache_dir), "--output_dir", str(folder)]
    for name in ("model.safetensors", "model-00001-of-00002.safetensors"):  # whole, and as one of its shards
        next(folder.glob("*.safetensors")).rename(folder / name)
        assert run_ner.main(scoring) == 2
        assert "holds a model" in capsys.readouterr().err


def test_other_peoples_files_are_not_overwritten(tiny_bert, sample_flags, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert run_ner.main([*sample_flags, "--output_dir", str(tmp_path)]) == 2
    assert run_ner.main([*sample_flags, "--output_dir", str(tiny_bert)]) == 2
    (tmp_path / "sub" / "checkpoint-mine").mkdir(parents=True)
    assert run_ner.main([*sample_flags, "--output_dir", str(tmp_path / "sub")]) == 2
    assert (tmp_path / "sub" / "checkpoint-mine").is_dir()
    assert "README.md" in capsys.readouterr().err and (tmp_path / "README.md").read_text() == "mine"


def test_weights_that_do_not_belong_are_refused(
    tiny_bert, trained, sample_flags, tmp_path, capsys, cache_dir
):
    for source, change, words in (
        (tiny_bert, {"num_hidden_layers": 4}, sample_flags),
        (tiny_bert, {"hidden_size": 32}, sample_flags),
        (trained, {"num_hidden_layers": 3}, [*sample_flags[2:6], "--do_predict"]),
    ):
        folder = tmp_path / f"{source.name}{len(list(tmp_path.iterdir()))}"
        shutil.copytree(source, folder)
        config = read_json(folder, "config.json")
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        flags = [*words, "--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "out")]
        assert run_ner.main(flags) == 2
        assert "weights" in capsys.readouterr().err
    headless = tmp_path / "headless"
    shutil.copytree(trained, headless)
    weights = load_file(headless / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(kept, headless / "model.safetensors", metadata={"format": "pt"})
    flags = [*sample_flags[2:6], "--do_predict", "--model_name_or_path", str(headless)]
    assert run_ner.main([*flags, "--output_dir", str(tmp_path / "out")]) == 2
    assert "classifier" in capsys.readouterr().err


def test_a_custom_corpus_is_not_called_jnlpba(sample_flags, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(REPO / "jnlpba_dataset" / "sample", corpus)
    flags = [
        *sample_flags,
        "--dataset_config_name",
        "jnlpba",
        "--data_dir",
        str(corpus),
        "--num_train_epochs",
        "1",
    ]
    assert run_ner.main([*flags, "--output_dir", str(tmp_path / "out"), "--max_predict_samples", "7"]) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {result.dataset_type for result in card.data.eval_results} == {"custom"}
    test = [result for result in card.data.eval_results if result.dataset_split == "test"]
    assert test[0].dataset_args["sentences"] == "7 of 40" and "| 7 of 40 |" in card.text
