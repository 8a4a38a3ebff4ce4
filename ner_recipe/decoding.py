"""From the probabilities of subtokens to one tag for each word: two readings of the same model.

    words = gather(windows, log_probabilities)
    ids, probabilities = first_subtokens(words)                 # as in the literature
    ids, probabilities = joint_decoding(words, label_names)     # valid sequences only

`first_subtokens` chooses each word's tag alone, as `pipeline("ner", aggregation_strategy="first")` does, and
may begin an entity with I-. `joint_decoding` chooses the tags of a sentence together.
"""

from collections.abc import Sequence

import numpy as np

from jnlpba_dataset import WordValues, inside_ids


def first_subtokens(words: WordValues) -> tuple[np.ndarray, np.ndarray]:
    """The most probable tag of each word's first subtoken.

    Args:
        words: the log-probabilities of each subtoken, shape (subtokens, labels).

    Returns:
        Label ids and their probabilities, both of shape (words,).
    """
    scores = words.values[words.starts]  # (words, labels)
    ids = scores.argmax(axis=1)
    return ids, np.exp(scores[np.arange(len(ids)), ids])


def joint_decoding(words: WordValues, label_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The most probable valid tags of each sentence: every entity starts with B-, and words stay whole.

    Args:
        words: the log-probabilities of each subtoken, shape (subtokens, labels).
        label_names: the names of the labels, O, B-TYPE and I-TYPE for each type.

    Returns:
        Label ids and their probabilities, both of shape (words,). A probability is the geometric mean over
        the subtokens of the word.
    """
    scores = whole_word_scores(words, label_names)  # (words, labels)
    ids = best_valid_sequences(scores, words.lengths, label_names)
    sizes = np.diff(words.starts, append=len(words.values))
    return ids, np.exp(scores[np.arange(len(ids)), ids] / sizes)


def whole_word_scores(words: WordValues, label_names: Sequence[str]) -> np.ndarray:
    """The log-probability of each tag for each word as a whole. (subtokens, labels) -> (words, labels)

    A tag is that of the first subtoken, and the later ones continue it: B-x, I-x, I-x ... as in training.
    """
    scores = words.values[:, inside_ids(label_names)].astype(np.float64)
    scores[words.starts] = words.values[words.starts]
    return np.add.reduceat(scores, words.starts)


def best_valid_sequences(scores: np.ndarray, lengths: np.ndarray, label_names: Sequence[str]) -> np.ndarray:
    """The valid IOB2 sequence with the highest sum of scores for each sentence (Viterbi's algorithm).

    Args:
        scores: of each tag for each word, shape (words, labels). Sentences follow one another.
        lengths: words of each sentence, shape (sentences,).

    Returns:
        Label ids, shape (words,).
    """
    steps = valid_steps(label_names)
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    sizes = lengths[order]
    longest = int(sizes[0]) if len(sizes) else 0
    # The sentences that have a word at each place: the first so many, because the longest come first.
    counts = np.searchsorted(-sizes, -np.arange(longest), side="left")
    best = np.full((len(sizes), len(label_names)), -np.inf)
    came_from = np.zeros(scores.shape, dtype=np.int16)
    for place, count in enumerate(counts):
        rows = starts[:count] + place
        if place == 0:
            best[:count] = scores[rows] + steps[label_names.index("O")]  # a sentence starts as if after O
            continue
        total = best[:count, :, None] + steps  # (sentences, tag before, tag)
        came_from[rows] = total.argmax(axis=1)
        best[:count] = total.max(axis=1) + scores[rows]
    ids = np.zeros(len(scores), dtype=np.int64)
    last = best.argmax(axis=1)
    for place in reversed(range(longest)):
        rows = starts[: counts[place]] + place
        ids[rows] = last[: counts[place]]
        last[: counts[place]] = came_from[rows, ids[rows]]
    return ids


def valid_steps(label_names: Sequence[str]) -> np.ndarray:
    """0 where a tag may follow another, else minus infinity: I-x follows only B-x and I-x. (before, after)"""
    steps = np.zeros((len(label_names), len(label_names)))
    for after, name in enumerate(label_names):
        if name.startswith("I-"):
            steps[[before[1:] != name[1:] for before in label_names], after] = -np.inf
    return steps
