"""Words <-> subtokens: sentences become windows with labels, and label ids of windows become tags of words.

    windows = split.map(encode, batched=True, with_indices=True, remove_columns=split.column_names,
                        fn_kwargs={"tokenizer": tokenizer, "max_seq_length": 128})
    tags = decode(windows, label_ids)        # one list a sentence, one label id a word

The law: decode(windows, windows["labels"]) gives back the tags of every word of every sentence, once each,
for any fast tokenizer, maximum length and overlap. All ranges are half-open and count from 0.
Imports only the label names of `jnlpba`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from jnlpba_dataset.jnlpba import LABELS

IGNORED = -100  # the label that the loss and the scores pass over


class AlignmentError(ValueError):
    """A tokenizer or a window length with which words can't be kept; says what to change."""


class Frame(NamedTuple):
    """The special tokens that a tokenizer puts around one sequence, with their segment ids."""

    before: list[int]
    after: list[int]
    segments_before: list[int]
    segment: int
    segments_after: list[int]


class Window(NamedTuple):
    """A range of words [start, end) that is shown to the model, and the part [first, last) it owns."""

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
    """Turn a batch of sentences into windows of at most `max_seq_length` subtokens, special tokens included.

    Args:
        examples: columns `tokens` (words) and `ner_tags` (label ids).
        indices: each sentence's row in its split; `decode` puts words back by it.
        stride: how many subtokens two consecutive windows of a long sentence share at most; a quarter of a
            window if None. Cuts fall between words only.
        label_all_tokens: label each subtoken of a word (B- on the first, I- on the rest), or the first only.

    Returns:
        A row a window: input_ids, attention_mask, labels (and token_type_ids where the model has them), all
        of shape (subtokens,); length; sentence (the row in the split) and its sentence_words; first_word (the
        first word that this window owns) and word_positions (where the first subtoken of each owned word
        stands). A word is labelled in the window that owns it and nowhere else: the loss counts it once.
        cut_words counts the owned words with more subtokens than a window holds: shown in part, scored by
        the first.

    Raises:
        AlignmentError: a slow tokenizer, a window too small for one subtoken, an overlap that fills the
        window.
    """
    frame = special_frame(tokenizer)
    capacity = window_capacity(frame, max_seq_length)
    stride = checked_stride(stride, capacity)
    inside = inside_ids(label_names)
    rows: dict[str, list] = {}
    subtokens_of = tokenize_words(examples["tokens"], tokenizer)
    for sentence, words, tags in zip(indices, subtokens_of, examples["ner_tags"], strict=True):
        sizes = [min(len(subtokens), capacity) for subtokens in words]
        for window in windows(sizes, capacity, stride):
            shown = [subtokens[:capacity] for subtokens in words[window.start : window.end]]
            row = build_row(shown, tags, window, frame, inside if label_all_tokens else None)
            row |= {"sentence": sentence, "sentence_words": len(words)}
            row["cut_words"] = sum(len(words[i]) > capacity for i in range(window.first, window.last))
            if "token_type_ids" not in tokenizer.model_input_names:
                del row["token_type_ids"]
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    return rows


def decode(
    windows: Mapping[str, Sequence], label_ids: Sequence[Sequence[int]], kind: type = int
) -> list[list[int]]:
    """Put the label ids of windows back together: one list a sentence, one id a word, in the split's order.

    Args:
        windows: the columns sentence, sentence_words, first_word and word_positions that `encode` made, in
            any row order.
        label_ids: gold or predicted ids, shape (windows, subtokens), right-padded; row i belongs to window i.
        kind: what each is to be; float for the probabilities of labels.

    Raises:
        ValueError: a word in no window or in two, or rows that do not fit.
    """
    names = ("sentence", "first_word", "word_positions", "sentence_words")
    pieces = [
        (sentence, first, [kind(ids[position]) for position in positions], size)
        for sentence, first, positions, size, ids in zip(
            *map(windows.__getitem__, names), label_ids, strict=True
        )
    ]
    tags: list[list[int]] = []
    missing = 0  # words of the last sentence that are still to come
    for sentence, first, piece, size in sorted(pieces, key=lambda piece: piece[:2]):
        if sentence == len(tags) and not missing:
            tags.append([])
        if sentence != len(tags) - 1 or first != len(tags[-1]):
            raise ValueError(f"sentence {sentence}, word {first}: words before it are in no window or in two")
        tags[-1].extend(piece)
        missing = size - len(tags[-1])
    if missing:
        raise ValueError(f"sentence {len(tags) - 1}: the last {missing} words are in no window")
    return tags


def special_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Read off one encoded word what the tokenizer puts before and after a sequence."""
    if not tokenizer.is_fast:
        raise AlignmentError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which does not say what word a subtoken is "
            "from; expected a fast one (a model with a tokenizer.json)"
        )
    probe = tokenizer(
        ["a"], is_split_into_words=True, return_special_tokens_mask=True, return_token_type_ids=True
    )
    inner = [i for i, special in enumerate(probe["special_tokens_mask"]) if not special]
    start, end = inner[0], inner[-1] + 1
    ids, segments = probe["input_ids"], probe["token_type_ids"]
    return Frame(ids[:start], ids[end:], segments[:start], segments[start], segments[end:])


def window_capacity(frame: Frame, max_seq_length: int) -> int:
    """How many subtokens of words fit into a window."""
    special = len(frame.before) + len(frame.after)
    if max_seq_length <= special:
        raise AlignmentError(
            f"--max_seq_length: found {max_seq_length}, of which special tokens take {special}; "
            f"expected at least {special + 1}"
        )
    return max_seq_length - special


def checked_stride(stride: int | None, capacity: int) -> int:
    if stride is None:
        return capacity // 4
    if not 0 <= stride < capacity:
        raise AlignmentError(
            f"--stride: found {stride}, where a window holds {capacity} subtokens; expected from 0 to less, "
            "or no window would get further than the one before it"
        )
    return stride


def inside_ids(label_names: Sequence[str]) -> list[int]:
    """For each label id, the id that the second and later subtokens of such a word carry: B-x gives I-x."""
    return [
        label_names.index("I" + name[1:]) if name.startswith("B-") else i
        for i, name in enumerate(label_names)
    ]


def tokenize_words(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase
) -> list[list[list[int]]]:
    """The subtoken ids of each word of each sentence; a word that yields none gets the unknown token."""
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
        result.append([ids or [unknown_id(tokenizer)] for ids in subtokens])
    return result


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.unk_token_id is None:
        raise AlignmentError(
            f"{type(tokenizer).__name__} gives no subtoken for some word and has no unknown token instead; "
            "expected a tokenizer with an unk_token"
        )
    return tokenizer.unk_token_id


def windows(sizes: Sequence[int], capacity: int, stride: int) -> list[Window]:
    """Cut words of the given sizes (in subtokens, each at most `capacity`) into overlapping windows.

    Each word is owned by exactly one window, the one in which the nearer of its two window edges is farthest.
    """
    if sum(sizes) <= capacity:
        return [Window(0, len(sizes), 0, len(sizes))]
    starts = [0]  # where each word's subtokens begin, and the total
    for size in sizes:
        starts.append(starts[-1] + size)
    ranges = []
    start = end = 0
    while end < len(sizes):
        while end < len(sizes) and starts[end + 1] - starts[start] <= capacity:
            end += 1
        ranges.append((start, end))
        # Step back as far as the overlap allows, but leave room for at least one new word.
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
    """Give each word to the window where its context is widest (the earlier if equal), ownerless windows go.

    Moving right along a sentence the widest context never moves back to an earlier window, so what a window
    owns is one range.
    """

    def context(window: int, word: int) -> int:
        start, end = ranges[window]
        return min(starts[word] - starts[start], starts[end] - starts[word + 1])

    def owner(word: int) -> int:
        showing = [window for window, (start, end) in enumerate(ranges) if start <= word < end]
        return max(showing, key=lambda window: context(window, word))

    owned = itertools.groupby(range(len(starts) - 1), key=owner)
    owned_words = [(window, list(words)) for window, words in owned]
    return [Window(*ranges[window], words[0], words[-1] + 1) for window, words in owned_words]


def build_row(
    words: Sequence[Sequence[int]],
    tags: Sequence[int],
    window: Window,
    frame: Frame,
    inside: Sequence[int] | None,
) -> dict:
    """One window as model input, of the subtokens of the words it shows and the tags of the whole sentence.

    `inside` labels the later subtokens of a word (None: they are ignored).
    """
    ids, labels, positions = list(frame.before), [IGNORED] * len(frame.before), []
    for word, subtokens in enumerate(words, start=window.start):
        rest = len(subtokens) - 1
        if window.first <= word < window.last:
            positions.append(len(ids))
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
    }
