"""The result of one split: made once, never changed, and read by every report.

result = make_result(words, gold, predicted, documents=documents)
"""

import dataclasses
from collections.abc import Mapping, Sequence

from metrics import Spans, parse, score
from ner_recipe.reports.intervals import RESAMPLES, bootstrap

FORMS = ("sentences", "abstracts")  # of text that the served check scores


@dataclasses.dataclass(frozen=True)
class SplitResult:
    """One split, predicted and scored, by sentence in the corpus's order.

    words, gold, predicted: words and IOB2 tags, one list per sentence. spans: gold and predicted entities of
    each sentence, half-open, in words. scores: as metrics.score returns them. intervals: as
    intervals.bootstrap returns them. documents: the number of each sentence's document (None: unknown).
    confidence: the model's probability of each word's predicted tag (None: not known). spaces: which words
    have white space before them in the original text (None: not known). facts: the lines that
    head every report. metrics: the loss and the timings that Trainer measured. served: the scores of
    `pipeline("ner")`, as serving.serve_check returns them. joint: the same split by joint decoding
    (None: not known), where `predicted` is what each word's first subtoken says. min_score: the score
    below which joint decoding left out entities (None: another decoding).
    """

    words: Sequence[Sequence[str]]
    gold: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]
    spans: Spans
    scores: Mapping
    intervals: Mapping
    documents: Sequence[int] | None = None
    confidence: Sequence[Sequence[float]] | None = None
    spaces: Sequence[Sequence[bool]] | None = None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    served: Mapping | None = None
    joint: "SplitResult | None" = None
    min_score: float | None = None


def make_result(
    words: Sequence[Sequence[str]],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    *,
    documents: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    **more: object,
) -> SplitResult:
    """Parse the tags, score them and draw the intervals.

    Raises:
        ValueError: sentences or words do not pair up, or tags are not IOB2.
    """
    spans = parse(gold, predicted)
    scores = score(gold, predicted, spans)
    intervals = bootstrap(spans, documents, resamples)
    return SplitResult(words, gold, predicted, spans, scores, intervals, documents, **more)


def with_facts(result: SplitResult, facts: Mapping[str, str]) -> SplitResult:
    """The same result with more facts."""
    return dataclasses.replace(result, facts={**result.facts, **facts})
