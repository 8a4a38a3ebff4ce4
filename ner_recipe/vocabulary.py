"""Whole words for a tokenizer that splits them, so that a text has fewer subtokens.

    words = split_words(tokenizer, texts, least=10)     # --add_tokens_min_count 10
    tokenizer, own = with_words(tokenizer, words), tokenizer
    embed_words(model, own, tokenizer)

An encoder of general English splits the words of another field: "lymphocytes" is four subtokens of MiniLM.
Here a word that the training text has often enough becomes one. Its embedding begins as the mean of those of
its pieces. The saved model and tokenizer are plain ones.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from tokenizers.models import WordPiece
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ner_recipe.launch import UsageError

FLAG = "--add_tokens_min_count"


def split_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[Sequence[str]], least: int) -> list[str]:
    """The words that occur at least `least` times in the texts and are no single subtoken, commonest first.

    A word here is what the tokenizer takes for one: lower-cased if it lower-cases, and cut at punctuation.
    Words with the text of an added token, such as "[MASK]", do not count, because it cuts them.

    Args:
        texts: each the words of a text.

    Raises:
        UsageError: the tokenizer is not WordPiece.
    """
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    if backend is None or not isinstance(backend.model, WordPiece):
        found = type(backend.model if backend else tokenizer).__name__
        raise UsageError(
            f"{FLAG}: the tokenizer of this model is {found}; expected a fast one with WordPiece, which BERT "
            "has; leave the flag out"
        )
    cutting = [token.content for token in tokenizer.added_tokens_decoder.values()]
    counts = Counter()
    for word, times in Counter(word for words in texts for word in words).items():
        if any(token in word for token in cutting):
            continue
        normal = backend.normalizer.normalize_str(word) if backend.normalizer else word
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(normal):
            counts[part] += times
    known, longest = backend.get_vocab(), backend.model.max_input_chars_per_word
    found = [
        word
        for word, times in counts.items()
        if times >= least and word not in known and len(word) <= longest
    ]
    return sorted(found, key=lambda word: (-counts[word], word))


def with_words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy of a WordPiece tokenizer whose vocabulary ends with the words."""
    extended = copy.deepcopy(tokenizer)
    model = extended.backend_tokenizer.model
    vocabulary = tokenizer.get_vocab()
    first = max(vocabulary.values()) + 1
    vocabulary |= {word: first + place for place, word in enumerate(words)}
    extended.backend_tokenizer.model = WordPiece(
        vocabulary,
        unk_token=model.unk_token,
        max_input_chars_per_word=model.max_input_chars_per_word,
        continuing_subword_prefix=model.continuing_subword_prefix,
    )
    return extended


@torch.no_grad()
def embed_words(
    model: PreTrainedModel, own: PreTrainedTokenizerBase, extended: PreTrainedTokenizerBase
) -> None:
    """Give a model embeddings for the words that its own tokenizer lacks: the mean of those of their pieces.

    A table that is longer than the vocabulary stays so.
    """
    before, after = own.get_vocab(), extended.get_vocab()
    words = sorted(set(after) - set(before), key=after.get)
    table = model.get_input_embeddings().weight
    rows = [table[own(word, add_special_tokens=False)["input_ids"]].mean(dim=0) for word in words]
    model.resize_token_embeddings(max(len(table), max(after.values()) + 1), mean_resizing=False)
    for word, row in zip(words, rows, strict=True):
        model.get_input_embeddings().weight[after[word]] = row
