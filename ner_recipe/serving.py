"""Plain text -> entities: the Annotator, which decodes jointly, and the served check.

    for entities in Annotator("outputs/quickstart")(texts): ...
    python run_ner.py --do_serve_check --do_eval --do_predict --model_name_or_path FOLDER_OR_HUB_ID ...

In the served check the gold words become running text, as printed. The stock pipeline and the Annotator get
that text and no word boundaries, and their character spans are compared with the gold spans. All ranges are
half-open, in characters.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TokenClassificationPipeline,
    pipeline,
)
from transformers.pipelines.token_classification import AggregationStrategy

from jnlpba_dataset import WordValues, require_fast, spaces_as_printed, special_frame, window_capacity
from metrics import entities, span_scores
from ner_recipe.annotation.onnx_model import OnnxModel
from ner_recipe.annotation.windows import (
    Layout,
    lay_out,
    padded_batch,
    without_space,
)
from ner_recipe.arguments import is_probability
from ner_recipe.batching import batches_by_length, default_batch_tokens
from ner_recipe.corpora.schemes import is_iob2
from ner_recipe.corpora.splits import Split
from ner_recipe.decoding import Entities, joint_decoding
from ner_recipe.launch import UsageError, visible
from ner_recipe.models import load_trained, min_score_of, reads_all_tokens
from ner_recipe.reports.result import FORMS, SplitResult
from ner_recipe.reports.text import served_forms

STRATEGIES = tuple(strategy.value for strategy in AggregationStrategy)
TORCH, ONNX = BACKENDS = ("torch", "onnx")
JOINT = "joint"  # the Annotator, beside the strategies of the pipeline
OVERLAP = 4  # two chunks of a long text share a quarter of the model's maximum length

Span = tuple[str, int, int]  # (type, first character, one past the last)


class ServeError(UsageError):
    """A model that the pipeline can't serve."""


class Text(NamedTuple):
    """A plain text and the gold spans in it."""

    text: str
    spans: set[Span]


class Annotator:
    """Finds entities in plain texts of any length, by joint decoding.

        annotator = Annotator("outputs/quickstart")
        for entities in annotator(["Interleukin-4 induces GATA-3.", ...]):
            print(entities)

    A text is cut where the tokenizer cuts it, at white space and punctuation, and the most probable valid
    tags of the whole text are taken. Only the first subtoken of each word counts if the configuration of the
    model says that it was trained with `--label_all_tokens false`. A text longer than a window goes through
    overlapping windows, of which exactly one owns each word, as in training.

    Args:
        model: a folder, a Hub id, or a loaded model.
        tokenizer: of a loaded model.
        backend: what computes a model that is loaded here; `onnx` needs a folder with model.onnx.
        device: as torch names it; where the model is (the CPU, if it is loaded here) if not given.
        dtype: of the weights, if the model is loaded here; bf16 is faster where the processor has it.
        batch_tokens: subtokens in a batch, padding included. If None, 1,024 on a CPU, whose caches they fit
            better, and 16,384 elsewhere.
        buffer: how many texts, at least one, are read ahead and sorted by length.
        min_score: entities with a lower score are left out. If None: the one in the model's config.json,
            which the training chose on validation, or 0.

    Raises:
        AlignmentError: a slow tokenizer.
        ValueError: another backend, no buffer, or a min_score that is no probability.
        UsageError: no such model, missing or broken weights, a tokenizer of another model, or a min_score in
            config.json that is no probability.
        ServeError: the tokenizer does not say how long a text the model takes, or the labels are not IOB2.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | OnnxModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        backend: str = TORCH,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int | None = None,
        buffer: int = 512,
        min_score: float | None = None,
    ):
        if backend not in BACKENDS:
            raise ValueError(f"backend: found '{backend}'; expected {' or '.join(BACKENDS)}")
        if buffer < 1:
            raise ValueError(f"buffer: found {buffer}; expected at least 1 text")
        if min_score is not None and not is_probability(min_score):
            raise ValueError(f"min_score: found {min_score!r}; expected a probability from 0 to 1")
        if isinstance(model, str | Path) and backend == ONNX:
            model, tokenizer = OnnxModel(model), AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        elif isinstance(model, str | Path):
            model, tokenizer = load_trained(model, dtype, flag="model")
        require_fast(tokenizer)
        self.label_all_tokens = reads_all_tokens(model.config)
        self.model, self.tokenizer = (model if device is None else model.to(device)).eval(), tokenizer
        self.batch_tokens = batch_tokens or default_batch_tokens(self.model.device)
        self.buffer = buffer
        self.min_score = (min_score_of(model.config) or 0.0) if min_score is None else min_score
        self.label_names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self.max_length = longest_text(tokenizer, model.config.name_or_path)
        self.frame = special_frame(tokenizer)
        self.capacity = window_capacity(self.frame, self.max_length)
        refuse_other_schemes(self.label_names, model.config.name_or_path)

    def __call__(self, texts: Iterable[str]) -> Iterator[list[dict]]:
        """The entities of each text, in the order of the texts, which are read as they are needed.

        Yields:
            A list of entities in the order of the text: `start` and `end` (half-open, in characters),
            `label`, `text` (equal to text[start:end]) and `score`, the probability of the entity among all
            valid tags of the text.

        Raises:
            TypeError: one text instead of several.
        """
        if isinstance(texts, str):
            raise TypeError("found one text; expected several, such as [text]")
        texts = iter(texts)
        chunks = iter(lambda: list(itertools.islice(texts, self.buffer)), [])
        return itertools.chain.from_iterable(self.annotate_chunks(chunks))

    def annotate_chunks(self, chunks: Iterable[Sequence[str]]) -> Iterator[list[list[dict]]]:
        """The entities of the texts of each chunk, which are computed together and with no others.

        The next chunk is read, and prepared in a thread, while the model works on this one.
        """
        with ThreadPoolExecutor(1) as thread:
            waiting = None
            for texts in chunks:
                prepared = thread.submit(self.prepare, texts)
                if waiting is not None:
                    yield self.annotate(*waiting)
                waiting = texts, prepared
            if waiting is not None:
                yield self.annotate(*waiting)

    def prepare(self, texts: Sequence[str]) -> Layout:
        """Words and windows of the texts."""
        if not texts:
            return lay_out(BatchEncoding({}, encoding=[]), self.capacity)
        options = {"return_offsets_mapping": True, "truncation": False, "verbose": False}
        encoded = self.tokenizer(list(texts), add_special_tokens=False, **options)
        return lay_out(encoded, self.capacity)

    def annotate(self, texts: Sequence[str], prepared: Future[Layout]) -> list[list[dict]]:
        """The entities of each text."""
        layout = prepared.result()
        words = WordValues(self.log_probabilities(layout), layout.starts, layout.lengths)
        if not self.label_all_tokens:
            words = WordValues(words.values[words.starts], np.arange(len(words.starts)), words.lengths)
        return self.found_entities(texts, layout, *joint_decoding(words, self.label_names))

    @torch.inference_mode()
    def log_probabilities(self, layout: Layout) -> np.ndarray:
        """Of each label for each subtoken: (subtokens, labels)."""
        found = np.empty((len(layout.ids), len(self.label_names)), dtype=np.float32)
        for batch in batches_by_length(np.diff(layout.shown).ravel(), self.batch_tokens):
            arrays = padded_batch(layout, batch, self.frame, self.tokenizer)
            inputs = {name: torch.from_numpy(array).to(self.model.device) for name, array in arrays.items()}
            values = self.model(**inputs).logits.float().log_softmax(dim=-1).cpu().numpy()
            for row, window in enumerate(batch):
                start, end = layout.owned[window]
                place = len(self.frame.before) + start - layout.shown[window, 0]
                found[start:end] = values[row, place : place + end - start]
        return found

    def found_entities(
        self, texts: Sequence[str], layout: Layout, ids: np.ndarray, entities: Entities
    ) -> list[list[dict]]:
        """The entities of each text, from the label ids of all words."""
        text_of_word = np.repeat(np.arange(len(texts)), layout.lengths)
        found: list[list[dict]] = [[] for _ in texts]
        rows = zip(
            text_of_word[entities.first].tolist(),
            ids[entities.first].tolist(),
            layout.places[entities.first, 0].tolist(),
            layout.places[entities.end - 1, 1].tolist(),
            entities.scores.tolist(),
            strict=True,
        )
        for number, label, start, end, score in rows:
            text = texts[number]
            start, end = without_space(text, start, end)
            # start == end: white space alone, which a byte-level tokenizer takes for a word
            if start < end and score >= self.min_score:
                entity = {"start": start, "end": end, "label": self.label_names[label][2:]}
                found[number].append(entity | {"text": text[start:end], "score": score})
        return found


def refuse_other_schemes(label_names: Sequence[str], model: str) -> None:
    """Refuse labels that are not O, B-TYPE and I-TYPE for each type."""
    if not is_iob2(label_names):
        found = ", ".join(map(visible, label_names))
        raise ServeError(
            f"the model '{model}' has the labels {found}; expected O, and B-TYPE and I-TYPE for each type "
            "(choose a model trained with IOB2 tags)"
        )


def longest_text(tokenizer: PreTrainedTokenizerBase, model: str) -> int:
    """How many subtokens the model takes at once, special tokens included."""
    if tokenizer.model_max_length > sys.maxsize:
        raise ServeError(
            f"the tokenizer of '{model}' has no model_max_length, so long text can't be split; add it to "
            "tokenizer_config.json (run_ner.py --do_train saves it)"
        )
    return tokenizer.model_max_length


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


def serve_check(model: str, result: SplitResult, *, disable_tqdm: bool = False, **options) -> dict:
    """Score what `pipeline("ner", model=model)` and the Annotator return for the texts of one split.

    Args:
        model: a folder or Hub id.
        result: the split. Whole abstracts are served only if its documents are known.
        options: further arguments of `pipeline`: revision, device, model_kwargs.

    Returns:
        stride, max_length (both in subtokens), and for `sentences` and `abstracts`: texts, too_long (texts
        with more subtokens than the model takes at once), and `scores`: precision, recall, f1, support,
        predicted and correct by strategy of the pipeline, and for JOINT, the Annotator.

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
    min_score = result.joint.min_score if result.joint else None
    annotator = Annotator(ner.model, ner.tokenizer, device=ner.device, min_score=min_score)
    longest = annotator.max_length
    stride = serving_stride(longest)
    served: dict = {"stride": stride, "max_length": longest}
    for form in FORMS if result.documents else FORMS[:1]:
        # Longest first: batches of like length, and a text that does not fit into memory fails at once.
        texts = sorted(plain_texts(result, form), key=lambda text: -len(text.text))
        lengths = [len(ner.tokenizer(text.text, verbose=False)["input_ids"]) for text in texts]
        rows = max(1, annotator.batch_tokens // min(longest, max(lengths)))
        answers = tqdm(
            ner((text.text for text in texts), batch_size=rows, stride=stride),
            total=len(texts),
            desc=f"Serving {form}",
            disable=disable_tqdm,
        )
        served[form] = {
            "texts": len(texts),
            "too_long": sum(length > longest for length in lengths),
            "scores": score_answers(texts, list(answers)) | {JOINT: joint_score(texts, annotator)},
        }
    return served


def serving_stride(max_length: int) -> int:
    """The pipeline's `stride`: subtokens that two chunks of a long text share."""
    return max_length // OVERLAP


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


def joint_score(texts: Sequence[Text], annotator: Annotator) -> dict[str, float]:
    """Micro precision, recall and F1 of the Annotator's exact typed character spans."""
    answers = annotator(text.text for text in texts)
    predicted = [{(found["label"], found["start"], found["end"]) for found in answer} for answer in answers]
    return span_scores([text.spans for text in texts], predicted, lambda span: span)["micro"]


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
        spaces = [space for number in group for space in result.spaces[number]] if result.spaces else None
        text, places = write_out(words, spaces)
        spans, first = set(), 0
        for number in group:
            for kind, start, end in result.spans[number][0]:
                spans.add((kind, places[first + start][0], places[first + end - 1][1]))
            first += len(result.words[number])
        texts.append(Text(text, spans))
    return texts


def write_out(
    words: Sequence[str], spaces: Sequence[bool] | None = None
) -> tuple[str, list[tuple[int, int]]]:
    """Words as running text, and the range of each word in it.

    `spaces` says which words have white space before them in the original text. Without it there is none, as
    in print, before a comma, a full stop or a closing bracket, nor after an opening bracket.
    """
    spaces = spaces_as_printed(words) if spaces is None else spaces
    text = ""
    places: list[tuple[int, int]] = []
    for number, word in enumerate(words):
        if number and spaces[number]:
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
