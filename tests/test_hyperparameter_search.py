"""The search: run_ner.py confirms its best setting, a kill loses nothing, processes share the trials.

python -m pytest tests/test_hyperparameter_search.py
"""

import contextlib
import datetime
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from conftest import REPO, run_program

import hyperparameter_search
import run_ner
from ner_recipe import training
from ner_recipe.training import prepare, token_loss
from ner_recipe.tuning import search
from ner_recipe.tuning.search_space import suggested

# Each value differs from its default, so that a value without effect changes the score.
SPACE = {
    "learning_rate": {"low": "3e-4", "high": "3e-3", "log": True},
    "num_train_epochs": [3],
    "per_device_train_batch_size": [4],
    "weight_decay": [0.1],
    "warmup_steps": [0.1],
    "label_smoothing_factor": [0.1],
    "hidden_dropout_prob": [0.2],
    "label_all_tokens": [False],
    "train_on": ["sentences"],
}
RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


@pytest.fixture
def config(tmp_path, sample_flags):
    """A function that writes a configuration with a search space and returns its path."""

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


def test_the_best_setting_is_run_ners_own(config, trained, tmp_path, capsys):
    # With this seed the sixth trial has a low rate, which is pruned.
    teacher = {"teacher_name_or_path": [str(trained)], "distillation_weight": 0.3}
    path = config(SPACE, n_trials=6, metric_for_best_model="loss", seed=10, **teacher)
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

    # A search that has all its trials prints its result again and trains nothing.
    assert hyperparameter_search.main([path]) == 0
    assert len(rows(tmp_path)) == 6
    assert "best.yaml" in capsys.readouterr().out

    assert run_ner.main([str(tmp_path / "search/best.yaml")]) == 0
    result = json.loads((tmp_path / "model/eval_results.json").read_text())
    assert result["eval_loss"] == best["value"]

    assert hyperparameter_search.main([path, "--n_trials", "7", "--weight_decay", "0.5"]) == 2
    assert "holds a search with weight_decay" in capsys.readouterr().err


def running(folder: Path) -> list[int]:
    """The numbers of the running trials.

    Optuna creates missing tables when it opens a database, and one of two that do so at once fails. So the
    database is opened when the program has created it, under the program's own lock.
    """
    if not (folder / "trials.db").exists():
        return []
    with search.lock(folder):
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'trials.db'}")
    return [
        trial.number
        for trial in study.trials
        if trial.state == optuna.trial.TrialState.RUNNING and trial.params
    ]


def test_two_processes_share_the_trials_and_one_that_is_killed_loses_none(config, tmp_path, monkeypatch):
    path = config(RATE, n_trials=4, num_train_epochs=16, add_tokens_min_count=2)
    folder = tmp_path / "search"
    # Both need the same two: a process that has less patience than the other's pulse would take it for dead.
    monkeypatch.setattr(search, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(search, "GRACE_SECONDS", 10)
    program = (
        "import hyperparameter_search; from ner_recipe.tuning import search; "
        f"search.HEARTBEAT_SECONDS, search.GRACE_SECONDS = 1, 10; hyperparameter_search.main([{path!r}])"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        deadline = time.monotonic() + 120
        while not running(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        killed = []

        def kill_when_both_run_a_trial():
            while len(running(folder)) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            killed.append(other.poll() is None)
            other.kill()

        killer = threading.Thread(target=kill_when_both_run_a_trial)
        killer.start()
        assert hyperparameter_search.main([path]) == 0
        killer.join()
    assert killed == [True]
    trials = rows(tmp_path)
    finished = [trial for trial in trials if trial["state"] in ("complete", "pruned")]
    dead = [trial for trial in trials if trial["state"] == "fail"]
    assert len(finished) == 4 and len(dead) == 1 and len(trials) == 5
    # The trial of the dead process was run again, and no two trials drew the same values.
    rates = [trial["params"]["learning_rate"] for trial in finished]
    assert dead[0]["params"]["learning_rate"] in rates
    assert len(set(rates)) == 4


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # the other process has none here
def test_two_processes_that_begin_the_last_trial_at_once_run_it_once(config, tmp_path, monkeypatch, capsys):
    run_trial = search.run_trial

    def run_after_another_process(study, task):
        other = study.ask()
        other.suggest_float("learning_rate", **RATE["learning_rate"])
        run_trial(study, task)
        study.tell(other, 0.5)

    def train(*arguments, **options):
        raise AssertionError("the surplus trial was trained")

    monkeypatch.setattr(search, "run_trial", run_after_another_process)
    monkeypatch.setattr(search, "load_model", train)
    assert hyperparameter_search.main([config(RATE, n_trials=1)]) == 0
    assert [(trial["number"], trial["state"]) for trial in rows(tmp_path)] == [(0, "complete")]
    printed = capsys.readouterr()
    assert "1 complete\n" in printed.out and "Surplus" not in printed.err


def task(n_trials: int) -> search.Search:
    """A Search that only counts trials."""
    return search.Search((None, None, None), {}, n_trials, trainer=None, splits={})


@pytest.mark.parametrize(
    ("earlier", "surplus"),
    [
        (["COMPLETE"], False),
        (["COMPLETE", "FAIL"], False),
        (["COMPLETE", "PRUNED"], True),
        (["COMPLETE", "RUNNING"], True),
        (["COMPLETE", "WAITING"], True),  # the trial of a dead process, which another will run again
    ],
)
def test_a_trial_is_surplus_if_those_before_it_are_enough(earlier, surplus):
    study = optuna.create_study()
    for name in (*earlier, "RUNNING", "COMPLETE", "COMPLETE"):
        value = 0.5 if name == "COMPLETE" else None
        study.add_trial(optuna.create_trial(state=optuna.trial.TrialState[name], value=value))
    trial = optuna.trial.Trial(study, study.trials[len(earlier)]._trial_id)
    assert task(n_trials=2).is_surplus(trial) is surplus


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_a_trial_without_parameters_is_dead_by_this_process_own_clock(hours, monkeypatch):
    """The clock of the machine that began the trial may be hours off."""
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
    trial.datetime_start += datetime.timedelta(hours=hours)
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    searching = task(1)
    assert searching.running([trial]) == [trial]
    clock[0] += search.GRACE_SECONDS
    assert searching.running([trial]) == [trial]
    clock[0] += 1
    assert searching.running([trial]) == []
    trial.params = {"x": 1}
    assert searching.running([trial]) == [trial]


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_an_unforeseen_error_in_a_trial_ends_the_search_with_its_traceback(error, config, monkeypatch):
    def fail(*arguments, **options):
        raise error("unforeseen")

    monkeypatch.setattr(search, "load_model", fail)
    with pytest.raises(error, match="unforeseen"):
        hyperparameter_search.main([config(RATE)])


def test_a_trial_without_enough_memory_is_pruned_and_the_next_one_runs(config, tmp_path, monkeypatch):
    calls, first = [], []

    def short_at_first(*given):
        calls.append(first[0]() is None)
        return torch.empty(2**60) if len(calls) == 1 else token_loss(*given)

    def prepared(*given):
        loaded = prepare(*given)
        first.append(weakref.ref(loaded[0]))
        return loaded

    monkeypatch.setattr(training, "token_loss", short_at_first)
    monkeypatch.setattr(hyperparameter_search, "prepare", prepared)
    assert hyperparameter_search.main([config(RATE, n_trials=2, num_train_epochs=1)]) == 0
    assert [trial["state"] for trial in rows(tmp_path)] == ["pruned", "complete"]
    assert calls[-1], "the model that no trial trains takes no memory"


def test_scores_that_are_not_numbers_end_in_one_message(config, monkeypatch, capsys):
    monkeypatch.setattr(search.Search, "objective", no_score)
    assert hyperparameter_search.main([config(RATE, n_trials=2, num_train_epochs=1)]) == 2
    assert "none of the 2 trials" in capsys.readouterr().err


def no_score(task, metrics):
    raise optuna.TrialPruned("the score is nan")


@pytest.mark.parametrize("commit", ["abc123", None])
def test_the_best_configuration_trains_and_names_its_commit_if_known(commit, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "current_commit", lambda: commit)
    study = optuna.create_study()
    study.add_trial(
        optuna.create_trial(
            value=0.5,
            params={"x": 0.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        )
    )
    text = search.best_config(
        study, {"do_train": False, "n_trials": 3, "seed": 1, "hub_token": "t"}, tmp_path
    )
    assert ("at commit abc123, over x." in text) == bool(commit)
    assert ("hyperparameter_search.py, over x." in text) != bool(commit)
    assert yaml.safe_load(text) == {"do_train": True, "do_eval": True, "seed": 1, "x": 0.5}


def test_the_docstring_names_configurations_that_exist():
    paths = re.findall(r"configs/\S+\.yaml", hyperparameter_search.__doc__)
    assert paths and all((REPO / path).is_file() for path in paths)


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
    assert "trials.db: file is not a database; expected a new database" in capsys.readouterr().err


def test_a_database_of_another_optuna_or_a_damaged_one_is_named(config, tmp_path, capsys):
    database = tmp_path / "search/trials.db"
    for change, reason in (
        ("UPDATE alembic_version SET version_num = 'v99.0.0'", "no longer compatible with the table schema"),
        ("ALTER TABLE trials RENAME COLUMN state TO other", "no such column: trials.state; expected a new"),
    ):
        shutil.rmtree(database.parent, ignore_errors=True)
        database.parent.mkdir()
        optuna.create_study(study_name="search", storage=f"sqlite:///{database}")
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(change)
        assert hyperparameter_search.main([config({"weight_decay": [0.1]})]) == 2
        error = capsys.readouterr().err
        assert f"--search_dir: {database}: " in error and reason in error


@pytest.mark.parametrize(
    ("step", "distribution"),
    [
        (0.5, optuna.distributions.FloatDistribution(1, 3, step=0.5)),
        (1, optuna.distributions.IntDistribution(1, 3, step=1)),
    ],
)
def test_a_step_that_is_a_fraction_is_kept(step, distribution):
    trial = optuna.create_study().ask()
    suggested(trial, "num_train_epochs", {"low": 1, "high": 3, "step": step})
    assert trial.distributions == {"num_train_epochs": distribution}


@pytest.mark.slow
def test_two_processes_of_one_training_are_refused(config):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
    result = run_program(config(SPACE), program="hyperparameter_search.py", launcher=launcher)
    assert result.returncode != 0 and "found 2 processes; a trial trains in one" in result.stderr


@pytest.mark.parametrize(
    ("space", "settings", "complaint"),
    [
        (
            {"learning_rat": [1]},
            {},
            "search_space.learning_rat: unknown setting; expected one of learning_rate",
        ),
        ({"learning_rate": 3}, {}, "search_space.learning_rate: found 3; expected a list of values"),
        ({"learning_rate": []}, {}, "search_space.learning_rate: found []"),
        ({"learning_rate": {"low": "1e-3", "high": "1e-4"}}, {}, "found low 0.001 and high 0.0001"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, {}, "log: true needs low above 0"),
        ({"weight_decay": {"low": 0, "high": 1, "step": 2}}, {}, "found step 2; it must be above 0"),
        (
            {"weight_decay": [0.1, "much"]},
            {},
            "search_space.weight_decay: found 'much'; each value must be a number",
        ),
        ({"weight_decay": [-0.1]}, {}, "search_space.weight_decay: found -0.1; expected at least 0"),
        ({"hidden_dropout_prob": {"low": 0, "high": 1.5}}, {}, "hidden_dropout_prob: found 1.5"),
        ({"per_device_train_batch_size": [8, 8.5]}, {}, "found 8.5; each value must be a whole number"),
        ({"num_train_epochs": [0, 1]}, {}, "search_space.num_train_epochs: found 0; expected more than 0"),
        ({"label_all_tokens": [True, 1]}, {}, "found 1; each value must be true or false"),
        ({"label_all_tokens": {"low": 0, "high": 1}}, {}, "expected a list of values, each true or false"),
        ({"weight_decay": [0, 0]}, {}, "found a value twice"),
        ({}, {}, "--search_space: found nothing to search"),
        ({"weight_decay": {"low": 0, "high": "much"}}, {}, "found 0, 'much'; each must be a number"),
        (SPACE, {"eval_split_name": "test"}, "--eval_split_name: found test with --train_split_name train;"),
        (SPACE, {"train_split_name": "train+validation"}, "found validation with --train_split_name train+"),
        (SPACE, {"do_train": False, "metric_for_best_model": "f2"}, "--metric_for_best_model: found 'f2'"),
        ({"label_all_tokens": [True, False]}, {"metric_for_best_model": "loss"}, "can't be compared"),
        (SPACE, {"load_best_model_at_end": False}, "--load_best_model_at_end: found false; a search scores"),
        (SPACE, {"n_trials": 0}, "--n_trials: found 0; expected at least 1"),
        (SPACE, {"search_dir": __file__}, "is a file; choose a folder"),
        (SPACE, {"storage": "oracle-of-delphi"}, "expected a URL such as postgresql"),
        (SPACE, {"search_dir": "/proc/no"}, "nothing can be written in /proc"),
        (SPACE, {"max_steps": 5}, "search_space.num_train_epochs: --max_steps overrides it"),
        (SPACE, {"train_batch_tokens": 600}, "train_batch_tokens overrides it; remove one of them"),
        (SPACE | {"train_batch_tokens": [600]}, {}, "train_batch_tokens overrides it; remove one of them"),
        (
            {"train_batch_tokens": [300, 600]},
            {"per_device_train_batch_size": 8},
            "search_space.train_batch_tokens: with 300, --per_device_train_batch_size: 8 rows have no effect",
        ),
        (
            {"train_on": ["sentences", "alternate"]},
            {"train_sampling_strategy": "random", "train_on": "sentences"},
            "search_space.train_on: with alternate, --train_sampling_strategy: found 'random'",
        ),
        ({"train_on": ["pages"]}, {}, "found 'pages'; each value must be one of sentences, abstracts"),
        ("[1", {}, "--search_space: not usable JSON"),
        ('{"weight_decay": [0], "weight_decay": [1]}', {}, "found 'weight_decay' twice"),
    ],
)
def test_bad_input_ends_in_one_message(space, settings, complaint, config, tmp_path, capsys):
    assert hyperparameter_search.main([config(space, **settings)]) == 2
    message = capsys.readouterr().err
    assert complaint in message and "Traceback" not in message
    assert not (tmp_path / "search").exists()
    assert not (tmp_path / "model").exists()
