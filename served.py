"""What a user gets: a saved model through `pipeline("ner")` on plain text, scored by exact characters.

    python run_ner.py --do_serve_check --do_eval --do_predict --model_name_or_path FOLDER_OR_HUB_ID ...

Sentences and whole abstracts are written as a person types them, the pipeline loads the model as a user's
program does, and its character spans are held against the gold ones: no word boundary is given away. All
ranges are half-open and count characters. Imports metrics and report.
"""

import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tqdm.auto import tqdm
from transformers import Pipeline, TokenClassificationPipeline, pipeline
from transformers.pipelines.token_classification import AggregationStrategy

from metrics import Evaluation, entities, span_scores
from report import SERVED_FORMS

STRATEGIES = tuple(strategy.value for strategy in AggregationStrategy)
OVERLAP = 4  # the part of the model's maximum length that two chunks of a longer text share: a quarter

# Words that stand against the word before them, and those that the next word stands against.
CLOSING = re.compile(r"[,.;:?!%)\]']+|'s|-[A-Za-z].*|/[A-Za-z].*")
OPENING = re.compile(r"[(\[]+")

Span = tuple[str, int, int]  # (type, first character, one past the last)


class ServeError(ValueError):
    """A model that the pipeline can't serve; says what it lacks."""


class Text(NamedTuple):
    """A plain text and the gold spans in it."""

    text: str
    spans: set[Span]


class EveryStrategy(TokenClassificationPipeline):
    """The stock pipeline, which answers by each aggregation strategy at once: one forward pass for all.

    `none` can't be had for text in several chunks: it gets the first, as the stock pipeline truncates.
    """

    def postprocess(self, all_outputs: list[dict], **options) -> dict[str, list[dict]]:
        return {
            strategy: super(EveryStrategy, self).postprocess(
                all_outputs[:1] if strategy == "none" else all_outputs,
                **{**options, "aggregation_strategy": AggregationStrategy(strategy)},
            )
            for strategy in STRATEGIES
        }


def serve_check(
    model: str,
    evaluation: Evaluation,
    document_ids: Sequence[str],
    *,
    batch_size: int = 16,
    disable_tqdm: bool = False,
    **options,
) -> dict:
    """Score what `pipeline("ner", model=model)` answers on the sentences and abstracts of one split.

    Args:
        model: a folder or Hub id.
        evaluation: words and gold tags, by sentence.
        document_ids: the abstract of each sentence; those of one abstract follow each other.
        options: further arguments of `pipeline`: revision, device, model_kwargs.

    Returns:
        stride, max_length (subtokens), and for `sentences` and `abstracts`: texts, too_long (texts of more
        subtokens than the model takes at once), and a row a strategy: precision, recall, f1, support,
        predicted, correct.

    Raises:
        ServeError: the tokenizer does not say how much text the model takes.
    """
    ner = pipeline(
        "ner",
        model=model,
        pipeline_class=EveryStrategy,
        trust_remote_code=False,
        aggregation_strategy="simple",
        **options,
    )
    if ner.tokenizer.model_max_length > sys.maxsize:
        raise ServeError(
            f"'{model}' has a tokenizer without model_max_length, so the pipeline can't cut long text; "
            "expected one in tokenizer_config.json (run_ner.py --do_train saves it)"
        )
    stride = serving_stride(ner.tokenizer.model_max_length)
    result: dict = {"stride": stride, "max_length": ner.tokenizer.model_max_length}
    for form in SERVED_FORMS:
        texts = plain_texts(evaluation, document_ids, form)
        # Longest first: batches of like length, and what does not fit into memory fails at once.
        texts.sort(key=lambda text: -len(text.text))
        answers = tqdm(
            ner((text.text for text in texts), batch_size=batch_size, stride=stride),
            total=len(texts),
            desc=f"Serving {form}",
            disable=disable_tqdm,
        )
        result[form] = {
            "texts": len(texts),
            "too_long": sum(is_too_long(ner, text.text) for text in texts),
            **score_answers(texts, list(answers)),
        }
    return result


def serving_stride(max_length: int) -> int:
    """The `stride` to call the pipeline with: subtokens that two chunks of a long text share."""
    return max_length // OVERLAP


def is_too_long(ner: Pipeline, text: str) -> bool:
    return len(ner.tokenizer(text, verbose=False)["input_ids"]) > ner.tokenizer.model_max_length


def score_answers(texts: Sequence[Text], answers: Sequence[Mapping[str, list[dict]]]) -> dict[str, dict]:
    """Micro precision, recall and F1 of exact typed character spans, a row a strategy."""
    gold = [text.spans for text in texts]
    rows = {}
    for strategy in STRATEGIES:
        predicted = [
            answered_spans(text.text, answer[strategy]) for text, answer in zip(texts, answers, strict=True)
        ]
        rows[strategy] = span_scores(gold, predicted, lambda span: span)["micro"]
    return rows


def answered_spans(text: str, answer: Sequence[Mapping]) -> set[Span]:
    """The pipeline's answer as spans; the tokens that `none` answers are read as IOB2 tags."""
    if answer and "entity" in answer[0]:
        tags = ["O"] * (answer[-1]["index"] + 1)
        tokens = {token["index"]: token for token in answer}
        for index, token in tokens.items():
            tags[index] = token["entity"]
        spans = [(kind, tokens[a]["start"], tokens[b - 1]["end"]) for kind, a, b in entities(tags)]
    else:
        spans = [(group["entity_group"], group["start"], group["end"]) for group in answer]
    return {(kind, *without_space(text, start, end)) for kind, start, end in spans}


def without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends: byte-level tokenizers count the space before a word in."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def plain_texts(evaluation: Evaluation, document_ids: Sequence[str], form: str) -> list[Text]:
    """Each sentence, or each abstract, as one text with its gold spans."""
    numbers = range(len(evaluation.words))
    groups: Iterator = ([number] for number in numbers)
    if form == "abstracts":
        groups = (
            list(group) for _, group in itertools.groupby(numbers, key=lambda number: document_ids[number])
        )
    texts = []
    for group in groups:
        words = [word for number in group for word in evaluation.words[number]]
        text, places = write_out(words)
        spans, first = set(), 0
        for number in group:
            for kind, start, end in entities(evaluation.gold[number]):
                spans.add((kind, places[first + start][0], places[first + end - 1][1]))
            first += len(evaluation.words[number])
        texts.append(Text(text, spans))
    return texts


def write_out(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as running text, and the range of each word in it.

    Commas, full stops, closing brackets and the like stand against the word before, opening brackets
    against the next, as in print; all else has a space between.
    """
    text = ""
    places: list[tuple[int, int]] = []
    for number, word in enumerate(words):
        if number and not CLOSING.fullmatch(word) and not OPENING.fullmatch(words[number - 1]):
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places


def recommended(served: Mapping[str, Mapping]) -> str:
    """The strategy with the best mean F1 over sentences and abstracts; the earlier in STRATEGIES if equal.

    Never `none`, which answers tokens and takes no stride.
    """
    grouping = [strategy for strategy in STRATEGIES if strategy != "none"]
    return max(grouping, key=lambda strategy: sum(served[form][strategy]["f1"] for form in SERVED_FORMS))
