"""The page of a model on the Hub: README.md of the output folder, with its model-index.

Written from the run's own evaluations and facts, so that no figure is typed. Imports metrics and report.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from metrics import Evaluation
from report import render_report, write_text

SPAN_NAMES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclasses.dataclass(frozen=True)
class CardSplit:
    """One evaluated split: its name in the corpus, its evaluation, and what the report says of it."""

    name: str
    evaluation: Evaluation
    facts: Mapping[str, str]


def write_model_card(
    output_dir: str, splits: Sequence[CardSplit], base_model: str | None, corpus: str
) -> None:
    """Write README.md: front matter with the scores, how to use the model, each split's report and facts.

    `base_model` is a Hub id or None (a local encoder has no page to link); `corpus` names the data set.
    """
    name = Path(output_dir).resolve().name
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "biomedical", corpus],
        base_model=base_model,
        model_name=name,
        eval_results=[result for split in splits for result in eval_results(split, corpus)] or None,
    )
    reports = [render_report(split.name, split.evaluation.scores, split.facts) for split in splits]
    card = str(ModelCard(f"---\n{data.to_yaml()}\n---\n{body(name, reports)}"))
    write_text(Path(output_dir) / "README.md", card)


def eval_results(split: CardSplit, corpus: str) -> list[EvalResult]:
    """The model-index entries of one split: span precision, recall, F1 (micro), macro F1, word F1."""
    scores = split.evaluation.scores
    values = {
        f"{title} (span, micro)": (key, scores["span"]["micro"][key]) for key, title in SPAN_NAMES.items()
    }
    values["F1 (span, macro)"] = ("f1", scores["span"]["macro"]["f1"])
    values["F1 (word, micro)"] = ("f1", scores["word"]["micro"]["f1"])
    kept = ("sentences", "corpus fingerprint", "protocol")
    return [
        EvalResult(
            task_type="token-classification",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=split.name,
            dataset_args={key: split.facts[key] for key in kept if key in split.facts},
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, (kind, value) in values.items()
    ]


def body(name: str, reports: list[str]) -> str:
    blocks = "\n".join(f"```text\n{report}```\n" for report in reports)
    return f"""# {name}

Finds proteins, DNA, RNA, cell lines and cell types in biomedical text.

```python
from transformers import pipeline

ner = pipeline("ner", model="PATH_OR_HUB_ID_OF_THIS_MODEL", aggregation_strategy="first")
ner("Activation of the CD28 surface receptor in human T cells.")
```

## Scores

The model was selected on the split that the report names, after which the test split was read.

{blocks}"""
