"""Attention in fp32 inside a bf16 model: closer to fp32, blind to padding, unknown to the saved model.

python -m pytest tests/test_attention.py
"""

import json

import pytest
import torch
from transformers import AutoModelForTokenClassification

import run_ner
from jnlpba_dataset import LABELS
from ner_recipe.arguments import ModelArguments
from ner_recipe.attention import FP32_ATTENTION
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
    return load_model(
        ModelArguments(model_name_or_path=str(tiny_bert)), LABELS, fine_tune=True, **options
    ).eval()


def test_it_equals_sdpa_in_fp32_and_is_closer_to_it_in_bf16(tiny_bert, batch):
    plain, ours = loaded(tiny_bert), loaded(tiny_bert, fp32_attention=True)
    assert (attention_name(plain), attention_name(ours)) == ("sdpa", FP32_ATTENTION)
    seen = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = plain(**batch).logits[seen]
        torch.testing.assert_close(ours(**batch).logits[seen], exact)
        with torch.autocast("cpu", torch.bfloat16):
            error = [(model(**batch).logits[seen] - exact).abs().mean() for model in (plain, ours)]
    assert 0 < error[1] <= error[0] * 1.05


def test_a_row_does_not_depend_on_its_batch(tiny_bert, batch):
    """Padding is masked: what a row is trained on is the same alone and beside longer rows."""
    model = loaded(tiny_bert, fp32_attention=True)
    together = model(**batch).logits
    for row, length in enumerate((20, 13, 5)):
        alone = model(**{name: values[row : row + 1, :length] for name, values in batch.items()}).logits
        torch.testing.assert_close(alone[0], together[row, :length], atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_attention(tiny_bert, batch):
    model = loaded(tiny_bert, fp32_attention=True)
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch).logits.float().square().mean().backward()
    for name, weights in model.named_parameters():
        if "attention.self" in name and "key.bias" not in name:  # which softmax cancels
            assert weights.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--bf16", "true"], FP32_ATTENTION),
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
