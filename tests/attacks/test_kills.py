"""SIGKILL at random moments, then the same command again: the run ends as if uninterrupted, bit by bit.

    NER_KILLS=30 python -m pytest -m slow tests/attacks/test_kills.py

Moments: any time of the training, any event with a file (checkpoints, reports), and the end (clean-up).
"""

import os
import random
import signal

import pytest
from killed import Kill, KillableRuns, differences, everything

KILLS = int(os.environ.get("NER_KILLS", "5"))
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
    for number in range(KILLS):
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
    record_property("kills", f"{killed} kills in {KILLS} runs")
    assert killed >= KILLS // 2
