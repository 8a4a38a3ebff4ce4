"""Plain texts -> the words of a tokenizer and the windows that show them, as flat arrays.

    layout = lay_out(tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True), capacity)

The subtokens of all texts follow one another in one array. A word is what the tokenizer finds between white
space and punctuation. Of the windows that show a word, one owns it, as in training. All ranges are half-open.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase

from jnlpba_dataset import Frame, windows


class Layout(NamedTuple):
    """The words and windows of several texts.

    ids: of the subtokens, shape (subtokens,). starts: the first subtoken of each word, shape (words,).
    places: the range of each word in its text, in characters, shape (words, 2). lengths: the words of each
    text, shape (texts,). shown, owned: the range of subtokens that each window shows and owns, shape
    (windows, 2); a window without words is left out.
    """

    ids: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    lengths: np.ndarray
    shown: np.ndarray
    owned: np.ndarray


def lay_out(encoded: BatchEncoding, capacity: int) -> Layout:
    """The words of the texts, and windows of at most `capacity` subtokens.

    Of a word with more subtokens than that, the first `capacity` are kept.
    """
    encodings = encoded.encodings
    counts = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
    total = int(counts.sum())
    ids = flat((encoding.ids for encoding in encodings), total)
    starts, lengths = word_starts([encoding.word_ids for encoding in encodings], counts)
    offsets = flat((chain.from_iterable(encoding.offsets) for encoding in encodings), 2 * total)
    offsets = offsets.reshape(-1, 2)  # (subtokens, start and end)
    sizes = np.diff(starts, append=total)
    places = np.stack([offsets[starts, 0], offsets[starts + sizes - 1, 1]], axis=1)
    if sizes.max(initial=0) > capacity:
        ids = ids[np.arange(total) - np.repeat(starts, sizes) < capacity]
        sizes = np.minimum(sizes, capacity)
        starts = np.cumsum(sizes) - sizes
    shown, owned = text_windows(starts, sizes, lengths, capacity)
    return Layout(ids, starts, places, lengths, shown, owned)


def flat(parts: Iterator[Sequence[int]], total: int) -> np.ndarray:
    return np.fromiter(chain.from_iterable(parts), np.int64, total)


def word_starts(
    word_ids: Sequence[Sequence[int | None]], counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first subtoken of each word, and the number of words of each text.

    A subtoken that belongs to no word is a word of its own.
    """
    numbers = np.fromiter(
        (-1 if word is None else word for words in word_ids for word in words), np.int64, int(counts.sum())
    )
    begins = np.ones(len(numbers), dtype=bool)
    begins[1:] = (numbers[1:] != numbers[:-1]) | (numbers[1:] < 0)
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True
    starts = np.flatnonzero(begins)
    texts = np.repeat(np.arange(len(counts)), counts)[starts]
    return starts, np.bincount(texts, minlength=len(counts))


def text_windows(
    starts: np.ndarray, sizes: np.ndarray, lengths: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ranges of subtokens that the windows of all texts show and own, shape (windows, 2) each."""
    edges = np.append(starts, starts[-1] + sizes[-1] if len(starts) else 0)
    ends = np.cumsum(lengths)
    shown, owned = [], []
    for first, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True):
        if edges[end] - edges[first] <= capacity:
            shown += [(first, end)] if end > first else []
            owned += [(first, end)] if end > first else []
            continue
        for window in windows(sizes[first:end].tolist(), capacity, capacity // 4):
            shown.append((first + window.start, first + window.end))
            owned.append((first + window.first, first + window.last))
    return tuple(edges[np.array(words, dtype=np.int64).reshape(-1, 2)] for words in (shown, owned))


def padded_batch(
    layout: Layout, batch: np.ndarray, frame: Frame, tokenizer: PreTrainedTokenizerBase
) -> dict[str, np.ndarray]:
    """The model's inputs for some windows, each of shape (batch, tokens)."""
    before, after = len(frame.before), len(frame.after)
    sizes = (layout.shown[batch, 1] - layout.shown[batch, 0]).tolist()
    shape = (len(batch), before + max(sizes) + after)
    inputs = {
        "input_ids": np.full(shape, tokenizer.pad_token_id or 0),
        "attention_mask": np.zeros(shape, dtype=np.int64),
        "token_type_ids": np.full(shape, tokenizer.pad_token_type_id),
    }
    for row, (window, size) in enumerate(zip(batch, sizes, strict=True)):
        end = before + size
        start, stop = layout.shown[window]
        inputs["input_ids"][row, :before] = frame.before
        inputs["input_ids"][row, before:end] = layout.ids[start:stop]
        inputs["input_ids"][row, end : end + after] = frame.after
        inputs["attention_mask"][row, : end + after] = 1
        inputs["token_type_ids"][row, :before] = frame.segments_before
        inputs["token_type_ids"][row, before:end] = frame.segment
        inputs["token_type_ids"][row, end : end + after] = frame.segments_after
    return {name: inputs[name] for name in tokenizer.model_input_names if name in inputs}


def word_ranges(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """The words of one text, in characters, without white space at their ends."""
    encoded = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    places = lay_out(encoded, capacity=max(1, len(encoded["input_ids"][0]))).places.tolist()
    ranges = (without_space(text, start, end) for start, end in places)
    return [(start, end) for start, end in ranges if start < end]


def without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends. Byte-level tokenizers include the space before a word."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
