"""Adversarial training: the gradients are those of a naive loop, and a run resumes to the same weights.

python -m pytest tests/test_adversarial.py
"""

import copy
import shutil

import pytest
import torch
from transformers import AutoModelForTokenClassification

import run_ner
from ner_recipe.adversarial import LAST_GRADIENTS
from ner_recipe.checks import parse_arguments
from ner_recipe.training import NerTrainer, build_trainer, prepare, token_loss

EPSILON = 0.5
TABLE = "bert.embeddings.word_embeddings.weight"
# 30 steps in two epochs. The last model is kept, not the best.
TWO_EPOCHS = [
    *("--num_train_epochs", "2", "--bf16", "false", "--load_best_model_at_end", "false"),
    *("--save_strategy", "steps", "--save_steps", "10", "--save_total_limit", "3"),
]


def trainer_for(sample_flags, folder, epsilon: float, *flags: str) -> NerTrainer:
    options = [*TWO_EPOCHS, "--adversarial_epsilon", str(epsilon), "--output_dir", str(folder)]
    model_args, data_args, args = parse_arguments([*sample_flags, *options, *flags])
    loaded = prepare(["train", "validation"], model_args, data_args, args)
    return build_trainer(*loaded, args, facts={})[0]


def gradients(model, batch: dict) -> dict[str, torch.Tensor]:
    """Of the loss of a batch, by parameter, from a copy of the model without dropout."""
    model = copy.deepcopy(model).eval()
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    token_loss(model(**inputs), batch["labels"]).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradients_are_those_of_a_naive_loop(accumulate, sample_flags, tmp_path):
    dropout = ["--hidden_dropout_prob", "0", "--attention_probs_dropout_prob", "0"]
    trainer = trainer_for(sample_flags, tmp_path, EPSILON, *dropout)
    model, moves = trainer.model, trainer.moves
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    moves.on_train_begin(trainer.args, trainer.state, trainer.control, model)
    kept = torch.zeros_like(start[TABLE])
    batches = iter(trainer.get_train_dataloader())
    for _ in range(3):
        model.zero_grad()
        expected: dict[str, torch.Tensor] = {}
        for _ in range(accumulate):
            batch = next(batches)
            moved = copy.deepcopy(model)
            there = torch.zeros(len(kept), dtype=torch.bool)
            there[batch["input_ids"].flatten()] = True
            direction = kept * there[:, None]
            length = direction.norm() or 1.0
            moved.get_input_embeddings().weight.data += EPSILON * direction / length
            for name, gradient in gradients(moved, batch).items():
                expected[name] = expected.get(name, 0) + gradient
            trainer.training_step(model, batch)
        moves.on_pre_optimizer_step(trainer.args, trainer.state, trainer.control, model)
        for name, weight in model.named_parameters():
            assert torch.equal(weight, start[name]), f"{name} is not moved back"
            if weight.grad is not None:
                assert torch.allclose(weight.grad, expected[name], atol=1e-5), name
        seen = expected[TABLE].ne(0).any(dim=1)
        kept[seen] = expected[TABLE][seen]


def test_a_run_resumes_to_the_same_weights_and_not_with_another_epsilon(sample_flags, tmp_path, capsys):
    ended = {}
    for epsilon in (0.0, EPSILON):
        trainer = trainer_for(sample_flags, tmp_path / str(epsilon), epsilon)
        trainer.train()
        ended[epsilon] = dict(trainer.model.named_parameters())
    assert not torch.equal(ended[0.0][TABLE], ended[EPSILON][TABLE])
    checkpoint = "checkpoint-20"  # within the second epoch
    assert (tmp_path / str(EPSILON) / checkpoint / LAST_GRADIENTS).is_file()
    assert not (tmp_path / "0.0" / checkpoint / LAST_GRADIENTS).exists()
    shutil.copytree(tmp_path / str(EPSILON) / checkpoint, tmp_path / "resumed" / checkpoint)
    flags = [*sample_flags, *TWO_EPOCHS, "--output_dir", str(tmp_path / "resumed")]
    resume = ["--resume_from_checkpoint", "--adversarial_epsilon"]
    assert run_ner.main([*flags, *resume, "0"]) == 2
    assert "--adversarial_epsilon" in capsys.readouterr().err
    assert run_ner.main([*flags, *resume, str(EPSILON)]) == 0
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "resumed")
    assert len(trainer.state.log_history) > 2 and trainer.state.global_step == 30
    assert all(torch.equal(weight, ended[EPSILON][name]) for name, weight in model.named_parameters())
