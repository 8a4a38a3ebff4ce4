"""From the probabilities of subtokens to one tag for each word: two readings of the same model.

    words = gather(windows, log_probabilities)
    ids, probabilities = first_subtokens(words)                 # as in the literature
    ids, entities = joint_decoding(words, label_names)          # valid sequences only
    ids = leave_out(ids, entities, min_score, label_names)

`first_subtokens` chooses each word's tag alone, as `pipeline("ner", aggregation_strategy="first")` does, and
may begin an entity with I-. `joint_decoding` chooses the tags of a sentence together. An entity of the best
sequence may still be improbable, because that sequence is only the most probable of many. Its score is its
own probability.
"""

from collections.abc import Sequence
from typing import NamedTuple

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


class Entities(NamedTuple):
    """The entities of a sequence of tags: three arrays of the same length, in the order of the text.

    first, end: half-open, in words. scores: the probability of each.
    """

    first: np.ndarray
    end: np.ndarray
    scores: np.ndarray


def joint_decoding(words: WordValues, label_names: Sequence[str]) -> tuple[np.ndarray, Entities]:
    """The most probable valid tags of each sentence: every entity starts with B-, and words stay whole.

    Args:
        words: the log-probabilities of each subtoken, shape (subtokens, labels).
        label_names: the names of the labels, O, B-TYPE and I-TYPE for each type.

    Returns:
        Label ids of shape (words,), and their entities. The score of an entity is the probability, among all
        valid sequences of its sentence, of those that have an entity of this type with these two ends. It
        takes a word's probabilities from its first subtoken. The product over its subtokens would be too
        certain, because they seldom disagree.
    """
    ids = best_valid_sequences(whole_word_scores(words, label_names), words.lengths, label_names)
    first, end = entity_ends(ids, label_names)
    scores = words.values[words.starts].astype(np.float64)  # (words, labels)
    return ids, Entities(first, end, entity_scores(scores, words.lengths, label_names, ids, first, end))


def leave_out(
    ids: np.ndarray, entities: Entities, min_score: float, label_names: Sequence[str]
) -> np.ndarray:
    """The label ids with O in place of the entities whose score is below `min_score`."""
    uncertain = entities.scores < min_score
    # +1 where such an entity starts and -1 where it ends: entities do not overlap.
    steps = np.zeros(len(ids) + 1, dtype=np.int64)
    steps[entities.first[uncertain]] += 1
    steps[entities.end[uncertain]] -= 1
    return np.where(np.cumsum(steps[:-1]) > 0, list(label_names).index("O"), ids)


def best_min_score(ids: np.ndarray, found: Entities, gold: np.ndarray, label_names: Sequence[str]) -> float:
    """The min_score with the highest F1 among 0, 0.05, 0.1 ... 0.5; the lowest if several are equal.

    With exact probabilities the best one is half of the F1 that it reaches, so never above 0.5 (Lipton, Elkan
    and Narayanaswamy, 2014).

    Args:
        ids, found: what joint_decoding returned.
        gold: the true label ids, IOB2, shape (words,).
    """
    first, end = entity_ends(gold, label_names)
    true_end = np.zeros(len(gold), dtype=np.int64)  # of the entity that begins with a word, or 0
    true_end[first] = end
    right = (true_end[found.first] == found.end) & (gold[found.first] == ids[found.first])
    choices = np.linspace(0, 0.5, 11).round(2)
    kept = found.scores >= choices[:, None]  # (choices, entities)
    f1 = 2 * (kept & right).sum(axis=1) / np.maximum(kept.sum(axis=1) + len(first), 1)
    return float(choices[f1.argmax()])


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
    places = words_by_place(lengths)
    best = np.full((len(lengths), len(label_names)), -np.inf)
    came_from = np.zeros(scores.shape, dtype=np.int16)
    for place, rows in enumerate(places):
        count = len(rows)
        if place == 0:
            best[:count] = scores[rows] + steps[label_names.index("O")]  # a sentence starts as if after O
            continue
        total = best[:count, :, None] + steps  # (sentences, tag before, tag)
        came_from[rows] = total.argmax(axis=1)
        best[:count] = total.max(axis=1) + scores[rows]
    ids = np.zeros(len(scores), dtype=np.int64)
    last = best.argmax(axis=1)
    for rows in reversed(places):
        ids[rows] = last[: len(rows)]
        last[: len(rows)] = came_from[rows, ids[rows]]
    return ids


def entity_ends(ids: np.ndarray, label_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first word of each entity of valid tags, and the word after its last: two arrays."""
    prefixes = np.array([name[:2] for name in label_names])[ids]
    first = np.flatnonzero(prefixes == "B-")
    # An entity ends before the next word that does not continue one. No sentence starts with I-.
    others = np.append(np.flatnonzero(prefixes != "I-"), len(ids))
    return first, others[np.searchsorted(others, first, side="right")]


def entity_scores(
    scores: np.ndarray,
    lengths: np.ndarray,
    label_names: Sequence[str],
    ids: np.ndarray,
    first: np.ndarray,
    end: np.ndarray,
) -> np.ndarray:
    """The probability of each entity among all valid sequences of its sentence, shape (entities,).

    The sum over the sequences that have it, divided by the sum over all: what precedes the entity, its own
    tags, and what follows if the next word does not continue it.
    """
    before, after, total = sums_of_sequences(scores, lengths, label_names)
    own = np.append(scores[np.arange(len(ids)), ids], 0)  # reduceat needs a place for the end of the last
    inside = np.add.reduceat(own, np.stack([first, end], axis=1).ravel())[::2] if len(first) else own[:0]
    return np.exp(np.minimum(before[first] + inside + after[end - 1] - total[first], 0))


def sums_of_sequences(
    scores: np.ndarray, lengths: np.ndarray, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithms of sums over valid sequences (the forward-backward algorithm), each of shape (words,).

    Returns:
        before: of all tags before each word. after: of all tags after each word, the first of which is not
        I-. total: of all tags of the word's sentence.
    """
    begins = np.flatnonzero([name.startswith("B-") for name in label_names])
    inside = np.array(inside_ids(label_names))[begins]
    not_inside = np.setdiff1d(np.arange(len(label_names)), inside)
    places = words_by_place(lengths)
    before, after = np.zeros(len(scores)), np.zeros(len(scores))
    upto = scores.copy()  # of a word's tag and all tags before it: (words, labels)
    for place, rows in enumerate(places):
        if place == 0:
            upto[rows[:, None], inside] = -np.inf
            continue
        previous = upto[rows - 1]
        before[rows] = np.logaddexp.reduce(previous, axis=1)
        upto[rows] += before[rows, None]
        entered = np.logaddexp(previous[:, begins], previous[:, inside])
        upto[rows[:, None], inside] = scores[rows[:, None], inside] + entered
    rest = np.zeros(scores.shape)  # of all tags after a word, for each tag of the word: (words, labels)
    for rows in reversed(places[1:]):
        following = scores[rows] + rest[rows]
        after[rows - 1] = np.logaddexp.reduce(following[:, not_inside], axis=1)
        rest[rows - 1] = after[rows - 1, None]
        continued = np.logaddexp(after[rows - 1, None], following[:, inside])
        for columns in (begins, inside):
            rest[rows[:, None] - 1, columns] = continued
    return before, after, np.logaddexp.reduce(upto + rest, axis=1)


def words_by_place(lengths: np.ndarray) -> list[np.ndarray]:
    """For each place in a sentence, the words there, those of the longest sentences first."""
    order = np.argsort(-lengths, kind="stable")
    starts, sizes = (np.cumsum(lengths) - lengths)[order], lengths[order]
    longest = int(sizes[0]) if len(sizes) else 0
    counts = np.searchsorted(-sizes, -np.arange(longest), side="left")
    return [starts[:count] + place for place, count in enumerate(counts)]


def valid_steps(label_names: Sequence[str]) -> np.ndarray:
    """0 where a tag may follow another, else minus infinity: I-x follows only B-x and I-x. (before, after)"""
    steps = np.zeros((len(label_names), len(label_names)))
    for after, name in enumerate(label_names):
        if name.startswith("I-"):
            steps[[before[1:] != name[1:] for before in label_names], after] = -np.inf
    return steps
