"""What goes wrong late: divergence, broken weights, an earlier run's results, deleted checkpoints, escapes.

python -m pytest tests/test_reliability.py
"""

import gc
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPO, run_program
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

import run_ner
from jnlpba_dataset.jnlpba import SAMPLE_FOLDER
from ner_recipe import checkpoints, training
from ner_recipe.checkpoints import CHECKPOINT_FILES, SETTINGS_FILE, delete_checkpoints, last_checkpoint
from ner_recipe.checks import parse_arguments
from ner_recipe.interruption import Interrupted
from ner_recipe.reports.result import make_result
from ner_recipe.reports.text import render_mistakes
from ner_recipe.training import build_trainer, evaluate, prepare, train


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--learning_rate", "1e6"], "is nan"),
        (["--learning_rate", "1e6", "--max_grad_norm", "0"], "is nan"),
        (["--learning_rate", "1e35", "--max_steps", "2"], "is "),
    ],
)
def test_a_training_that_diverges_fails_and_says_where(flags, found, sample_flags, tmp_path, capsys):
    earlier = tmp_path / "eval_results.json"
    earlier.write_text("{}")
    quiet = ["--logging_steps", "1", "--lr_scheduler_type", "constant"]
    assert run_ner.main([*sample_flags, *quiet, "--output_dir", str(tmp_path), *flags]) == 1
    error = capsys.readouterr().err
    assert "run_ner.py: error: --learning_rate: the " in error and found in error
    assert "at step " in error and "use a lower rate" in error and "No model was saved" in error
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]


@pytest.mark.parametrize(
    ("place", "flags"),
    [("token_loss", "--train_batch_tokens, --per_device_train"), ("row_losses", "--per_device_eval_batch")],
)
def test_a_batch_that_the_memory_does_not_suffice_for_is_one_sentence(
    place, flags, sample_flags, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(training, place, lambda *given: torch.empty(2**60))
    assert run_ner.main([*sample_flags, "--max_steps", "2", "--output_dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "run_ner.py: error: the memory does not suffice (" in error and f"; lower {flags}" in error
    assert [path.name for path in tmp_path.iterdir()] == []


def test_nothing_of_the_optimizer_is_left_when_the_splits_are_scored(sample_flags, tmp_path):
    flags = [*sample_flags, "--max_steps", "2", "--output_dir", str(tmp_path)]
    model_args, data_args, args = parse_arguments(flags)
    trainer, scorers = build_trainer(
        *prepare(["train", "validation"], model_args, data_args, args), args, facts={}
    )
    train(trainer)
    weights = {id(weight) for weight in trainer.model.parameters()}
    left = [one for one in gc.get_objects() if issubclass(type(one), torch.optim.Optimizer)]
    held = {id(weight) for one in left for group in one.param_groups for weight in group["params"]}
    assert weights.isdisjoint(held)
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert evaluate(trainer, scorers)["validation"].scores["entities"] > 0


def test_a_model_with_weights_that_are_not_numbers_is_refused(tiny_bert, sample_flags, tmp_path, capsys):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_bert, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    weights[name][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out"
    assert run_ner.main([*sample_flags, "--model_name_or_path", str(folder), "--output_dir", str(out)]) == 2
    assert name in capsys.readouterr().err and not out.exists()


def test_a_finished_run_is_recognised(trained, sample_flags, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run_ner.main([*sample_flags, "--output_dir", str(folder), "--resume_from_checkpoint"]) == 2
    assert f"the run in {folder} is finished" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    # A half-deleted checkpoint goes; one that another program wrote, which can't be resumed from, stays.
    for name, file in (("checkpoint-4", "optimizer.pt"), ("checkpoint-8", "trainer_state.json")):
        (folder / name).mkdir()
        (folder / name / file).touch()
    assert run_ner.main([*sample_flags, "--output_dir", str(folder), "--resume_from_checkpoint"]) == 2
    assert f"the run in {folder} is finished" in capsys.readouterr().err
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-8"]


def test_no_moment_of_the_deletion_leaves_a_newer_checkpoint_without_the_best(tmp_path, monkeypatch):
    """Resumed from the best epoch, a run ends with the same model; from a newer one alone it loses it."""
    for step in (4, 8, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in (*CHECKPOINT_FILES, "rng_state.pth"):
            (folder / name).touch()
    left = []
    remove = shutil.rmtree

    def watched(folder):
        left.append(last_checkpoint(str(tmp_path)))  # what a kill would resume from, before and after
        remove(folder)
        left.append(last_checkpoint(str(tmp_path)))

    monkeypatch.setattr(checkpoints.shutil, "rmtree", watched)
    delete_checkpoints(str(tmp_path))
    assert [path and path.name for path in left] == [*["checkpoint-8"] * 2, *["checkpoint-4"] * 2, None, None]


def test_others_may_read_a_model_where_the_umask_lets_them(trained):
    umask = os.umask(0)
    os.umask(umask)
    mode = stat.S_IMODE((trained / "model.safetensors").stat().st_mode)
    assert mode == 0o666 & ~umask == stat.S_IMODE((trained / "run.json").stat().st_mode)


def test_escapes_of_a_corpus_do_not_reach_the_terminal():
    words = [["\x1b[2J\x1b]0;owned\x07", "\u202egnp.exe", "caf\u00e9", "\u4e2d"]]
    text = render_mistakes(make_result(words, [["O"] * 4], [["B-DNA", "O", "O", "O"]], resamples=100))
    assert "\\x1b[2J\\x1b]0;owned\\x07" in text and "\\u202egnp.exe" in text and "caf\u00e9" in text
    assert all(character.isprintable() or character == "\n" for character in text)


def interrupted(number: int, flags: list[str], folder: Path) -> str:
    """Stop a training by a signal after its first step; what it said."""
    words = [sys.executable, "run_ner.py", *flags, "--output_dir", str(folder), "--logging_steps", "1"]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            if b"'loss'" in line:
                process.send_signal(number)
                break
        _, errors = process.communicate()
    assert process.returncode == 128 + number, errors.decode()
    return errors.decode()


def test_a_signal_saves_a_checkpoint_and_the_resumed_run_ends_with_the_same_model(
    trained, sample_flags, tmp_path
):
    folder = tmp_path / "model"
    error = interrupted(signal.SIGTERM, sample_flags, folder)
    (checkpoint,) = folder.glob("checkpoint-*")
    assert f"run_ner.py: interrupted; {checkpoint} was saved" in error and "Traceback" not in error
    assert int(checkpoint.name[11:]) < 20, "it did not wait for the epoch"
    assert not (folder / "model.safetensors").exists()

    newer = folder / "checkpoint-9999"
    shutil.copytree(checkpoint, newer)
    os.truncate(newer / "optimizer.pt", 1000)
    result = run_program(*sample_flags, "--output_dir", folder, "--resume_from_checkpoint")
    assert result.returncode == 0, result.stderr
    assert f"Resuming from {checkpoint} ({newer}/optimizer.pt is damaged" in result.stdout
    expected = load_file(trained / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        assert torch.equal(weight, expected.pop(name)), name
    assert not expected


class SendsSigterm(TrainerCallback):
    """Sends SIGTERM to this process at one event of one epoch."""

    def __init__(self, event: str, epoch: float):
        self.epoch = epoch
        setattr(self, event, self.send)

    def send(self, args, state, control, **others):
        if state.epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("event", "epoch"), [("on_step_end", 1), ("on_evaluate", 1), ("on_step_end", 3), ("on_evaluate", 3)]
)
def test_a_signal_at_the_end_of_an_epoch_waits_for_its_evaluation(
    event, epoch, trained, sample_flags, tmp_path
):
    flags = [*sample_flags, "--output_dir", str(tmp_path)]
    model_args, data_args, args = parse_arguments(flags)
    loaded = prepare(["train", "validation"], model_args, data_args, args)
    trainer, _ = build_trainer(*loaded, args, facts={})
    trainer.add_callback(SendsSigterm(event, epoch))
    with pytest.raises(Interrupted, match=r"checkpoint-\d+ was saved"):
        train(trainer)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers are restored"
    checkpoint = last_checkpoint(str(tmp_path))
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    assert [row["epoch"] for row in history if "eval_f1" in row] == list(range(1, epoch + 1))

    assert run_ner.main([*flags, "--resume_from_checkpoint"]) == 0
    expected = load_file(trained / "model.safetensors")
    for name, weight in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(weight, expected.pop(name)), name
    steps = [
        json.loads((folder / "trainer_state.json").read_text())["global_step"]
        for folder in (trained, tmp_path)
    ]
    assert steps[0] == steps[1]


def test_a_run_resumes_only_with_the_settings_and_the_corpus_that_it_began_with(
    sample_flags, tmp_path, capsys
):
    corpus, folder = tmp_path / "corpus", tmp_path / "model"
    shutil.copytree(SAMPLE_FOLDER, corpus)
    flags = [*sample_flags, "--dataset_config_name", "jnlpba", "--data_dir", str(corpus)]
    interrupted(signal.SIGINT, flags, folder)
    (checkpoint,) = folder.glob("checkpoint-*")
    files = {path: path.read_bytes() for path in checkpoint.iterdir()}

    def refused(*more: str) -> str:
        resumed = [*flags, "--output_dir", str(folder), "--resume_from_checkpoint", *more]
        assert run_ner.main(resumed) == 2
        assert {path: path.read_bytes() for path in checkpoint.iterdir()} == files
        assert [path.name for path in folder.iterdir()] == [checkpoint.name]
        return capsys.readouterr().err

    error = refused("--seed", "2", "--learning_rate", "1e-4", "--show_mistakes", "3")
    assert f"{checkpoint} began with --learning_rate 0.003 (now 0.0001), --seed 1 (now 2);" in error

    error = refused("--label_all_tokens", "true", "--seed", "2")
    assert f"{checkpoint} began with --seed 1 (now 2);" in error

    file = corpus / "train.tsv"
    original = file.read_text()
    assert "of\tO\n" in original
    file.write_text(original.replace("of\tO\n", "off\tO\n", 1))
    assert f"{checkpoint} began with another train split (fingerprint " in refused()
    file.write_text(original)

    silver = tmp_path / "silver.tsv"
    silver.write_text("IL-2\tB-protein\n")
    assert "began with another text of --silver_train_file (fingerprint None, now " in refused(
        "--silver_train_file", str(silver)
    )
    settings = checkpoint / SETTINGS_FILE
    content = json.loads(files[settings])
    content["corpus"]["silver text"] = "0"
    files[settings] = json.dumps(content).encode()
    settings.write_bytes(files[settings])
    assert "began with another text of --silver_train_file (fingerprint 0, now None)" in refused()
    del content["corpus"]["silver text"]
    content["settings"]["old_flag"] = True
    files[settings] = json.dumps(content).encode()
    settings.write_bytes(files[settings])
    assert "another version of the recipe (this one has no --old_flag)" in refused()
    del content["settings"]["old_flag"], content["settings"]["train_on"]
    files[settings] = json.dumps(content).encode()
    settings.write_bytes(files[settings])
    assert "another version of the recipe (that one has no --train_on)" in refused()

    settings.write_text("{")
    files[settings] = b"{"
    assert f"{settings} can't be read" in refused()


DAMAGES = (
    ("model.safetensors", lambda path: os.truncate(path, path.stat().st_size - 1)),
    ("training_weights.safetensors", lambda path: path.write_bytes(b"")),
    ("training_weights.safetensors", lambda path: path.unlink()),
    ("optimizer.pt", lambda path: path.write_bytes(b"")),
    ("scheduler.pt", lambda path: os.truncate(path, 100)),
    ("rng_state.pth", lambda path: path.write_bytes(path.read_bytes()[::-1])),
    ("trainer_state.json", lambda path: path.write_text('{"global_step": -5}')),
    ("run_settings.json", lambda path: path.unlink()),
)


def test_a_damaged_checkpoint_is_refused_by_the_name_of_its_file(sample_flags, tmp_path, capsys):
    interrupted(signal.SIGTERM, sample_flags, tmp_path / "model")
    (checkpoint,) = (tmp_path / "model").glob("checkpoint-*")
    assert {name for name, _ in DAMAGES} <= {path.name for path in checkpoint.iterdir()}
    for number, (name, harm) in enumerate(DAMAGES):
        folder = tmp_path / str(number)
        copy = folder / checkpoint.name
        shutil.copytree(checkpoint, copy)
        harm(copy / name)
        for value in ([], [str(copy)]):
            words = ["--output_dir", str(folder), "--resume_from_checkpoint", *value]
            assert run_ner.main([*sample_flags, *words]) == 2
            error = capsys.readouterr().err
            assert "--resume_from_checkpoint: " in error and str(folder) in error
            assert name in error or (not value and not (copy / name).exists())
