"""Dropout with cheap random numbers drops what nn.Dropout drops, on average, and only in training.

python -m pytest tests/test_dropout.py
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jnlpba_dataset import LABELS
from ner_recipe.arguments import ModelArguments
from ner_recipe.dropout import CheapDropout
from ner_recipe.models import load_model


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_it_drops_as_often_as_it_says_wherever_an_element_stands(p, kind):
    torch.manual_seed(0)
    found = CheapDropout(p)(torch.ones(500_000, 4, dtype=kind)).float()
    assert (found == 0).float().mean(0) == pytest.approx([p] * 4, abs=0.004)  # each of the four in one draw
    assert found.mean() == pytest.approx(1, abs=0.01), "the expected value stays"
    neighbours = (found[:, :-1] == 0) & (found[:, 1:] == 0)
    assert neighbours.float().mean() == pytest.approx(p * p, abs=0.004), "neighbours fall independently"


@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_any_shape_gets_a_mask_that_the_gradient_shares_and_the_seed_decides(shape, seed):
    dropout, values = CheapDropout(0.3), torch.ones(shape, requires_grad=True)
    torch.manual_seed(seed)
    found = dropout(values)
    found.sum().backward()
    torch.testing.assert_close(values.grad, found.detach())
    torch.manual_seed(seed)
    torch.testing.assert_close(dropout(values), found)
    assert dropout.eval()(values) is values


def test_a_model_to_train_has_no_other_dropout_and_one_to_score_keeps_its_own(tiny_bert, trained):
    def kinds(place, fine_tune: bool) -> set[type]:
        model = load_model(ModelArguments(model_name_or_path=str(place)), LABELS, fine_tune)
        return {type(module) for module in model.modules() if isinstance(module, torch.nn.Dropout)}

    assert kinds(tiny_bert, fine_tune=True) == {CheapDropout}
    assert kinds(trained, fine_tune=False) == {torch.nn.Dropout}
