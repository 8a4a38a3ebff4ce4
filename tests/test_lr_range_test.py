"""The range test: its rules on curves with a known answer, and the command on the sample.

python -m pytest tests/test_lr_range_test.py
"""

import copy
import json
import math
import re
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
import torch
from conftest import REPO, run_program
from hypothesis import given
from hypothesis import strategies as st

import lr_range_test
import run_ner
from ner_recipe import training
from ner_recipe.checks import parse_arguments
from ner_recipe.tuning import range_test
from ner_recipe.tuning.lr_rules import RECOMMENDED, RULES, moving_average, smooth, steepest, suggest, valley
from ner_recipe.tuning.range_test import RangeTestArguments, Sweep, by_setting

RATES = np.geomspace(1e-6, 1e-1, 100)
DECADES = np.log10(RATES)


def cliff(bottom: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A logistic fall from 2.4 to 1, 90 % of it before `bottom`; a rise from 100 times that rate on."""
    fall = 1.4 / (1 + np.exp(-3.5 * (DECADES - np.log10(bottom)) - math.log(9)))
    rise = np.maximum(0, DECADES - np.log10(bottom) - 2) ** 2 * 3
    return 2.4 - fall + rise + noise * np.random.default_rng(seed).standard_normal(100)


@pytest.mark.parametrize("bottom", [3e-5, 2e-4, 1e-3])
@pytest.mark.parametrize("noise", [0, 0.05])
def test_the_knee_is_where_nine_tenths_of_the_fall_are_done(bottom, noise):
    said = suggest(RATES, cliff(bottom, noise), smoothing=0.8)
    assert said.recommended == said.rates[RECOMMENDED]
    assert bottom / 2 < said.recommended < bottom * 2
    assert set(said.rates) == set(RULES)
    assert said.rates["steepest"] < said.recommended


def test_every_rule_on_a_valley_without_noise():
    losses = np.abs(DECADES + 3.5) + 1  # a straight descent to 10**-3.5, then up again
    said = suggest(RATES, losses, smoothing=0.0)
    assert said.rates["minimum/10"] == pytest.approx(10**-4.5, rel=0.1)
    assert said.rates["knee"] == pytest.approx(10**-3.75, rel=0.1)
    assert said.rates["valley"] == pytest.approx(10**-4.75, rel=0.15)
    assert losses.min() == losses[50]


def naive_valley(losses: list[float]) -> int:
    """The definition: for each end the longest decreasing chain, found by trying every predecessor."""
    chains = []
    for end, loss in enumerate(losses):
        chains.append(1 + max([chains[i] for i in range(end) if losses[i] > loss], default=0))
    end = chains.index(max(chains))
    third = max(chains) / 3
    return max(end - max(chains), 0) + int(third) + int(third / 2)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40))
def test_valley_equals_a_naive_one(losses):
    assert valley(np.array(losses, float)) == naive_valley(losses)


@given(st.lists(st.floats(2, 2.4), min_size=2, max_size=50), st.floats(0, 0.95))
def test_smoothing_has_no_lag(losses, smoothing):
    """Reversed losses give the reversed curve, unlike with a one-way average."""
    there, back = smooth(losses, smoothing), smooth(losses[::-1], smoothing)[::-1]
    assert there == pytest.approx(back)
    assert min(losses) - 1e-9 <= there.min() and there.max() <= max(losses) + 1e-9
    naive = [
        np.average(losses[: end + 1], weights=[smoothing ** (end - i) for i in range(end + 1)])
        for end in range(len(losses))
    ]
    assert moving_average(np.array(losses), smoothing) == pytest.approx(np.array(naive))


@pytest.mark.parametrize(
    ("losses", "change"),
    [
        (np.full(100, 2.4), "falls by no more than its noise"),
        (2.4 + 0.2 * np.random.default_rng(1).standard_normal(100), "falls by no more than its noise"),
        (np.linspace(2.4, 9, 100), "lower --min_lr"),
        (np.linspace(2.4, 1, 100), "raise --max_lr"),
        (np.r_[np.linspace(2.4, 1, 4), np.linspace(1, 3, 96)], "lower --min_lr"),
        (cliff(2e-4)[:12], "raise --num_steps"),
        (np.full(100, np.nan), "found 0 points"),
    ],
    ids=["plateau", "noise", "rising", "falling", "falls at once", "few points", "nan"],
)
def test_no_suggestion_says_what_to_change(losses, change):
    said = suggest(RATES[: len(losses)], losses, smoothing=0.8)
    assert said.recommended is None
    assert change in said.why


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_attracts_nothing(bad):
    whole = cliff(2e-4)
    broken = whole.copy()
    broken[80:] = bad
    assert suggest(RATES, broken, 0.8) == suggest(RATES[:80], whole[:80], 0.8)


def test_steps_that_fp16_skips_repeat_a_rate_and_change_nothing():
    times = np.where(np.isin(np.arange(100), (0, 40)), 4, 1)
    whole, repeated = (suggest(np.repeat(RATES, n), np.repeat(cliff(2e-4), n), 0.8) for n in (1, times))
    assert repeated == whole


def test_an_explosion_is_not_the_steepest_descent():
    losses = cliff(2e-4)
    losses[90:92] = 50, 1.5
    said = suggest(RATES, losses, smoothing=0.0)
    assert said.rates["steepest"] < 2e-4
    assert steepest(RATES, losses, lowest=70) < 60


@pytest.mark.parametrize("explosion", [19, 1e4, 1e7, 1e30])
def test_how_far_a_loss_explodes_changes_nothing(explosion):
    losses = cliff(2e-4)[:86]
    whole, cut = suggest(RATES[:86], losses, 0.8), suggest(RATES[:86], [*losses[:-1], explosion], 0.8)
    assert cut.recommended == pytest.approx(whole.recommended, rel=0.13)  # a step of the sweep
    assert suggest(RATES[:3], [2.4, 2.3, explosion], 0.8).why.endswith("lower --max_lr, or --min_lr too")


@pytest.fixture
def trainer(sample_flags, tmp_path):
    """A Trainer on the sample as run_ner.py builds it, with 20 steps an epoch."""
    model_args, data_args, args = parse_arguments([*sample_flags, "--output_dir", str(tmp_path / "model")])
    args.max_steps, args.eval_strategy, args.save_strategy = 8, "no", "no"
    args.load_best_model_at_end = False
    model, tokenizer, splits = training.prepare(["train"], model_args, data_args, args)
    return training.build_trainer(model, tokenizer, splits, args, facts={})[0]


def state(trainer) -> tuple[dict, dict]:
    """Copies of what a training changes: the weights and the state of the optimizer."""
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return weights, copy.deepcopy(trainer.optimizer.state_dict()["state"])


def equal(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_trainer_is_left_as_it_was(trainer):
    """A training ends in the same weights with a range test before it; a range test keeps the optimizer."""
    test = RangeTestArguments(max_lr=1e3, num_steps=25)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    settings, random_state = dict(vars(trainer.args)), torch.get_rng_state()
    curve = range_test.lr_range_test(trainer, test)
    assert len(curve.losses) > 5
    assert equal(before, trainer.model.state_dict())
    assert trainer.optimizer is None and vars(trainer.args) == settings
    assert torch.equal(torch.get_rng_state(), random_state)

    trainer.train()
    weights, moments = state(trainer)
    optimizer = trainer.optimizer
    again = range_test.lr_range_test(trainer, test)
    assert again.losses[0] != curve.losses[0]  # it swept the trained model
    assert trainer.optimizer is optimizer and trainer.state.global_step == 8
    assert equal(weights, trainer.model.state_dict())
    for number, moment in optimizer.state_dict()["state"].items():
        assert equal(moment, moments[number])

    trainer.model.load_state_dict(before)
    torch.set_rng_state(random_state)
    trainer.optimizer = None
    trainer.train()
    assert equal(weights, trainer.model.state_dict())


def test_it_stops_when_the_loss_is_not_finite_or_diverges(trainer):
    curve = range_test.lr_range_test(trainer, RangeTestArguments(max_lr=1e30, num_steps=60))
    assert len(curve.losses) < 60
    assert math.isfinite(curve.losses[-2]) and curve.ended != "at the last step"
    assert curve.rates == pytest.approx(np.geomspace(1e-6, 1e30, 60)[: len(curve.rates)])
    weight = next(trainer.model.parameters())
    weight.data[:] = torch.nan
    curve = range_test.lr_range_test(trainer, RangeTestArguments(num_steps=60))
    assert curve.ended == "at step 1: the loss is nan" and len(curve.losses) == 1


def test_seeds_of_one_setting_become_their_median():
    curve = range_test.Curve([], [], "at the last step", 0.0)
    said = [suggest(RATES, cliff(bottom), smoothing=0.8) for bottom in (1e-4, 2e-4, 6e-4)]
    none = suggest(RATES, np.full(100, 2.4), smoothing=0.8)
    flags = [{"weight_decay": decay, "seed": seed} for decay in (0, 0.1) for seed in (1, 2, 3)]
    found = [*said, said[0], none, none]
    settings = by_setting(
        [Sweep(flag, curve, one) for flag, one in zip(flags, found, strict=True)],
    )
    assert [setting.flags for setting in settings] == [{"weight_decay": 0}, {"weight_decay": 0.1}]
    assert settings[0].suggestion.recommended == said[1].recommended
    assert settings[1].suggestion.recommended is None and settings[1].suggestion.why == none.why


def legend(settings) -> list[str]:
    figure = range_test.draw(settings, RangeTestArguments(), "a title")
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_the_picture_names_seeds_of_one_setting_and_otherwise_settings():
    curve = range_test.Curve(RATES.tolist(), cliff(2e-4).tolist(), "at the last step", 0.0)
    said = suggest(curve.rates, curve.losses, smoothing=0.8)
    alone = legend(by_setting([Sweep({"seed": seed}, curve, said) for seed in (1, 2)]))
    assert alone[:2] == ["seed 1", "seed 2"]
    assert len(alone) == 2 + len(RULES) and sum("(suggested)" in label for label in alone) == 1
    assert legend(by_setting([Sweep({"seed": 1}, curve, said)]))[0] == "smoothed loss"
    sweeps = [Sweep({"weight_decay": d / 10, "seed": s}, curve, said) for d in range(9) for s in (1, 2)]
    rate = range_test.short(said.recommended)
    assert legend(by_setting(sweeps)) == [f"--weight_decay {d / 10:g}: {rate}" for d in range(9)]


def read(folder) -> dict:
    return json.loads((folder / "lr_range_test.json").read_text())


def test_the_first_loss_is_that_of_run_ner(sample_flags, tmp_path):
    """With the same seed, batch, vocabulary and loss they are equal to the last digit."""
    flags = [*sample_flags, *("--gradient_accumulation_steps", "2", "--label_smoothing_factor", "0.1")]
    flags += ["--add_tokens_min_count", "2"]
    alone = ["--max_steps", "1", "--logging_steps", "1", "--output_dir", str(tmp_path / "model")]
    assert run_ner.main([*flags, *alone]) == 0
    logged = json.loads((tmp_path / "model/trainer_state.json").read_text())["log_history"][0]["loss"]
    place = ["--range_test_dir", str(tmp_path / "test")]
    assert lr_range_test.main([*flags, *place, "--num_steps", "2"]) == 0
    assert read(tmp_path / "test")["curves"][0]["points"][0]["loss"] == logged


def test_the_program_compares_settings_on_equal_batches(sample_flags, tmp_path, capsys):
    folder = tmp_path / "test"
    flags = ["--weight_decay_grid", "0", "0.1", "--dropout_grid", "0", "0.3", "--seeds", "1", "2"]
    sweep = ["--num_steps", "25", "--min_lr", "1e-5", "--range_test_dir", str(folder)]
    assert lr_range_test.main([*sample_flags, *sweep, *flags]) == 0
    result = read(folder)
    first = {}
    for curve in result["curves"]:
        flags = curve["flags"]
        first[flags["weight_decay"], flags["hidden_dropout_prob"], flags["seed"]] = curve["points"][0]["loss"]
    assert len(first) == 8
    # Weight decay acts after the first loss, dropout within it; a seed changes the head and the batches.
    assert len({first[decay, 0.3, 1] for decay in (0, 0.1)}) == 1
    assert len(set(first.values())) == 4
    lines = capsys.readouterr().out.splitlines()
    assert sum("--weight_decay 0.1 --hidden_dropout_prob 0.3" in line for line in lines) == 1
    assert sum("uggestion" in line for line in lines) == len(result["suggestions"]) == 4


def test_a_real_run_writes_pictures_and_numbers_and_nothing_else(sample_flags, tmp_path):
    output = tmp_path / "model"
    launcher = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch")
    words = [*sample_flags, "--output_dir", output, "--max_lr", "10", "--num_steps", "60"]
    result = run_program(*words, program="lr_range_test.py", launcher=launcher)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "model_lr_range_test"
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
    assert {path.name for path in folder.iterdir()} == {
        f"lr_range_test.{kind}" for kind in ("png", "svg", "json")
    }
    assert (folder / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    assert xml.etree.ElementTree.parse(folder / "lr_range_test.svg").getroot().tag.endswith("svg")
    numbers = read(folder)
    points = numbers["curves"][0]["points"]
    assert [point["step"] for point in points] == list(range(1, len(points) + 1))
    assert [point["learning_rate"] for point in points] == pytest.approx(
        np.geomspace(1e-6, 10, 60)[: len(points)]
    )
    assert {"commit", "command", "seed", "versions", "settings", "sweep", "device"} <= set(numbers)
    flag = result.stdout.strip().splitlines()[-1].split("--learning_rate ")[1].split()[0]
    assert float(flag) == pytest.approx(numbers["suggestions"][0]["recommended"], rel=0.05)


def test_the_models_own_folder_is_refused(sample_flags, tmp_path, capsys):
    folder = str(tmp_path / "model")
    assert lr_range_test.main([*sample_flags, "--output_dir", folder, "--range_test_dir", folder]) == 2
    assert "the model's own --output_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--min_lr", "0"], "--min_lr: found 0.0; expected at least 1e-12"),
        (["--min_lr", "1", "--max_lr", "0.1"], "--max_lr: found 0.1; expected more than --min_lr (1)"),
        (["--num_steps", "1"], "--num_steps: found 1; expected at least 2"),
        (["--smoothing", "1"], "--smoothing: found 1.0; expected at least 0 and less than 1"),
        (["--diverge_factor", "nan"], "--diverge_factor: found nan; expected a finite number"),
        (["--schedule", "cosine"], "--schedule: found 'cosine'; expected one of"),
        (["--seeds", "1", "1"], "--seeds: found 1 twice"),
        (["--dropout_grid", "0.1", "1.5"], "--dropout_grid: found 1.5; expected at least 0 and less than 1"),
        (["--range_test_dir", __file__], "is a file; choose a folder"),
        (["--range_test_dir", "/proc/no"], "nothing can be written in /proc"),
        (["--smothing", "0.5"], "did you mean --smoothing?"),
        (["--data_dir", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_ends_in_one_message(flags, complaint, sample_flags, tmp_path, capsys):
    sample = ["--output_dir", str(tmp_path / "model")]
    if "--data_dir" in flags:
        sample += ["--dataset_config_name", "jnlpba"]
    assert lr_range_test.main([*sample_flags, *sample, *flags]) == 2
    message = capsys.readouterr().err
    assert complaint in message and message.startswith("lr_range_test.py: error: ")
    assert not list(tmp_path.iterdir())


def test_an_unforeseen_error_keeps_its_traceback(sample_flags, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(lr_range_test, "sweep_all", fail)
    with pytest.raises(RuntimeError, match="unforeseen"):
        lr_range_test.main([*sample_flags, "--range_test_dir", str(tmp_path / "test")])


def test_the_docstring_names_configurations_that_exist():
    paths = re.findall(r"configs/\S+\.yaml", lr_range_test.__doc__)
    assert paths and all((REPO / path).is_file() for path in paths)
