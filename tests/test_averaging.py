"""Averaged weights: a naive loop gives the same, what is saved is what was evaluated, training is unchanged.

python -m pytest tests/test_averaging.py

That a killed training resumes to the same average is tested with the other resumptions, in test_run_ner.py.
"""

import json
import shutil

import pytest
import torch
from conftest import run_program
from safetensors.torch import load_file
from transformers import TrainerCallback

import run_ner
from ner_recipe.averaging import TRAINED_WEIGHTS
from ner_recipe.checks import parse_arguments
from ner_recipe.training import NerTrainer, build_trainer, prepare

STEPS = 6  # of which the third and the sixth are saved


class EachStep(TrainerCallback):
    """Copies the weights before the first step and after each step."""

    def on_train_begin(self, args, state, control, model, **others):
        self.weights = [copied(model)]

    def on_step_end(self, args, state, control, model, **others):
        self.weights.append(copied(model))


def copied(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def trainings(sample_flags, tmp_path_factory) -> dict[str, tuple[NerTrainer, EachStep]]:
    """A finished training with an average and one without, otherwise the same."""
    done = {}
    for decay in ("0.5", "0"):
        folder = tmp_path_factory.mktemp("averaging")
        saving = ["--max_steps", str(STEPS), "--save_strategy", "steps", "--save_steps", str(STEPS // 2)]
        quiet = ["--eval_strategy", "steps", "--eval_steps", str(STEPS // 2), "--save_total_limit", "2"]
        last = ["--load_best_model_at_end", "false", "--ema_decay", decay, "--output_dir", str(folder)]
        model_args, data_args, args = parse_arguments([*sample_flags, *saving, *quiet, *last])
        loaded = prepare(["train", "validation"], model_args, data_args, args)
        trainer, _ = build_trainer(*loaded, args, facts={})
        steps = EachStep()
        trainer.add_callback(steps)
        trainer.train()
        done[decay] = (trainer, steps)
    return done


def test_the_average_is_that_of_a_naive_loop(trainings):
    trainer, steps = trainings["0.5"]
    for name, parameter in trainer.model.named_parameters():
        average = steps.weights[0][name].double()
        for step, weights in enumerate(steps.weights[1:], start=1):
            decay = min(0.5, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights[name].double()
        assert torch.allclose(parameter.double(), average, atol=1e-6), name


def test_the_weights_that_are_trained_do_not_change(trainings):
    (_, averaged), (_, plain) = trainings["0.5"], trainings["0"]
    assert len(averaged.weights) == len(plain.weights) == STEPS + 1
    for ours, theirs in zip(averaged.weights, plain.weights, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_holds_the_model_that_was_evaluated_and_the_weights_to_go_on_with(
    trainings, sample_flags, tmp_path
):
    trainer, steps = trainings["0.5"]
    checkpoint = f"{trainer.args.output_dir}/checkpoint-{STEPS // 2}"
    kept = load_file(f"{checkpoint}/{TRAINED_WEIGHTS}")
    assert all(torch.equal(kept[name], weight) for name, weight in steps.weights[STEPS // 2].items())

    logged = next(row for row in trainer.state.log_history if row["step"] == STEPS // 2 and "eval_f1" in row)
    flags = [
        *sample_flags,
        "--do_train",
        "false",
        "--do_predict",
        "false",
        "--model_name_or_path",
        checkpoint,
    ]
    result = run_program(*flags, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "eval_results.json").read_text())
    assert scores["eval_f1"] == logged["eval_f1"]
    assert scores["eval_loss"] == pytest.approx(logged["eval_loss"], rel=1e-6)


@pytest.mark.parametrize("decay", ["0", "0.5"])
def test_a_training_resumes_with_the_average_it_began_with(decay, trainings, sample_flags, tmp_path, capsys):
    other = {"0": "0.5", "0.5": "0"}[decay]
    place = tmp_path / f"checkpoint-{STEPS // 2}"
    shutil.copytree(f"{trainings[decay][0].args.output_dir}/{place.name}", place)
    flags = [*sample_flags, "--output_dir", str(tmp_path), "--ema_decay", other, "--resume_from_checkpoint"]
    assert run_ner.main(flags) == 2
    error = capsys.readouterr().err
    assert "--ema_decay" in error and str(place) in error
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
