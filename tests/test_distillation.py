"""Training towards teachers: their probabilities are those of a naive loop, and what a run does with them.

python -m pytest tests/test_distillation.py

Names and models that can't be teachers are among the attacks (tests/attacks/table.py).
"""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_reliability import interrupted
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

import run_ner
from ner_recipe.batching import TEACHER
from ner_recipe.checks import parse_arguments
from ner_recipe.distillation import load_teachers
from ner_recipe.launch import UsageError
from ner_recipe.training import build_trainer, prepare, token_loss


@pytest.fixture(scope="module")
def teachers(trained, tmp_path_factory) -> list[str]:
    """The trained model, and one with other weights in the head and its labels in the opposite order."""
    other = tmp_path_factory.mktemp("teachers") / "other"
    shutil.copytree(trained, other)
    config = json.loads((other / "config.json").read_text())
    labels = [config["id2label"][str(number)] for number in range(len(config["id2label"]))][::-1]
    config["id2label"] = dict(enumerate(labels))
    config["label2id"] = {label: number for number, label in enumerate(labels)}
    (other / "config.json").write_text(json.dumps(config))
    weights = load_file(other / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = (0.5 * weights[name]).flip(0).contiguous()
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    return [str(trained), str(other)]


def loaded(flags: list[str], folder: Path):
    """What run_ner.py prepares with these flags, and its arguments."""
    model_args, data_args, args = parse_arguments([*flags, "--output_dir", str(folder), "--bf16", "false"])
    return *prepare(["train", "validation"], model_args, data_args, args), args


def in_window(window: dict, labels: int) -> np.ndarray:
    """The teachers' probabilities in a window: (tokens, labels)."""
    return np.frombuffer(window[TEACHER], np.float16).reshape(-1, labels)


@pytest.mark.parametrize("count", [2, 1])  # the second must not find the first in the cache
def test_windows_hold_the_mean_probabilities_of_all_teachers(count, teachers, sample_flags, tmp_path):
    names = teachers[-count:]
    model, _, splits, _ = loaded([*sample_flags, "--teacher_name_or_path", *names], tmp_path)
    assert TEACHER not in splits["validation"].windows.column_names
    nets = [AutoModelForTokenClassification.from_pretrained(name).eval() for name in names]
    labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
    for window in splits["train"].windows:
        inputs = {name: torch.tensor([window[name]]) for name in ("input_ids", "attention_mask")}
        mean = np.zeros((len(window["input_ids"]), len(labels)))
        for net in nets:
            with torch.no_grad():
                values = net(**inputs).logits[0].softmax(-1).numpy()
            mean += values[:, [net.config.label2id[label] for label in labels]] / len(nets)
        mean[np.equal(window["labels"], -100)] = 0
        assert in_window(window, len(labels)) == pytest.approx(mean, abs=1e-3)


def test_a_teacher_with_fewer_positions_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "short")
    for name, key, value in (
        ("config", "max_position_embeddings", 64),
        ("tokenizer_config", "model_max_length", 1e30),
    ):
        file = tmp_path / "short" / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    weights = load_file(trained / "model.safetensors")
    positions = "bert.embeddings.position_embeddings.weight"
    save_file(
        {**weights, positions: weights[positions][:64].clone()},
        tmp_path / "short/model.safetensors",
        {"format": "pt"},
    )
    tokenizer = AutoTokenizer.from_pretrained(trained)
    labels = AutoConfig.from_pretrained(trained).id2label.values()
    assert len(load_teachers([str(trained)], [*labels], tokenizer)) == 1
    with pytest.raises(
        UsageError, match="takes 64 subtokens; expected at least 256; use --max_seq_length 64"
    ):
        load_teachers([str(tmp_path / "short")], [*labels], tokenizer)


@pytest.mark.parametrize("labelled", ["true", "false"])
def test_the_loss_is_that_of_the_tags_and_that_of_the_teachers(labelled, teachers, sample_flags, tmp_path):
    flags = [*sample_flags, "--label_all_tokens", labelled, "--distillation_weight", "0.6"]
    flags += ["--label_smoothing_factor", "0.1", "--teacher_name_or_path", teachers[1]]
    model, tokenizer, splits, args = loaded(flags, tmp_path)
    trainer, _ = build_trainer(model.eval(), tokenizer, splits, args, facts={})
    batch = next(iter(trainer.get_train_dataloader()))
    found = trainer.compute_loss(model, dict(batch)).item()

    taught = batch.pop(TEACHER)
    outputs = model(**{name: value for name, value in batch.items() if name != "labels"})
    rows = batch["labels"] != -100
    assert torch.equal(taught.sum(-1) > 0, rows)
    of_teachers = -(taught[rows] * outputs.logits[rows].log_softmax(-1)).sum() / rows.sum()
    of_tags = token_loss(outputs, batch["labels"], label_smoothing=0.1)
    assert found == pytest.approx((0.4 * of_tags + 0.6 * of_teachers).item(), rel=1e-5)


def test_a_run_names_its_teachers_and_resumes_with_them_alone(teachers, sample_flags, tmp_path, capsys):
    teacher, whole, folder = (tmp_path / name for name in ("teacher", "whole", "model"))
    shutil.copytree(teachers[0], teacher)
    flags = [*sample_flags, "--num_train_epochs", "2", "--teacher_name_or_path", str(teacher)]
    assert run_ner.main([*flags, "--output_dir", str(whole)]) == 0
    named = f"{teacher} (weight 0.7)"
    assert json.loads((whole / "run.json").read_text())["teachers"] == named
    assert f"teachers            {named}" in (whole / "classification_report.txt").read_text()
    assert "- learnt from: " in (whole / "README.md").read_text()

    interrupted(signal.SIGTERM, flags, folder)
    resumed = [*flags, "--output_dir", str(folder), "--resume_from_checkpoint"]
    weights = (teacher / "model.safetensors").read_bytes()
    shutil.copy(f"{teachers[1]}/model.safetensors", teacher)
    capsys.readouterr()
    assert run_ner.main(resumed) == 2
    assert "began with another teacher (fingerprint " in capsys.readouterr().err
    without = resumed.index("--teacher_name_or_path")
    assert run_ner.main([*resumed[:without], *resumed[without + 2 :]]) == 2
    assert f"began with --teacher_name_or_path ['{teacher}'] (now None)" in capsys.readouterr().err
    (teacher / "model.safetensors").write_bytes(weights)
    assert run_ner.main(resumed) == 0
    expected = load_file(whole / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        assert torch.equal(weight, expected[name]), name


def test_accumulated_batches_with_teachers_follow_the_large_batch(teachers, sample_flags, tmp_path):
    norms = []
    for size, accumulate in (("4", "2"), ("8", "1")):
        folder = tmp_path / size
        flags = [
            *(*sample_flags, "--teacher_name_or_path", *teachers, "--max_steps", "6", "--logging_steps", "1"),
            *("--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0"),
            *("--per_device_train_batch_size", size, "--gradient_accumulation_steps", accumulate),
            *("--train_on", "sentences", "--output_dir", str(folder), "--bf16", "false"),
        ]
        assert run_ner.main(flags) == 0
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        norms.append([(row["loss"], row["grad_norm"]) for row in history if "grad_norm" in row])
    assert len(norms[0]) == 6
    assert np.array(norms[0]) == pytest.approx(np.array(norms[1]), rel=2e-3)
