"""Attention for CPUs in bf16: as accurate as sdpa, blind to padding, unknown to the saved model.

python -m pytest tests/test_attention.py
"""

import json

import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    ModernBertConfig,
    ModernBertForTokenClassification,
)

import run_ner
from jnlpba_dataset import LABELS
from ner_recipe.arguments import ModelArguments
from ner_recipe.attention import CPU_ATTENTION
from ner_recipe.models import attention_name, load_model


@pytest.fixture
def batch():
    """Three rows of 20, 13 and 5 subtokens, padded."""
    ids = torch.randint(5, 300, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros_like(ids)
    for row, length in enumerate((20, 13, 5)):
        mask[row, :length] = 1
    return {"input_ids": ids * mask, "attention_mask": mask}


def loaded(tiny_bert, **options):
    torch.manual_seed(0)
    model_args = ModelArguments(
        model_name_or_path=str(tiny_bert), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    return load_model(model_args, LABELS, fine_tune=True, **options)


both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


@both_modes
def test_it_equals_sdpa_in_fp32_and_is_closer_to_it_in_bf16(tiny_bert, batch, training):
    plain, ours = (loaded(tiny_bert, cpu_attention=wanted).train(training) for wanted in (False, True))
    assert (attention_name(plain), attention_name(ours)) == ("sdpa", CPU_ATTENTION)
    seen = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = plain(**batch).logits[seen]
        torch.testing.assert_close(ours(**batch).logits[seen], exact)
        with torch.autocast("cpu", torch.bfloat16):
            error = [(model(**batch).logits[seen] - exact).abs().mean() for model in (plain, ours)]
    assert 0 < error[1] <= error[0] * 1.05


@both_modes
def test_a_row_does_not_depend_on_its_batch(tiny_bert, batch, training):
    """Padding is masked: what a row is trained on is the same alone and beside longer rows."""
    model = loaded(tiny_bert, cpu_attention=True).train(training)
    together = model(**batch).logits
    for row, length in enumerate((20, 13, 5)):
        alone = model(**{name: values[row : row + 1, :length] for name, values in batch.items()}).logits
        torch.testing.assert_close(alone[0], together[row, :length], atol=1e-5, rtol=1e-4)


def test_a_sliding_window_that_sees_only_padding_gives_numbers(batch):
    """ModernBERT masks all keys of a padded position that is far from the text."""
    config = ModernBertConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        local_attention=8,
        global_attn_every_n_layers=2,
        pad_token_id=0,
    )
    model = ModernBertForTokenClassification(config).train()
    model.set_attn_implementation(CPU_ATTENTION)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**batch).logits[batch["attention_mask"].bool()]
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    assert all(weights.grad.isfinite().all() for weights in model.parameters() if weights.grad is not None)


@pytest.mark.parametrize(("precision", "closeness"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_gradients_are_those_of_sdpa(tiny_bert, batch, precision, closeness):
    gradients = []
    for ours in (False, True):
        model = loaded(tiny_bert, cpu_attention=ours).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=ours and precision is torch.bfloat16):
            logits = model(**batch).logits[batch["attention_mask"].bool()]
        logits.float().square().mean().backward()
        named = model.named_parameters()
        gradients.append({name: weights.grad for name, weights in named if "attention.self" in name})
    for name, exact in gradients[0].items():
        if "key.bias" not in name:  # which softmax cancels
            assert (gradients[1][name] - exact).norm() < closeness * exact.norm(), name


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--bf16", "true"], CPU_ATTENTION),
        (["--bf16", "false"], "sdpa"),
        (["--bf16", "true", "--attn_implementation", "eager"], "eager"),
    ],
)
def test_a_run_prints_its_attention_and_saves_none(flags, expected, sample_flags, tmp_path, capsys):
    limits = ["--max_steps", "2", "--max_eval_samples", "8", "--do_predict", "false"]
    assert run_ner.main([*sample_flags, *flags, *limits, "--output_dir", str(tmp_path / "out")]) == 0
    assert f"Attention: {expected}\n" in capsys.readouterr().out
    assert "attn" not in json.dumps(json.loads((tmp_path / "out" / "config.json").read_text()))
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert attention_name(model) == "sdpa"
