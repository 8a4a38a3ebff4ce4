"""SIGKILL at random moments, then the same command again: the run ends as if uninterrupted, bit by bit.

    NER_KILLS=30 python -m pytest -m slow tests/attacks/test_kills.py

Moments: any time after the training began, any event with a file (checkpoints, reports), the end (clean-up).
The search and the range test are killed in the same way, and a command that publishes at each request.
"""

import os
import random
import shutil
import signal

import pytest
from hub_server import USER, WRITER, HubServer
from killed import (
    Kill,
    KillableRuns,
    differences,
    everything,
    half_written,
    range_test_end,
    search_end,
)

from ner_recipe.checkpoints import LOCK

KILLS = int(os.environ.get("NER_KILLS", "5"))
FEW = max(1, KILLS // 3)  # in a test with two processes, and of the search or the range test
SEED = int(os.environ.get("NER_KILL_SEED", "1"))
CLEAN_UP_EVENTS = 60  # the last ones: reports, card, and the deletion of checkpoints


def moment(dice: random.Random, kind: str, seconds: float, events: int) -> Kill:
    """A random moment of a run that took so long, with so many events."""
    if kind == "time":
        return Kill(after_seconds=dice.uniform(0, seconds))
    first = events - CLEAN_UP_EVENTS if kind == "clean-up" else 1
    return Kill(after_events=dice.randint(first, events))


def finish(runs: KillableRuns, flags: list[str], folder, processes: int) -> None:
    """What a user does after a kill: resume; start again if there is nothing to resume from."""
    code = runs.run([*flags, "--resume_from_checkpoint"], folder, processes=processes)
    if code == 2 and "found no checkpoint" in runs.said():
        code = runs.run(flags, folder, processes=processes)
    assert code == 0 or f"the run in {folder} is finished" in runs.said(), runs.said()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["time", "file", "clean-up"])
def test_killed_and_resumed_is_as_uninterrupted(kind, processes, sample_flags, tmp_path, record_property):
    runs, dice = KillableRuns(tmp_path), random.Random(f"{SEED} {kind} {processes}")
    whole = tmp_path / "whole" / "model"
    assert runs.run(sample_flags, whole, processes=processes) == 0, runs.said()
    seconds, events = (float(whole.with_suffix(name).read_text()) for name in (".seconds", ".events"))
    expected, killed = everything(whole), 0
    count = KILLS if processes == 1 else FEW
    for number in range(count):
        folder = tmp_path / f"killed_{number}" / "model"
        code = runs.run(sample_flags, folder, moment(dice, kind, seconds, int(events)), processes)
        killed += code == -signal.SIGKILL
        if code and dice.random() < 0.5:  # a second kill, of the resumed run
            again = moment(dice, kind, seconds, int(events))
            killed += runs.run([*sample_flags, "--resume_from_checkpoint"], folder, again, processes) == -9
        if code:
            finish(runs, sample_flags, folder, processes)
        found = everything(folder)
        wrong = {name: (expected.get(name), found.get(name)) for name in differences(expected, found)}
        assert wrong == {}, f"run {number} ({code})"
    record_property("kills", f"{killed} kills in {count} runs")
    assert killed >= count // 2


SEARCH = [
    *("--num_train_epochs", "2", "--max_train_samples", "40", "--max_eval_samples", "20", "--n_trials", "3"),
    *("--metric_for_best_model", "loss"),  # scores stay 0 in so short a training, and equal ones have no best
    *("--search_space", '{"learning_rate": {"low": 1e-3, "high": 1e-2}, "weight_decay": [0, 0.1]}'),
]
SWEEP = ["--num_steps", "24", "--max_train_samples", "60", "--seeds", "1", "2"]
TUNING = {"hyperparameter_search": (SEARCH, search_end), "lr_range_test": (SWEEP, range_test_end)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["time", "file"])
@pytest.mark.parametrize("program", TUNING)
def test_killed_and_started_again_it_ends_as_uninterrupted(
    kind, program, sample_flags, tmp_path, record_property
):
    runs, dice = KillableRuns(tmp_path), random.Random(f"{SEED} {kind} {program}")
    flags, end = [*sample_flags, *TUNING[program][0]], TUNING[program][1]
    whole = tmp_path / "whole" / "result"
    assert runs.run(flags, whole, program=program) == 0, runs.said()
    seconds, events = (float(whole.with_suffix(name).read_text()) for name in (".seconds", ".events"))
    expected, killed = end(whole), 0
    for number in range(FEW):
        folder = tmp_path / f"killed_{number}" / "result"
        for kills in (1, dice.randint(0, 1)):  # half of them twice
            if kills:
                code = runs.run(flags, folder, moment(dice, kind, seconds, int(events)), program=program)
                assert code in (0, -signal.SIGKILL), runs.said()
                killed += code == -signal.SIGKILL
                assert half_written(folder) == []
        assert runs.run(flags, folder, program=program) == 0, runs.said()
        found = end(folder)
        wrong = {name: (expected.get(name), found.get(name)) for name in differences(expected, found)}
        assert wrong == {}, f"run {number}"
    record_property("kills", f"{killed} kills in {FEW} runs")
    assert killed >= FEW // 2


def on_disk(folder) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["run_ner", "ner_recipe.publishing"])
def test_killed_while_it_publishes_it_leaves_all_or_nothing(
    program, trained, sample_flags, tmp_path, record_property
):
    """At a request, before the Hub acts, or after it acted and before it answers; then publish again."""
    runs, dice, killed, repo_id = KillableRuns(tmp_path), random.Random(f"{SEED} {program}"), 0, f"{USER}/m"
    moments = [None]
    while moments:
        moment = moments.pop(0)
        folder = tmp_path / f"run_{len(list(tmp_path.iterdir()))}" / "m"
        again = ["model", str(folder), "--hub_model_id", repo_id]
        with HubServer() as hub:
            seen = []

            def watch(place: str, moment=moment, seen=seen) -> None:
                seen.append(place)
                if len(seen) == moment:
                    os.kill(runs.started[0].pid, signal.SIGKILL)

            hub.watch = watch
            address = (hub.endpoint, WRITER)
            if program == "run_ner":
                flags = [*sample_flags, "--max_steps", "2", "--push_to_hub", "--hub_model_id", repo_id]
                code = runs.run(flags, folder, hub=address)
            else:
                shutil.copytree(trained, folder)
                code = runs.run(again, folder, program=program, hub=address)
            hub.watch = None
            if moment is None:
                assert code == 0, runs.said()
                # Before its training run_ner.py asks whose token it has.
                first = seen.index("before POST /api/repos/create") if program == "run_ner" else 0
                moments = list(range(first + 1, len(seen) + 1))
                if program == "run_ner":
                    moments = dice.sample(moments, min(KILLS, len(moments)))
                continue
            assert code == -signal.SIGKILL, (moment, runs.said())
            killed += 1
            pushed = hub.files(repo_id) if hub.repos else {}
            assert pushed in ({}, on_disk(folder)), (moment, seen)
            assert runs.run(again, folder, program="ner_recipe.publishing", hub=address) == 0, runs.said()
            assert hub.files(repo_id) == on_disk(folder)
            assert f'model="{repo_id}"' in (folder / "README.md").read_text()
    record_property("kills", f"{killed} kills")
    assert killed
