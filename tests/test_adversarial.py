"""Adversarial epochs: the gradient is that of a naive loop, earlier epochs do not change, and runs resume.

python -m pytest tests/test_adversarial.py
"""

import copy
import shutil

import pytest
import torch
from transformers import AutoModelForTokenClassification, TrainerCallback

import run_ner
from ner_recipe.adversarial import EPSILON
from ner_recipe.checks import parse_arguments
from ner_recipe.training import NerTrainer, build_trainer, prepare, token_loss

TWO_EPOCHS = ["--num_train_epochs", "2", "--save_total_limit", "2", "--bf16", "false"]


def gradients(model, batch: dict) -> dict[str, torch.Tensor]:
    """Of the loss of a batch, by parameter, from a copy of the model."""
    model = copy.deepcopy(model).eval()
    model.zero_grad()
    labels = batch["labels"]
    token_loss(model(**{name: value for name, value in batch.items() if name != "labels"}), labels).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def trainer_for(sample_flags, folder, *flags: str) -> NerTrainer:
    flags = [*sample_flags, *TWO_EPOCHS, "--output_dir", str(folder), *flags]
    model_args, data_args, args = parse_arguments(flags)
    loaded = prepare(["train", "validation"], model_args, data_args, args)
    return build_trainer(*loaded, args, facts={})[0]


class EachEpoch(TrainerCallback):
    """Copies the weights after each epoch."""

    def __init__(self):
        self.weights = []

    def on_epoch_end(self, args, state, control, model, **others):
        self.weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})


@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_the_gradient_is_that_of_a_naive_loop(accumulate, sample_flags, tmp_path):
    dropout = ["--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0"]
    accumulation = ["--gradient_accumulation_steps", accumulate]
    trainer = trainer_for(sample_flags, tmp_path, "--adversarial_epochs", "2", *dropout, *accumulation)
    model, table = trainer.model, trainer.model.get_input_embeddings().weight
    model.zero_grad()
    trainer.state.epoch, trainer.state.num_train_epochs = 0.0, 2
    start = table.detach().clone()
    batches = [
        batch for batch, _ in zip(trainer.get_train_dataloader(), range(int(accumulate)), strict=False)
    ]
    expected = dict.fromkeys((name for name, _ in model.named_parameters()), 0)
    for batch in batches:
        plain = gradients(model, batch)
        moved = copy.deepcopy(model)
        direction = plain["bert.embeddings.word_embeddings.weight"]
        moved.get_input_embeddings().weight.data += EPSILON * direction / direction.norm()
        for name, gradient in gradients(moved, batch).items():
            expected[name] = expected[name] + plain[name] + gradient
        trainer.training_step(model, batch)
    assert torch.equal(table, start), "the table is moved back"
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            assert torch.allclose(weight.grad, expected[name], atol=1e-5), name


def test_only_the_last_epochs_change_and_a_run_resumes_within_them(sample_flags, tmp_path, capsys):
    kept = []
    for number in ("0", "1"):
        trainer = trainer_for(sample_flags, tmp_path / number, "--adversarial_epochs", number)
        epochs = EachEpoch()
        trainer.add_callback(epochs)
        trainer.train()
        kept.append(epochs.weights)
    (plain_first, plain_last), (first, last) = kept
    assert all(torch.equal(first[name], plain_first[name]) for name in first)
    assert not all(torch.equal(last[name], plain_last[name]) for name in last)
    checkpoint = f"checkpoint-{trainer.state.max_steps // 2}"
    shutil.copytree(tmp_path / "1" / checkpoint, tmp_path / "resumed" / checkpoint)
    flags = [*sample_flags, *TWO_EPOCHS, "--output_dir", str(tmp_path / "resumed")]
    resume = ["--resume_from_checkpoint", "--adversarial_epochs"]
    assert run_ner.main([*flags, *resume, "0"]) == 2
    assert "--adversarial_epochs" in capsys.readouterr().err
    assert run_ner.main([*flags, *resume, "1"]) == 0
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "resumed")
    ended = dict(trainer.model.named_parameters())
    assert all(torch.equal(weight, ended[name]) for name, weight in model.named_parameters())
