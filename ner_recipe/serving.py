"""The served check: what `pipeline("ner")` returns for plain text, scored by exact characters.

    python run_ner.py --do_serve_check --do_eval --do_predict --model_name_or_path FOLDER_OR_HUB_ID ...

The gold words become running text, as printed. The stock pipeline gets that text and no word boundaries, and
its character spans are compared with the gold spans. All ranges are half-open, in characters.
"""

import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tqdm.auto import tqdm
from transformers import Pipeline, TokenClassificationPipeline, pipeline
from transformers.pipelines.token_classification import AggregationStrategy

from metrics import entities, span_scores
from ner_recipe.corpora import Split
from ner_recipe.launch import UsageError
from ner_recipe.reports.result import FORMS, SplitResult
from ner_recipe.reports.text import served_forms

STRATEGIES = tuple(strategy.value for strategy in AggregationStrategy)
OVERLAP = 4  # two chunks of a long text share a quarter of the model's maximum length

# Words without a space before them, and words without a space after them.
CLOSING = re.compile(r"[,.;:?!%)\]']+|'s|-[A-Za-z].*|/[A-Za-z].*")
OPENING = re.compile(r"[(\[]+")

Span = tuple[str, int, int]  # (type, first character, one past the last)


class ServeError(UsageError):
    """A model that the pipeline can't serve."""


class Text(NamedTuple):
    """A plain text and the gold spans in it."""

    text: str
    spans: set[Span]


class EveryStrategy(TokenClassificationPipeline):
    """The stock pipeline, but with the answers of every aggregation strategy from one forward pass.

    `none` can't handle text in several chunks. It gets the first chunk, as the stock pipeline truncates.
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
    model: str, result: SplitResult, *, batch_size: int = 16, disable_tqdm: bool = False, **options
) -> dict:
    """Score what `pipeline("ner", model=model)` returns for the sentences and abstracts of one split.

    Args:
        model: a folder or Hub id.
        result: the split. Whole abstracts are served only if its documents are known.
        options: further arguments of `pipeline`: revision, device, model_kwargs.

    Returns:
        stride, max_length (both in subtokens), and for `sentences` and `abstracts`: texts, too_long (texts
        with more subtokens than the model takes at once), and `scores`: precision, recall, f1, support,
        predicted and correct by strategy.

    Raises:
        ServeError: the tokenizer does not say how long a text the model takes.
    """
    ner = pipeline(
        "ner",
        model=model,
        pipeline_class=EveryStrategy,
        trust_remote_code=False,
        aggregation_strategy="simple",
        **options,
    )
    longest = ner.tokenizer.model_max_length
    if longest > sys.maxsize:
        raise ServeError(
            f"--do_serve_check: the tokenizer of '{model}' has no model_max_length, so the pipeline can't "
            "split long text; add it to tokenizer_config.json (run_ner.py --do_train saves it)"
        )
    stride = serving_stride(longest)
    served: dict = {"stride": stride, "max_length": longest}
    for form in FORMS if result.documents else FORMS[:1]:
        # Longest first: batches of like length, and a text that does not fit into memory fails at once.
        texts = sorted(plain_texts(result, form), key=lambda text: -len(text.text))
        answers = tqdm(
            ner((text.text for text in texts), batch_size=batch_size, stride=stride),
            total=len(texts),
            desc=f"Serving {form}",
            disable=disable_tqdm,
        )
        served[form] = {
            "texts": len(texts),
            "too_long": sum(is_too_long(ner, text.text) for text in texts),
            "scores": score_answers(texts, list(answers)),
        }
    return served


def serving_stride(max_length: int) -> int:
    """The pipeline's `stride`: subtokens that two chunks of a long text share."""
    return max_length // OVERLAP


def is_too_long(ner: Pipeline, text: str) -> bool:
    return len(ner.tokenizer(text, verbose=False)["input_ids"]) > ner.tokenizer.model_max_length


def score_answers(texts: Sequence[Text], answers: Sequence[Mapping[str, list[dict]]]) -> dict[str, dict]:
    """Micro precision, recall and F1 of exact typed character spans, by strategy."""
    gold = [text.spans for text in texts]
    rows = {}
    for strategy in STRATEGIES:
        predicted = [
            answered_spans(text.text, answer[strategy]) for text, answer in zip(texts, answers, strict=True)
        ]
        rows[strategy] = span_scores(gold, predicted, lambda span: span)["micro"]
    return rows


def answered_spans(text: str, answer: Sequence[Mapping]) -> set[Span]:
    """The pipeline's answer as spans. The tokens that `none` returns are read as IOB2 tags."""
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
    """The range without white space at its ends. Byte-level tokenizers include the space before a word."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def plain_texts(result: SplitResult, form: str) -> list[Text]:
    """Each sentence, or each abstract, as one text with its gold spans."""
    numbers = range(len(result.words))
    groups: Iterator = ([number] for number in numbers)
    if form == "abstracts":
        groups = (
            list(group)
            for _, group in itertools.groupby(numbers, key=lambda number: result.documents[number])
        )
    texts = []
    for group in groups:
        words = [word for number in group for word in result.words[number]]
        text, places = write_out(words)
        spans, first = set(), 0
        for number in group:
            for kind, start, end in result.spans[number][0]:
                spans.add((kind, places[first + start][0], places[first + end - 1][1]))
            first += len(result.words[number])
        texts.append(Text(text, spans))
    return texts


def write_out(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Words as running text, and the range of each word in it.

    As in print, there is no space before a comma, a full stop or a closing bracket, nor after an opening
    bracket.
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
    """The strategy with the best mean F1 over the forms of text; the first in STRATEGIES if equal.

    Never `none`, which returns tokens and takes no stride.
    """
    grouping = [strategy for strategy in STRATEGIES if strategy != "none"]
    forms = served_forms(served)
    return max(grouping, key=lambda strategy: sum(served[form]["scores"][strategy]["f1"] for form in forms))


def pipeline_settings(
    max_length: int, results: Mapping[str, SplitResult], splits: Mapping[str, Split]
) -> dict[str, object]:
    """How to call `pipeline("ner")` on a model whose tokenizer has this model_max_length, in subtokens.

    The strategy is chosen on the first split that was served (validation, if it was); it is `first` if none
    was.

    Returns:
        aggregation_strategy, chosen_on (the split's name or None), stride, max_length.
    """
    role = next((role for role, result in results.items() if result.served), None)
    return {
        "aggregation_strategy": recommended(results[role].served) if role else "first",
        "chosen_on": splits[role].name if role else None,
        "stride": serving_stride(max_length),
        "max_length": max_length,
    }
