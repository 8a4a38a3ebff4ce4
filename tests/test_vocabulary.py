"""Words that become subtokens of their own: which, with what embedding, and in the files that users get.

python -m pytest tests/test_vocabulary.py
"""

import json
from collections import Counter

import pytest
import torch
from conftest import SPECIAL, sample_words, word_pieces
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    CanineTokenizer,
    pipeline,
)

import run_ner
from ner_recipe.launch import UsageError
from ner_recipe.vocabulary import embed_words, split_words, with_words

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
TEXTS = [["NFX-2", "activates", "monoblasts"], ["monoblasts", "(", "NFX-2", ")", "βγδεζ"], ["monoblasts"]]


@pytest.fixture(scope="module")
def tokenizer(few_pieces):
    return AutoTokenizer.from_pretrained(few_pieces)


def test_words_are_counted_as_the_tokenizer_cuts_them(tokenizer):
    # "NFX-2" is "NFX", "-" and "2", of which this vocabulary has all but the first.
    assert "NFX" not in tokenizer.get_vocab()
    assert split_words(tokenizer, TEXTS, 3) == ["monoblasts"]
    assert split_words(tokenizer, TEXTS, 2) == ["monoblasts", "NFX"]
    assert set(split_words(tokenizer, TEXTS, 1)) == {"monoblasts", "NFX", "activates", "βγδεζ"}
    assert split_words(tokenizer, [["x" * 101] * 9], 1) == []  # WordPiece reads at most 100 characters
    # The tokenizer cuts these at the special token.
    assert split_words(tokenizer, [["[MASK]", "x[SEP]NFX"]], 1) == []


@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.sampled_from(sample_words()) | st.text(min_size=1, max_size=8), min_size=1))
def test_added_words_are_one_subtoken_and_no_id_moves(tokenizer, words):
    found = split_words(tokenizer, [words], 2)
    extended = with_words(tokenizer, found)
    parts = Counter(
        part
        for word in words
        for part, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
            tokenizer.backend_tokenizer.normalizer.normalize_str(word)
        )
    )
    for part, times in parts.items():
        assert (extended.tokenize(part) == [part]) == (times >= 2 or part in tokenizer.get_vocab())
    before, after = tokenizer.get_vocab(), extended.get_vocab()
    assert {word: after[word] for word in before} == before
    assert sorted(after.values()) == list(range(len(before) + len(found)))
    assert len(tokenizer) == len(before)  # the one that was given stays as it is


def test_a_run_publishes_a_plain_model_with_these_words(sample_flags, few_pieces, tmp_path, capfd):
    flags = [*sample_flags, "--model_name_or_path", str(few_pieces), "--add_tokens_min_count", "4"]
    # At rate 0 the weights stay as they begin.
    frozen = ["--max_steps", "1", "--learning_rate", "0", "--ema_decay", "0", "--do_predict", "false"]
    assert run_ner.main([*flags, *frozen, "--output_dir", str(tmp_path / "run")]) == 0
    own, trained = (AutoTokenizer.from_pretrained(folder) for folder in (few_pieces, tmp_path / "run"))
    added = split_words(own, [sample_words()], 4)
    assert f"Vocabulary: {len(added)} words of the training text added" in capfd.readouterr().err
    assert len(added) > 20
    assert trained.get_vocab() == with_words(own, added).get_vocab()
    tables = [
        AutoModelForTokenClassification.from_pretrained(folder).get_input_embeddings().weight
        for folder in (few_pieces, tmp_path / "run")
    ]
    assert torch.equal(tables[1][: len(own)], tables[0])
    for word in added:
        pieces = own(word, add_special_tokens=False)["input_ids"]
        assert len(pieces) > 1
        assert torch.allclose(tables[1][trained.get_vocab()[word]], tables[0][pieces].mean(dim=0))
    answer = pipeline("ner", str(tmp_path / "run"), ignore_labels=[])(" ".join(added))
    assert [token["word"] for token in answer] == added  # each is one subtoken for the pipeline too

    # In a later run these words are known, and without a training none are added.
    again = [*flags, "--model_name_or_path", str(tmp_path / "run")]
    scored = [
        *again,
        "--do_train",
        "false",
        "--do_predict",
        "false",
        "--output_dir",
        str(tmp_path / "scored"),
    ]
    assert run_ner.main(scored) == 0
    results = [json.loads((tmp_path / name / "eval_results.json").read_text()) for name in ("run", "scored")]
    assert results[0]["eval_loss"] == pytest.approx(results[1]["eval_loss"])
    assert "words of the training text" not in capfd.readouterr().err
    assert run_ner.main([*again, *frozen, "--output_dir", str(tmp_path / "on")]) == 0
    assert "Vocabulary: 0 words of the training text added" in capfd.readouterr().err


@pytest.mark.parametrize("change", ["spare rows only", "ids with a gap", "an unknown token of its own"])
def test_unusual_encoders_are_extended_too(change, tmp_path):
    """Lower-casing encoders: spare rows, gaps in the ids, another unknown token."""
    vocabulary = {
        word.lower(): number for word, number in word_pieces(["il", "gene", "α"], 40).get_vocab().items()
    }
    vocabulary |= {token: vocabulary.pop(token.lower()) for token in SPECIAL}
    unknown = "[UNK]"
    if change == "ids with a gap":
        vocabulary["gene"] = max(vocabulary.values()) + 5
    if change == "an unknown token of its own":
        unknown = "<unk>"
        vocabulary[unknown] = vocabulary.pop("[UNK]")
    own = BertTokenizer(vocab=vocabulary, do_lower_case=True, unk_token=unknown)
    words = split_words(own, [["NF", "Kappa", "IL", "ß"]] * 2, 2)
    assert words == ["kappa", "nf", "ß"]
    extended = with_words(own, words)
    model = BertModel(BertConfig(vocab_size=max(vocabulary.values()) + 9, **SMALL)).eval()
    before = model.get_input_embeddings().weight.detach().clone()
    embed_words(model, own, extended)
    after = model.get_input_embeddings().weight
    assert len(after) == len(before)  # the spare rows suffice
    assert torch.equal(after[: max(vocabulary.values()) + 1], before[: max(vocabulary.values()) + 1])
    for word in words:
        pieces = own(word, add_special_tokens=False)["input_ids"]
        assert torch.allclose(after[extended.get_vocab()[word]], before[pieces].mean(dim=0))
    extended.save_pretrained(tmp_path)
    text = "NF-Kappa 漢 IL2 " + "y" * 101
    for tokenizer in (extended, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids)[:3] == ["nf", unknown, "kappa"]
        assert ids[-1] == vocabulary[unknown]


def test_only_word_piece_can_be_extended(sample_flags, tiny_roberta, tmp_path, capfd):
    flags = [
        "--add_tokens_min_count",
        "4",
        "--model_name_or_path",
        str(tiny_roberta),
        "--do_predict",
        "false",
    ]
    assert run_ner.main([*sample_flags, *flags, "--output_dir", str(tmp_path / "run")]) == 2
    assert (
        "--add_tokens_min_count: the tokenizer of this model is BPE; expected a fast one with WordPiece"
        in (capfd.readouterr().err)
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="CanineTokenizer; expected a fast one"):
        split_words(CanineTokenizer(), TEXTS, 1)


@pytest.mark.parametrize("more", [[], ["--add_tokens_min_count", "3"]])
def test_a_tokenizer_of_another_model_is_refused_and_not_extended(
    more, sample_flags, few_pieces, tmp_path, capfd
):
    BertTokenizer.from_pretrained(few_pieces).save_pretrained(tmp_path / "short")
    encoder = BertForMaskedLM.from_pretrained(few_pieces)
    encoder.resize_token_embeddings(150)
    encoder.save_pretrained(tmp_path / "short")
    flags = [*sample_flags, *more, "--model_name_or_path", str(tmp_path / "short")]
    assert run_ner.main([*flags, "--output_dir", str(tmp_path / "run")]) == 2
    assert "ids up to 199, and the model embeds 150" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
