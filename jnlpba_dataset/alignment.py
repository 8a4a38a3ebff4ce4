"""Split sentences into windows of subtokens, and turn the label ids of windows back into tags of words.

    windows = split.map(encode, batched=True, with_indices=True, remove_columns=split.column_names,
                        fn_kwargs={"tokenizer": tokenizer, "max_seq_length": 128})
    tags = decode(windows, label_ids)        # one list per sentence, one label id per word

decode(windows, windows["labels"]) returns the tag of every word of every sentence exactly once, for any fast
tokenizer, maximum length and overlap. All ranges are half-open and count from 0.

This module imports only the label names of `jnlpba`.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from jnlpba_dataset.jnlpba import LABELS

# Words without a space before them in print, and words without a space after them.
CLOSING = re.compile(r"[,.;:?!%)\]']+|'s|-[A-Za-z].*|/[A-Za-z].*")
OPENING = re.compile(r"[(\[]+")
IGNORED = -100  # the loss and the scores skip this label
# The words that a window owns.
OWNED = ("sentence", "first_word", "word_positions", "word_sizes", "sentence_words")


class AlignmentError(ValueError):
    """The tokenizer or the window length can't be used. The message says what to change."""


class Frame(NamedTuple):
    """The special tokens that a tokenizer adds around one sequence, with their segment ids."""

    before: list[int]
    after: list[int]
    segments_before: list[int]
    segment: int
    segments_after: list[int]


class WordValues(NamedTuple):
    """A value for each labelled subtoken of each word of a split, in the order of the split.

    values: shape (subtokens, ...). starts: the first subtoken of each word, shape (words,). lengths: the
    number of words of each sentence, shape (sentences,).
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def by_sentence(self, of_words: np.ndarray) -> list[list]:
        """One value for each word, shape (words,), as one list per sentence."""
        ends = np.cumsum(self.lengths)
        flat = of_words.tolist()
        return [flat[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]


class Window(NamedTuple):
    """The words [start, end) shown to the model, of which the window owns [first, last)."""

    start: int
    end: int
    first: int
    last: int


def encode(
    examples: Mapping[str, Sequence],
    indices: Sequence[int],
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int = 128,
    stride: int | None = None,
    label_all_tokens: bool = True,
    label_names: Sequence[str] = LABELS,
) -> dict[str, list]:
    """Split a batch of sentences into windows of at most `max_seq_length` subtokens, special tokens included.

    A word may be shown in several windows, but exactly one of them owns it. The word is labelled only there,
    so that the loss counts it once.

    Args:
        examples: the columns `tokens` (words) and `ner_tags` (label ids), and `spaces` if it is known which
            words have white space before them (the first counts as one). If it is not, words are spaced as in
            print.
        indices: the row of each sentence in its split; `decode` needs it.
        tokenizer: a fast tokenizer.
        max_seq_length: the largest number of subtokens in a window, special tokens included.
        stride: the largest number of subtokens that two consecutive windows of a long sentence share. If
            None, a quarter of a window. A window starts and ends between words.
        label_all_tokens: whether to label all subtokens of a word (B- on the first, I- on the rest), or only
            the first.
        label_names: the names of the label ids.

    Returns:
        One row per window, with the columns

        - input_ids, attention_mask, labels, and token_type_ids if the model uses them: shape (subtokens,);
        - length: the number of subtokens;
        - sentence, sentence_words: the row of the sentence in its split, and its number of words;
        - first_word, word_positions: the first owned word, and the position of the first subtoken of each
          owned word;
        - word_sizes: how many subtokens of each owned word are labelled;
        - cut_words: the number of owned words with more subtokens than a window holds. Such a word is
          truncated; its tag is that of its first subtoken.

    Raises:
        AlignmentError: the tokenizer is slow, a window has no room for a subtoken, or the overlap fills it.
    """
    require_fast(tokenizer)
    return encode_subtokens(
        tokenize_words(examples["tokens"], tokenizer, examples.get("spaces")),
        examples["ner_tags"],
        indices,
        inside=inside_ids(label_names) if label_all_tokens else None,
        tokenizer=tokenizer,
        max_seq_length=max_seq_length,
        stride=stride,
    )


def encode_subtokens(
    subtokens_of: Sequence[Sequence[Sequence[int]]],
    tags_of: Sequence[Sequence[int]],
    indices: Sequence[int],
    *,
    inside: Sequence[int] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    stride: int | None = None,
) -> dict[str, list]:
    """As `encode`, for texts whose words are subtokens already.

    Args:
        subtokens_of: the ids of the subtokens of each word of each text.
        tags_of: one label id for each word of each text.
        inside: the label id of a word's later subtokens, by the word's own label id. If None, only the first
            subtoken is labelled.
    """
    frame = special_frame(tokenizer)
    capacity = window_capacity(frame, max_seq_length)
    stride = checked_stride(stride, capacity)
    rows: dict[str, list] = {}
    for sentence, words, tags in zip(indices, subtokens_of, tags_of, strict=True):
        sizes = [min(len(subtokens), capacity) for subtokens in words]
        for window in windows(sizes, capacity, stride):
            shown = [subtokens[:capacity] for subtokens in words[window.start : window.end]]
            row = build_row(shown, tags, window, frame, inside)
            row |= {"sentence": sentence, "sentence_words": len(words)}
            row["cut_words"] = sum(len(words[i]) > capacity for i in range(window.first, window.last))
            if "token_type_ids" not in tokenizer.model_input_names:
                del row["token_type_ids"]
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    return rows


def decode(windows: Mapping[str, Sequence], label_ids: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return one list per sentence with the label id of each word's first subtoken, in the split's order.

    Args and raises: as `gather`.
    """
    words = gather(windows, label_ids)
    return words.by_sentence(words.values[words.starts])


def gather(windows: Mapping[str, Sequence], values: Sequence[Sequence]) -> WordValues:
    """Collect the values of the labelled subtokens of each word, in the order of the split.

    Args:
        windows: the columns OWNED from `encode`, with the rows in any order.
        values: gold or predicted label ids, or a row of numbers for each subtoken; shape (windows, subtokens,
            ...), right-padded; row i belongs to window i.

    Raises:
        ValueError: no window or more than one owns a word, or the numbers of rows differ.
    """
    rows = zip(*map(windows.__getitem__, OWNED), values, strict=True)
    pieces, sizes, lengths = [], [], []
    missing = 0  # how many words of the last sentence have no value yet
    for sentence, first, positions, row_sizes, length, row in sorted(rows, key=lambda row: row[:2]):
        if sentence == len(lengths) and not missing:
            lengths.append(length)
            missing = length
        if sentence != len(lengths) - 1 or first != lengths[-1] - missing:
            raise ValueError(f"sentence {sentence}, word {first}: a word before it is in no window or in two")
        missing -= len(positions)
        sizes += row_sizes
        pieces.append(np.asarray(row)[labelled_positions(positions, row_sizes)])
    if missing:
        raise ValueError(f"sentence {len(lengths) - 1}: the last {missing} words are in no window")
    ends = np.cumsum(sizes, dtype=np.int64)
    flat = np.concatenate(pieces) if pieces else np.empty(0)
    return WordValues(flat, ends - np.array(sizes, dtype=np.int64), np.array(lengths, dtype=np.int64))


def labelled_positions(starts: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """The positions of the subtokens of words that start at `starts`."""
    sizes = np.asarray(sizes, dtype=np.int64)
    before = np.cumsum(sizes) - sizes
    return np.repeat(np.asarray(starts, dtype=np.int64) - before, sizes) + np.arange(sizes.sum())


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that can't tell the word of a subtoken."""
    if not tokenizer.is_fast:
        raise AlignmentError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which can't tell the word of a subtoken; "
            "expected a fast one (choose a model with a tokenizer.json)"
        )


def special_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Encode one word to see which special tokens the tokenizer adds before and after a sequence."""
    probe = tokenizer(
        ["a"], is_split_into_words=True, return_special_tokens_mask=True, return_token_type_ids=True
    )
    inner = [i for i, special in enumerate(probe["special_tokens_mask"]) if not special]
    start, end = inner[0], inner[-1] + 1
    ids, segments = probe["input_ids"], probe["token_type_ids"]
    return Frame(ids[:start], ids[end:], segments[:start], segments[start], segments[end:])


def window_capacity(frame: Frame, max_seq_length: int) -> int:
    """Return how many subtokens a window holds beside the special tokens."""
    special = len(frame.before) + len(frame.after)
    if max_seq_length <= special:
        raise AlignmentError(
            f"--max_seq_length: {max_seq_length} leaves no room beside {special} special tokens; "
            f"use at least {special + 1}"
        )
    return max_seq_length - special


def checked_stride(stride: int | None, capacity: int) -> int:
    if stride is None:
        return capacity // 4
    if not 0 <= stride < capacity:
        raise AlignmentError(
            f"--stride: {stride} does not fit a window of {capacity} subtokens; "
            f"use a value from 0 to {capacity - 1}"
        )
    return stride


def inside_ids(label_names: Sequence[str]) -> list[int]:
    """Map each label id to the id of the later subtokens of a word: B-x to I-x, any other to itself."""
    return [
        label_names.index("I" + name[1:]) if name.startswith("B-") else i
        for i, name in enumerate(label_names)
    ]


def spaces_as_printed(words: Sequence[str]) -> list[bool]:
    """Whether each word has a space before it in print: not before a comma, nor after an opening bracket."""
    return [
        number == 0 or not (CLOSING.fullmatch(word) or OPENING.fullmatch(words[number - 1]))
        for number, word in enumerate(words)
    ]


def tokenize_words(
    sentences: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    spaces: Sequence[Sequence[bool] | None] | None = None,
) -> list[list[list[int]]]:
    """Return the subtoken ids of each word of each sentence. A word without any gets the unknown token.

    A tokenizer that marks the space before a word gives a word without one the subtokens that it has in
    running text. `spaces`: as in `encode`.
    """
    filled = [list(words) for words in sentences if len(words)]
    if not filled:
        return [[] for _ in sentences]
    batch = tokenizer(
        filled, is_split_into_words=True, add_special_tokens=False, truncation=False, verbose=False
    )
    result = []
    encoded = 0
    for words in sentences:
        subtokens: list[list[int]] = [[] for _ in words]
        if len(words):
            for token, word in zip(batch["input_ids"][encoded], batch.word_ids(encoded), strict=True):
                subtokens[word].append(token)
            encoded += 1
        result.append(subtokens)
    unspaced = without_prefix_space(tokenizer)
    if unspaced is not None:
        known = spaces or [None] * len(sentences)
        for words, spaced, subtokens in zip(sentences, known, result, strict=True):
            spaced = spaces_as_printed(words) if spaced is None else spaced
            for number, word in enumerate(words):
                if number and not spaced[number]:
                    subtokens[number] = unspaced.encode(word, add_special_tokens=False).ids
    return [[ids or [unknown_id(tokenizer)] for ids in subtokens] for subtokens in result]


@functools.lru_cache(maxsize=4)  # copying a tokenizer takes longer than splitting a hundred words
def without_prefix_space(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """A copy of the tokenizer that adds no space before a text; None if it never does."""
    state = tokenizer.backend_tokenizer.to_str()
    changed = state.replace('"add_prefix_space":true', '"add_prefix_space":false')
    changed = re.sub('"prepend_scheme":"(always|first)"', '"prepend_scheme":"never"', changed)
    return None if changed == state else Tokenizer.from_str(changed)


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.unk_token_id is None:
        raise AlignmentError(
            f"{type(tokenizer).__name__} returns no subtoken for some word and has no unknown token; "
            "expected a tokenizer with an unk_token (choose another model)"
        )
    return tokenizer.unk_token_id


def windows(sizes: Sequence[int], capacity: int, stride: int) -> list[Window]:
    """Split words of the given sizes (in subtokens, each at most `capacity`) into overlapping windows.

    Of the windows that show a word, the one whose nearest edge is farthest from the word owns it.
    """
    if sum(sizes) <= capacity:
        return [Window(0, len(sizes), 0, len(sizes))]
    starts = [0]  # the position of each word's first subtoken, and the total
    for size in sizes:
        starts.append(starts[-1] + size)
    ranges = []
    start = end = 0
    while end < len(sizes):
        while end < len(sizes) and starts[end + 1] - starts[start] <= capacity:
            end += 1
        ranges.append((start, end))
        # Move the start back as far as the stride allows, but leave room for at least one new word.
        next_start = end
        if end < len(sizes):
            while (
                starts[end] - starts[next_start - 1] <= stride
                and starts[end + 1] - starts[next_start - 1] <= capacity
            ):
                next_start -= 1
        start = next_start
    return owning_windows(ranges, starts)


def owning_windows(ranges: Sequence[tuple[int, int]], starts: Sequence[int]) -> list[Window]:
    """Assign each word to the window with the most context around it, and drop windows that own no word.

    If two windows have equally much context, the earlier one owns the word. From one window that shows a word
    to the next, the context on the left shrinks and that on the right grows, so the smaller of both rises to
    the owner and then falls. The owner never moves back from one word to the next. Each window therefore owns
    one range of words, and one pass finds them all.
    """

    def context(window: int, word: int) -> int:
        start, end = ranges[window]
        return min(starts[word] - starts[start], starts[end] - starts[word + 1])

    def passes_to_next(window: int, word: int) -> bool:
        if ranges[window][1] <= word:  # not shown any more
            return True
        shown_next = window + 1 < len(ranges) and ranges[window + 1][0] <= word
        return shown_next and context(window + 1, word) > context(window, word)

    owned: list[Window] = []
    window = first = 0
    words = len(starts) - 1
    for word in range(words):
        owner = window
        while passes_to_next(owner, word):
            owner += 1
        if owner != window and first < word:
            owned.append(Window(*ranges[window], first, word))
        if owner != window:
            window, first = owner, word
    return [*owned, Window(*ranges[window], first, words)]


def build_row(
    words: Sequence[Sequence[int]],
    tags: Sequence[int],
    window: Window,
    frame: Frame,
    inside: Sequence[int] | None,
) -> dict:
    """Build the model input of one window.

    Args:
        words: the subtokens of each word that the window shows.
        tags: the label ids of all words of the sentence.
        window: the range of words.
        frame: the special tokens.
        inside: the label id of a word's later subtokens, by the word's own label id. If None, later subtokens
            are ignored.
    """
    ids, labels, positions, sizes = list(frame.before), [IGNORED] * len(frame.before), [], []
    for word, subtokens in enumerate(words, start=window.start):
        rest = len(subtokens) - 1
        if window.first <= word < window.last:
            positions.append(len(ids))
            sizes.append(1 if inside is None else 1 + rest)
            labels += [tags[word]] + [IGNORED if inside is None else inside[tags[word]]] * rest
        else:
            labels += [IGNORED] * (1 + rest)
        ids += subtokens
    segments = [
        *frame.segments_before,
        *[frame.segment] * (len(ids) - len(frame.before)),
        *frame.segments_after,
    ]
    ids += frame.after
    labels += [IGNORED] * len(frame.after)
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "token_type_ids": segments,
        "labels": labels,
        "length": len(ids),
        "first_word": window.first,
        "word_positions": positions,
        "word_sizes": sizes,
    }
