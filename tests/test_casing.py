"""A cased vocabulary: tokens as before, the same model before training, and a plain model after it.

python -m pytest tests/test_casing.py
"""

import pytest
import torch
from conftest import sample_words
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

import run_ner
from jnlpba_dataset import LABELS
from ner_recipe.arguments import ModelArguments
from ner_recipe.casing import CasedEmbedding, cased_tokenizer
from ner_recipe.models import load_model, load_tokenizer


@pytest.fixture(scope="module")
def pair(tiny_uncased):
    """A lower-casing tokenizer, and the one that keeps case."""
    lower = load_tokenizer(ModelArguments(str(tiny_uncased)))
    return lower, cased_tokenizer(lower)


@given(
    words=st.lists(st.sampled_from(sorted({word.lower() for word in sample_words()})), min_size=1),
    data=st.data(),
)
def test_words_are_cut_as_the_lower_casing_tokenizer_cuts_them_and_keep_their_case(pair, words, data):
    lower, cased = pair
    forms = st.sampled_from([str.lower, str.upper, lambda word: word[:1].upper() + word[1:]])
    text = " ".join(data.draw(forms)(word) for word in words)
    tokens = cased.tokenize(text)
    assert [token.lower() for token in tokens] == lower.tokenize(text)
    assert "".join(token.removeprefix("##") for token in tokens) == text.replace(" ", "")


@given(text=st.text(max_size=30))
def test_no_text_loses_more_to_the_unknown_token_than_before(pair, text):
    lower, cased = pair
    assert cased.tokenize(text).count("[UNK]") <= lower.tokenize(text).count("[UNK]")


def test_before_training_it_is_the_model_that_it_was_and_case_counts_after_one_step(tiny_uncased, pair):
    lower, cased = pair
    text = "IL-2 activates the Stat of T cells"
    models = []
    for keep in (False, True):
        torch.manual_seed(0)
        model = load_model(ModelArguments(str(tiny_uncased), cased_vocabulary=keep), LABELS, True)
        models.append(model.eval())
    plain, kept = models
    as_before, inputs = lower(text, return_tensors="pt"), cased(text, return_tensors="pt")
    torch.testing.assert_close(kept(**inputs).logits, plain(**as_before).logits)
    kept(**inputs).logits.square().sum().backward()
    torch.optim.SGD(kept.parameters(), 0.1).step()
    changed = cased(text.lower(), return_tensors="pt")
    assert not torch.allclose(kept(**inputs).logits, kept(**changed).logits, atol=1e-3)


def test_the_saved_model_is_a_plain_one_and_can_be_trained_further(tiny_uncased, sample_flags, tmp_path):
    model = [
        "--model_name_or_path",
        str(tiny_uncased),
        "--cased_vocabulary",
        "true",
        "--num_train_epochs",
        "1",
    ]
    assert run_ner.main([*sample_flags, *model, "--do_serve_check", "--output_dir", str(tmp_path / "a")]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    saved = AutoModelForTokenClassification.from_pretrained(tmp_path / "a")
    text = "Expression of IL-2 in Jurkat cells"
    assert type(saved.get_input_embeddings()) is torch.nn.Embedding
    assert "".join(tokenizer.tokenize(text)).replace("##", "") == text.replace(" ", "")
    pipeline("ner", str(tmp_path / "a"))(text)

    arguments = ModelArguments(str(tmp_path / "a"), cased_vocabulary=True)
    again = load_model(arguments, LABELS, fine_tune=True).eval()
    assert type(again.get_input_embeddings()) is CasedEmbedding
    inputs = tokenizer(text, return_tensors="pt")
    assert torch.equal(again(**inputs).logits, saved(**inputs).logits)
    more = ["--model_name_or_path", str(tmp_path / "a"), "--cased_vocabulary", "true", "--max_steps", "1"]
    assert run_ner.main([*sample_flags, *more, "--output_dir", str(tmp_path / "b")]) == 0


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_roberta"])
def test_a_tokenizer_that_does_not_lower_case_is_refused(model, request, sample_flags, tmp_path, capsys):
    flags = ["--model_name_or_path", str(request.getfixturevalue(model)), "--cased_vocabulary", "true"]
    assert run_ner.main([*sample_flags, *flags, "--output_dir", str(tmp_path / "model")]) == 2
    assert "--cased_vocabulary: " in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
