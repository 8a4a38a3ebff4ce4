"""The page of a model on the Hub: README.md of an output folder, made from the files that the run left in it.

    python model_card.py OUTPUT_DIR        # write it again

Every figure comes from run.json and the *_results.json beside it; model_card.md is the template. Imports
report and the corpus's citation.
"""

import argparse
import html
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from jnlpba_dataset import CITATION
from report import SERVED_FORMS, write_text

TEMPLATE = Path(__file__).resolve().parent / "model_card.md"
RESULTS = {"test": ("test", "test_results.json"), "validation": ("eval", "eval_results.json")}
AVERAGES = ("micro", "macro", "weighted")
SPAN_METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
KIND_NAMES = {"cell_line": "cell lines", "cell_type": "cell types", "protein": "proteins"}
EXAMPLES = (
    "Mouse thymus was used as a source of glucocorticoid receptor from normal CS lymphocytes.",
    "Interleukin-4 induces expression of the GATA-3 gene in human T cells, but not in the HL-60 cell line.",
    "Levels of c-fos mRNA rose within 30 minutes of stimulation with TNF-alpha (10 ng/ml).",
)
CORPUS_NOTES = {
    "jnlpba": "JNLPBA (BioNLP shared task 2004, from GENIA): MEDLINE abstracts on transcription factors in "
    "human blood cells. Annotations CC BY 3.0 (GENIA project); the distribution that is read, CC BY 4.0.",
    "sample": "The recipe's embedded sample, sentences invented for trying it out: the scores say nothing "
    "about real text.",
    "custom": "A corpus of its owner's, with the labels and format of JNLPBA.",
}
JNLPBA_LIMITS = (
    "JNLPBA knows five types, covers one field of biology, and its train and test annotations are not quite "
    "consistent, which no model's score can rise above."
)
RECIPE_CITATION = """\
@software{jnlpba_ner,
  title = {jnlpba-ner: a fine-tuning recipe for biomedical named entity recognition},
  author = {{The jnlpba-ner maintainers}},
  version = {0.1.0},
}"""
SCIBERT_CITATION = """\
@inproceedings{beltagy-etal-2019-scibert,
  title = {{SciBERT}: A Pretrained Language Model for Scientific Text},
  author = {Beltagy, Iz and Lo, Kyle and Cohan, Arman},
  booktitle = {Proceedings of EMNLP-IJCNLP},
  year = {2019},
}"""


class CardError(ValueError):
    """A folder without the files that a card is made from."""


PICTURES = ("type_scores", "span_confusion")  # of figures/, where the run drew them


def write_model_card(folder: str | Path) -> None:
    """Write README.md of a finished run's folder.

    Raises:
        CardError: run.json is missing or is not what run_ner.py writes.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CardError(f"{folder}: found no model (config.json); expected the folder of a finished training")
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        scores = {
            role: strip_prefix(json.loads((folder / file).read_text(encoding="utf-8")), f"{prefix}_")
            for role, (prefix, file) in RESULTS.items()
            if (folder / file).is_file()
        }
        card = ModelCard.from_template(
            card_data(run, scores),
            template_path=str(TEMPLATE),
            pictures=[name for name in PICTURES if (folder / "figures" / f"{name}.png").is_file()],
            **card_text(run, scores),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise CardError(f"{folder}: no card can be made ({kind}: {error}); expected a finished run") from None
    write_text(folder / "README.md", str(card))


def strip_prefix(scores: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)}


def card_data(run: Mapping, scores: Mapping[str, Mapping]) -> ModelCardData:
    """The front matter, model-index included."""
    return ModelCardData(
        language="en",
        license=run["license"],
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "biomedical", "token-classification", run["corpus"]],
        base_model=run["base_model"],
        datasets=["jnlpba"] if run["corpus"] == "jnlpba" else None,
        metrics=["f1", "precision", "recall", "accuracy"],
        model_name=run["name"],
        widget=[{"text": text} for text in EXAMPLES],
        eval_results=[result for role, values in scores.items() for result in eval_results(run, role, values)]
        or None,
    )


def eval_results(run: Mapping, role: str, scores: Mapping[str, float]) -> list[EvalResult]:
    """model-index entries of one split: spans (micro, macro), words, and what the pipeline serves."""
    values = {
        f"{title} (span, {average})": (key, scores[f"span_{average}_{key}"])
        for average in ("micro", "macro")
        for key, title in SPAN_METRICS.items()
    }
    values["F1 (word, micro)"] = ("f1", scores["word_micro_f1"])
    if run["served"]:
        strategy = run["served"]["strategy"]
        for form in SERVED_FORMS:
            values[f"F1 (pipeline, {strategy}, {form})"] = ("f1", scores[f"served_{form}_{strategy}_f1"])
    split = run["splits"][role]
    arguments = {"sentences": sentences_used(split), "fingerprint": split["fingerprint"]}
    if run["protocol"]:
        arguments["protocol"] = run["protocol"]
    return [
        EvalResult(
            task_type="token-classification",
            task_name="Named entity recognition",
            dataset_type=run["corpus"],
            dataset_name=run["corpus"].upper() if run["corpus"] == "jnlpba" else run["corpus"],
            dataset_split=split["name"],
            dataset_args=arguments,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, (kind, value) in values.items()
    ]


def card_text(run: Mapping, scores: Mapping[str, Mapping]) -> dict:
    """What the template needs beside the front matter."""
    served = run["served"]
    kinds = entity_types(run["labels"])
    return {
        "name": markdown(run["name"]),
        "kinds": " and ".join(filter(None, (", ".join(map(plural, kinds[:-1])), plural(kinds[-1])))),
        "base": f"[{run['base_model']}](https://huggingface.co/{run['base_model']})"
        if run["base_model"]
        else code(run["model"]),
        "corpus": {"jnlpba": "JNLPBA", "sample": "the recipe's own sample sentences"}.get(
            run["corpus"], "a corpus of its owner's"
        ),
        "headline": [headline(run, role, values) for role, values in scores.items()],
        "protocol": run["protocol"],
        "repository": json.dumps(run["repository"] or run["output_dir"], ensure_ascii=False),
        "revision": json.dumps(run["revision"]) if run["repository"] and run["revision"] else None,
        "published": bool(run["repository"]),
        "strategy": served["strategy"] if served else "first",
        "stride": run["stride"],
        "max_length": run["max_seq_length"],
        "example": json.dumps(EXAMPLES[0]),
        "served": [served_table(run, role, values) for role, values in scores.items()] if served else [],
        "chosen_on": served["chosen_on"] if served else None,
        "scores": [
            score_table(run, role, level, values)
            for role, values in scores.items()
            for level in ("span", "word")
        ],
        "training": training_rows(run),
        "labels": ", ".join(code(label) for label in run["labels"]),
        "counts": [count_row(split) for split in run["splits"].values()],
        "corpus_note": CORPUS_NOTES[run["corpus"]],
        "limits": JNLPBA_LIMITS if run["corpus"] == "jnlpba" else "",
        "provenance": provenance(run),
        "citations": citations(run),
    }


def entity_types(labels: Sequence[str]) -> list[str]:
    return [label[2:] for label in labels if label.startswith("B-")]


def plural(kind: str) -> str:
    return KIND_NAMES.get(kind, kind)


def code(text: object) -> str:
    """Text of unknown origin as a Markdown code span, in which no markup works."""
    line = " ".join(str(text).split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown(text: object) -> str:
    """Text of unknown origin as running Markdown: what could be markup becomes a character reference."""
    line = html.escape(" ".join(str(text).split()))
    return re.sub(r"[\\`*\[\]{}<>#!|~]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"&#{ord(found[0])};", line)


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def headline(run: Mapping, role: str, scores: Mapping[str, float]) -> list[str]:
    keys = ("span_micro_f1", "span_micro_precision", "span_micro_recall", "span_macro_f1", "word_micro_f1")
    row = [run["splits"][role]["name"], f"{scores['entities']:,}", *(percent(scores[key]) for key in keys)]
    if run["served"]:
        strategy = run["served"]["strategy"]
        row += [percent(scores[f"served_{form}_{strategy}_f1"]) for form in SERVED_FORMS]
    return row


def served_table(run: Mapping, role: str, scores: Mapping[str, float]) -> dict:
    """The strategies of one split, by form of text, with their distance from the reported F1."""
    rows = []
    for form in SERVED_FORMS:
        for strategy in run["served"]["strategies"]:
            values = [scores[f"served_{form}_{strategy}_{key}"] for key in SPAN_METRICS]
            gap = 100 * (values[-1] - scores["span_micro_f1"])
            rows.append([form, code(strategy), *map(percent, values), f"{gap:+.2f}"])
    long = int(scores["served_abstracts_too_long"])
    note = (
        f"\n{long:,} of {int(scores['served_abstracts_texts']):,} abstracts are longer than "
        f"{run['max_seq_length']} subtokens; `none` can't be given a stride and loses their ends."
    )
    return {
        "title": f"{run['splits'][role]['name']}, reported F1 {percent(scores['span_micro_f1'])}:",
        "rows": rows,
        "note": note if long else "",
    }


def score_table(run: Mapping, role: str, level: str, scores: Mapping[str, float]) -> dict:
    """Precision, recall, F1 and support of each type (or label of a word), and the averages."""
    names = (
        entity_types(run["labels"]) if level == "span" else [name for name in run["labels"] if name != "O"]
    )
    rows = [
        [
            f"{name} average" if name in AVERAGES else code(name),
            *(percent(scores[f"{level}_{name}_{key}"]) for key in SPAN_METRICS),
            f"{int(scores[f'{level}_{name}_support']):,}",
        ]
        for name in (*names, *AVERAGES)
        if f"{level}_{name}_f1" in scores
    ]
    what = "entities" if level == "span" else "words"
    return {"title": f"{run['splits'][role]['name']}, {what}:", "rows": rows}


def training_rows(run: Mapping) -> list[list[str]]:
    rows = {**run["settings"], "precision": run["precision"], **run["training"]}
    return [[markdown(name), markdown(value)] for name, value in rows.items()]


def sentences_used(split: Mapping) -> str:
    """The number of sentences, and of how many if the run was told to take the first ones only."""
    used, total = split["sentences"], split.get("total", split["sentences"])
    return f"{used:,}" if used == total else f"{used:,} of {total:,}"


def count_row(split: Mapping) -> list[str]:
    documents, words, entities = (f"{split[key]:,}" for key in ("documents", "words", "entities"))
    counts = [documents, sentences_used(split), words, entities]
    return [split["name"], *counts, code(split["fingerprint"]), code(split["sha256"])]


def provenance(run: Mapping) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [
        ("command", code(run["command"])),
        ("commit of the recipe", code(run["commit"])),
        ("seed", str(run["seed"])),
        ("hardware", f"{markdown(run['device'])}, processes: {run['processes']}"),
        ("time", f"{run['seconds'] / 60:.1f} minutes, evaluation included"),
        ("versions", versions),
    ]


def citations(run: Mapping) -> str:
    wanted = {
        CITATION: run["corpus"] == "jnlpba",
        SCIBERT_CITATION: "scibert" in run["model"].lower(),
        RECIPE_CITATION: True,
    }
    return "\n".join(citation for citation, cited in wanted.items() if cited)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the model card of a finished run again.")
    parser.add_argument("folder", help="an output folder of run_ner.py")
    try:
        write_model_card(parser.parse_args(argv).folder)
    except CardError as error:
        print(f"model_card.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
