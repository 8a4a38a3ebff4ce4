"""What goes wrong late: divergence, broken weights, an earlier run's results, deleted checkpoints, escapes.

python -m pytest tests/test_reliability.py
"""

import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest
import torch
from conftest import REPO, run_program
from safetensors.torch import load_file, save_file

import run_ner
from ner_recipe import checks
from ner_recipe.checks import CHECKPOINT_FILES, delete_checkpoints, last_checkpoint
from ner_recipe.reports.result import make_result
from ner_recipe.reports.text import render_mistakes


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

    monkeypatch.setattr(checks.shutil, "rmtree", watched)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_the_resumed_run_ends_with_the_same_model(
    number, trained, sample_flags, tmp_path
):
    folder = tmp_path / "model"
    words = [sys.executable, "run_ner.py", *sample_flags, "--output_dir", str(folder)]
    logging = [*words, "--logging_steps", "1"]
    with subprocess.Popen(logging, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            if b"'loss'" in line:  # after a first step, and long before the first checkpoint of its own
                process.send_signal(number)
                break
        _, errors = process.communicate()
    error = errors.decode()
    assert process.returncode == 128 + number, error
    (checkpoint,) = folder.glob("checkpoint-*")
    assert f"run_ner.py: interrupted; {checkpoint} was saved" in error and "Traceback" not in error
    assert int(checkpoint.name[11:]) < 20, "it did not wait for the epoch"
    assert not (folder / "model.safetensors").exists()

    result = run_program(*words[2:], "--resume_from_checkpoint")
    assert result.returncode == 0, result.stderr
    assert load_file(folder / "model.safetensors").keys() == load_file(trained / "model.safetensors").keys()
    for name, weight in load_file(folder / "model.safetensors").items():
        assert torch.equal(weight, load_file(trained / "model.safetensors")[name]), name
