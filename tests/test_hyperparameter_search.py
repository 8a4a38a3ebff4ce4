"""The search: its best setting is run_ner.py's own, a kill loses nothing, processes share the trials.

python -m pytest tests/test_hyperparameter_search.py
"""

import json
import subprocess
import sys
import threading
import time

import optuna
import pytest
import yaml
from conftest import REPO, run_program

import hyperparameter_search
import run_ner

# Each value differs from its default: one that did not take effect would change the score.
SPACE = {
    "learning_rate": {"low": "3e-4", "high": "3e-3", "log": True},
    "num_train_epochs": [3],
    "per_device_train_batch_size": [4],
    "weight_decay": [0.1],
    "warmup_steps": [0.1],
    "label_smoothing_factor": [0.1],
    "hidden_dropout_prob": [0.2],
    "label_all_tokens": [False],
    "train_on_abstracts": [False],
}


@pytest.fixture
def config(tmp_path, sample_flags):
    """Writes a configuration with a search space; returns its path."""

    def write(space: dict, **settings) -> str:
        flags = dict(zip(sample_flags[:6:2], sample_flags[1:6:2], strict=True))
        base = {name.removeprefix("--"): value for name, value in flags.items()}
        base |= {"output_dir": str(tmp_path / "model"), "search_dir": str(tmp_path / "search")}
        base |= {"do_train": True, "do_eval": True, "do_predict": True, "max_train_samples": 60}
        base |= {"disable_tqdm": True, "seed": 1, "search_space": space}
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(base | settings))
        return str(path)

    return write


def rows(tmp_path) -> list[dict]:
    return json.loads((tmp_path / "search/trials.json").read_text())


def test_the_best_setting_is_run_ners_own(config, tmp_path, capsys):
    path = config(SPACE, n_trials=6, metric_for_best_model="loss")
    assert hyperparameter_search.main([path]) == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"search", "search.yaml"}
    pictures = {
        f"{name}.{kind}" for name in ("optimization_history", "param_importances") for kind in ("png", "svg")
    }
    assert {entry.name for entry in (tmp_path / "search").iterdir()} == pictures | {
        *("trials.db", "lock", "trials.json", "best.yaml"),
    }
    trials = rows(tmp_path)
    assert [trial["number"] for trial in trials] == list(range(6))
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned and all("1.0" in trial["by_epoch"] and "3.0" not in trial["by_epoch"] for trial in pruned)
    best = min((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["value"])
    assert set(best["by_epoch"]) == {"1.0", "2.0", "3.0"}
    assert best["value"] == min(best["by_epoch"].values())

    # A search that has all its trials says so again, and trains nothing.
    assert hyperparameter_search.main([path]) == 0
    assert len(rows(tmp_path)) == 6
    assert "best.yaml" in capsys.readouterr().out

    assert run_ner.main([str(tmp_path / "search/best.yaml")]) == 0
    result = json.loads((tmp_path / "model/eval_results.json").read_text())
    assert result["eval_loss"] == best["value"]

    assert hyperparameter_search.main([path, "--n_trials", "7", "--weight_decay", "0.5"]) == 2
    assert "holds a search with weight_decay" in capsys.readouterr().err


def running(url: str) -> list[int]:
    """Numbers of the trials that a process says it runs."""
    try:
        study = optuna.load_study(study_name="search", storage=url)
    except Exception:  # not made yet, or only half
        return []
    return [
        trial.number
        for trial in study.trials
        if trial.state == optuna.trial.TrialState.RUNNING and trial.params
    ]


def test_two_processes_share_the_trials_and_one_that_is_killed_loses_none(config, tmp_path, monkeypatch):
    path = config(
        {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, n_trials=4, num_train_epochs=16
    )
    url = f"sqlite:///{tmp_path / 'search' / 'trials.db'}"
    words = [sys.executable, "hyperparameter_search.py", path]
    monkeypatch.setattr(hyperparameter_search, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(hyperparameter_search, "GRACE_SECONDS", 4)
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        deadline = time.monotonic() + 120
        while not running(url) and time.monotonic() < deadline:
            time.sleep(0.1)
        killed = []

        def kill_once_both_are_at_it():
            while len(running(url)) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            killed.append(other.poll() is None)
            other.kill()

        killer = threading.Thread(target=kill_once_both_are_at_it)
        killer.start()
        assert hyperparameter_search.main([path]) == 0
        killer.join()
    assert killed == [True]
    trials = rows(tmp_path)
    finished = [trial for trial in trials if trial["state"] in ("complete", "pruned")]
    dead = [trial for trial in trials if trial["state"] == "fail"]
    assert len(finished) == 4 and len(dead) == 1 and len(trials) == 5
    # What the dead process had begun was run again, and no two drew the same values.
    rates = [trial["params"]["learning_rate"] for trial in finished]
    assert dead[0]["params"]["learning_rate"] in rates
    assert len(set(rates)) == 4


def test_a_token_is_neither_kept_nor_compared(config, tmp_path, capsys):
    path = config({"weight_decay": [0.1]}, n_trials=1, num_train_epochs=1)
    assert hyperparameter_search.main([path, "--hub_token", "hf_secret", "--push_to_hub", "true"]) == 0
    assert hyperparameter_search.main([path]) == 0
    for file in (tmp_path / "search").iterdir():
        assert b"hf_secret" not in file.read_bytes(), file
    assert "hf_secret" not in "".join(capsys.readouterr())


def test_a_damaged_database_is_named(config, tmp_path, capsys):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/trials.db").write_bytes(b"not a database" * 100)
    assert hyperparameter_search.main([config({"weight_decay": [0.1]})]) == 2
    assert "trials.db: file is not a database; expected" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_of_one_training_are_refused(config):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
    result = run_program(config(SPACE), program="hyperparameter_search.py", launcher=launcher)
    assert result.returncode != 0 and "found 2 processes of one training" in result.stderr


@pytest.mark.parametrize(
    ("space", "settings", "complaint"),
    [
        ({"learning_rat": [1]}, {}, "search_space.learning_rat: unknown; expected one of learning_rate"),
        ({"learning_rate": 3}, {}, "search_space.learning_rate: found 3; expected a list of values"),
        ({"learning_rate": []}, {}, "search_space.learning_rate: found []"),
        ({"learning_rate": {"low": "1e-3", "high": "1e-4"}}, {}, "found low 0.001 and high 0.0001"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, {}, "expected true with low above 0"),
        ({"weight_decay": {"low": 0, "high": 1, "step": 2}}, {}, "found step 2; expected more than 0"),
        (
            {"weight_decay": [0.1, "much"]},
            {},
            "search_space.weight_decay: found 'much'; expected each a number",
        ),
        ({"weight_decay": [-0.1]}, {}, "search_space.weight_decay: found -0.1; expected at least 0"),
        ({"hidden_dropout_prob": {"low": 0, "high": 1.5}}, {}, "hidden_dropout_prob: found 1.5"),
        ({"per_device_train_batch_size": [8, 8.5]}, {}, "found 8.5; expected each a whole number"),
        ({"num_train_epochs": [0, 1]}, {}, "search_space.num_train_epochs: found 0; expected more than 0"),
        ({"label_all_tokens": [True, 1]}, {}, "found 1; expected each a true or false"),
        ({"label_all_tokens": {"low": 0, "high": 1}}, {}, "expected true or false, a list of them"),
        ({"weight_decay": [0, 0]}, {}, "found a value twice"),
        ({}, {}, "--search_space: found nothing to search"),
        (SPACE, {"eval_split_name": "test"}, "--eval_split_name: expected a split that is not trained on"),
        (SPACE, {"train_split_name": "train+validation"}, "--eval_split_name: expected a split that is not"),
        ({"label_all_tokens": [True, False]}, {"metric_for_best_model": "loss"}, "can't be compared"),
        (SPACE, {"n_trials": 0}, "--n_trials: found 0; expected at least 1"),
        (SPACE, {"search_dir": __file__}, "expected a folder"),
        (SPACE, {"storage": "oracle-of-delphi"}, "expected a URL such as postgresql"),
        (SPACE, {"search_dir": "/proc/no"}, "where nothing can be written"),
        (SPACE, {"max_steps": 5}, "search_space.num_train_epochs: --max_steps is given"),
        ("[1", {}, "--search_space: not JSON that can be used"),
        ('{"weight_decay": [0], "weight_decay": [1]}', {}, "found 'weight_decay' twice"),
    ],
)
def test_bad_input_ends_in_one_message(space, settings, complaint, config, tmp_path, capsys):
    assert hyperparameter_search.main([config(space, **settings)]) == 2
    message = capsys.readouterr().err
    assert complaint in message and "Traceback" not in message
    assert not (tmp_path / "search").exists()
    assert not (tmp_path / "model").exists()
