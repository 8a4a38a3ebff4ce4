"""The model card: README.md of an output folder, made from the files that the run left there.

    write_model_card("outputs/quickstart")

Every figure comes from run.json and the *_results.json beside it. The templates are model_card.md and
dataset_card.md.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from jnlpba_dataset import CITATION, split_counts
from metrics import AVERAGES
from ner_recipe.corpora.collection import COLLECTION, folder_of
from ner_recipe.corpora.splits import joined_facts
from ner_recipe.launch import UsageError
from ner_recipe.reports.files import CARD, write_text
from ner_recipe.reports.result import FORMS

TEMPLATES = Path(__file__).resolve().parent
RESULTS = {"test": ("test", "test_results.json"), "validation": ("eval", "eval_results.json")}
PICTURES = ("type_scores", "span_confusion")  # of figures/
SPAN_METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
EXAMPLES = (
    "Mouse thymus was used as a source of glucocorticoid receptor from normal CS lymphocytes.",
    "Interleukin-4 induces expression of the GATA-3 gene in human T cells, but not in the HL-60 cell line.",
    "Levels of c-fos mRNA rose within 30 minutes of stimulation with TNF-alpha (10 ng/ml).",
)
OTHER_EXAMPLES = (
    "Patients with breast cancer who carry a BRCA1 mutation were treated with cisplatin.",
    "Metformin improves the uptake of glucose in skeletal muscle of mice with type 2 diabetes.",
)
PLACEHOLDER = "Put a text of your own here."
CORPUS_TITLES = {
    "jnlpba": "JNLPBA",
    "sample": "the sample sentences of jnlpba-ner",
    "custom": "a private corpus",
}
CORPUS_NOTES = {
    "jnlpba": "JNLPBA (BioNLP shared task 2004, from the GENIA corpus): MEDLINE abstracts about "
    "transcription factors in human blood cells. The annotations are licensed under CC BY 3.0 (GENIA "
    "project), the distribution that the recipe reads under CC BY 4.0.",
    "sample": "The embedded sample of the recipe: invented sentences for trying it out. Scores on them say "
    "nothing about real text.",
    "custom": "A private corpus. None of its sentences are published.",
}
OWN_DATA_SET = (  # of a custom corpus that is itself published
    "A corpus in JNLPBA's format, with its five entity types. Its files are not those of JNLPBA itself."
)
UNPUBLISHED = ("sample", "custom")  # corpora that can't be found under their name
LICENSES = {"jnlpba": "cc-by-3.0", "sample": "apache-2.0"}  # of a private corpus its owner decides
JNLPBA_LIMITS = (
    "JNLPBA has five entity types and covers one field of biology. Its training and test annotations are not "
    "fully consistent, which limits the score of any model."
)
RECIPE_CITATION = """\
@software{jnlpba_ner,
  title = {jnlpba-ner: a fine-tuning recipe for biomedical named entity recognition},
  author = {{The jnlpba-ner maintainers}},
}"""
SCIBERT_CITATION = """\
@inproceedings{beltagy-etal-2019-scibert,
  title = {{SciBERT}: A Pretrained Language Model for Scientific Text},
  author = {Beltagy, Iz and Lo, Kyle and Cohan, Arman},
  booktitle = {Proceedings of EMNLP-IJCNLP},
  year = {2019},
}"""


class CardError(UsageError):
    """A folder without the files that a card is made from."""


def write_model_card(folder: str | Path) -> None:
    """Write README.md of a finished run's folder.

    Raises:
        CardError: the folder is not that of a finished run.
    """
    write_text(Path(folder) / CARD, model_card(folder))


def model_card(folder: str | Path, **named: str | None) -> str:
    """The text of the card, with these values (repository, revision) in place of those in run.json.

    Raises:
        CardError: the folder is not that of a finished run.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CardError(f"{folder}: found no config.json; expected the output folder of a finished training")
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8")) | named
        scores = {
            role: strip_prefix(json.loads((folder / file).read_text(encoding="utf-8")), f"{prefix}_")
            for role, (prefix, file) in RESULTS.items()
            if (folder / file).is_file()
        }
        card = ModelCard.from_template(
            card_data(run, scores),
            template_path=str(TEMPLATES / "model_card.md"),
            pictures=[name for name in PICTURES if (folder / "figures" / f"{name}.png").is_file()],
            **card_text(run, scores),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise CardError(
            f"{folder}: can't make a card ({kind}: {error}); expected the folder of a finished run"
        ) from None
    return str(card)


def strip_prefix(scores: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The scores whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)}


def card_data(run: Mapping, scores: Mapping[str, Mapping]) -> ModelCardData:
    """The front matter, model-index included."""
    texts = examples(run["corpus"])
    return ModelCardData(
        language="en" if texts else None,
        license=run["license"],
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=[
            "named-entity-recognition",
            *(["biomedical"] if texts else []),
            "token-classification",
            run["corpus"],
        ],
        base_model=run["base_model"],
        datasets=[run["corpus"]] if run["corpus"] not in UNPUBLISHED else None,
        metrics=["f1", "precision", "recall", "accuracy"],
        model_name=run["name"],
        widget=[{"text": text} for text in texts] or None,
        eval_results=[result for role, values in scores.items() for result in eval_results(run, role, values)]
        or None,
    )


def eval_results(run: Mapping, role: str, scores: Mapping[str, float]) -> list[EvalResult]:
    """model-index entries of one split: entities (micro, macro), words, and `pipeline("ner")`."""
    values = {
        f"{title} (span, {average})": (key, scores[f"span_{average}_{key}"])
        for average in ("micro", "macro")
        for key, title in SPAN_METRICS.items()
    }
    values["F1 (span, micro, joint decoding)"] = ("f1", scores["joint_span_micro_f1"])
    values["F1 (word, micro)"] = ("f1", scores["word_micro_f1"])
    strategy = run["pipeline"]["aggregation_strategy"]
    for form in forms_in(scores):
        values[f"F1 (pipeline, {strategy}, {form})"] = ("f1", scores[f"served_{form}_{strategy}_f1"])
        values[f"F1 (Annotator, joint decoding, {form})"] = ("f1", scores[f"served_{form}_joint_f1"])
    split = run["splits"][role]
    arguments = {"sentences": sentences_used(split), "fingerprint": split["fingerprint"]}
    if run["protocol"]:
        arguments["protocol"] = run["protocol"]
    return [
        EvalResult(
            task_type="token-classification",
            task_name="Named entity recognition",
            dataset_type=run["corpus"],
            dataset_name=run["corpus"],
            dataset_split=split["name"],
            dataset_args=arguments,
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, (kind, value) in values.items()
    ]


def forms_in(scores: Mapping[str, float]) -> list[str]:
    """The forms of text that the served check scored."""
    return [form for form in FORMS if f"served_{form}_texts" in scores]


def card_text(run: Mapping, scores: Mapping[str, Mapping]) -> dict:
    """What the template needs beside the front matter."""
    pipeline = run["pipeline"]
    kinds = entity_types(run["labels"])
    texts = examples(run["corpus"])
    served = [role for role, values in scores.items() if forms_in(values)]
    forms = [form for form in FORMS if any(form in forms_in(values) for values in scores.values())]
    return {
        "name": markdown(run["name"]),
        "kinds": ", ".join(map(code, kinds)),
        "base": f"[{run['base_model']}](https://huggingface.co/{run['base_model']})"
        if run["base_model"]
        else code(run["model"]),
        "corpus": corpus_title(run["corpus"]),
        "headline": [headline(run, role, values, forms) for role, values in scores.items()],
        "forms": forms,
        "protocol": run["protocol"],
        "repository": json.dumps(run["repository"] or run["output_dir"], ensure_ascii=False),
        "revision": json.dumps(run["revision"]) if run["repository"] and run["revision"] else None,
        "published": bool(run["repository"]),
        "min_score": next(
            (f"{values['joint_min_score']:g}" for values in scores.values() if values.get("joint_min_score")),
            None,
        ),
        "strategy": pipeline["aggregation_strategy"],
        "stride": pipeline["stride"],
        "max_length": pipeline["max_length"],
        "is_biomedical": bool(texts),
        "example": json.dumps(texts[0] if texts else PLACEHOLDER),
        "served": [served_table(run, role, scores[role]) for role in served],
        "chosen_on": pipeline["chosen_on"],
        "scores": [
            score_table(run, role, level, values)
            for role, values in scores.items()
            for level in ("span", "word")
        ],
        "training": training_rows(run),
        "labels": ", ".join(code(label) for label in run["labels"]),
        "counts": [row for split in run["splits"].values() for row in count_rows(split)],
        "corpus_note": corpus_note(run),
        "limits": JNLPBA_LIMITS if run["corpus"] == "jnlpba" else "",
        "provenance": provenance(run),
        "citations": citations(run),
    }


def entity_types(labels: Sequence[str]) -> list[str]:
    return [label[2:] for label in labels if label.startswith("B-")]


def examples(corpus: str) -> Sequence[str]:
    """Texts to try the model on. No corpus contains them; of unknown corpora the language is unknown."""
    if corpus in ("jnlpba", "sample"):
        return EXAMPLES
    return OTHER_EXAMPLES if folder_of(corpus) else ()


def corpus_title(corpus: str) -> str:
    """What the card calls a corpus."""
    if "/" in corpus:
        return f"[{corpus}](https://huggingface.co/datasets/{corpus})"
    return CORPUS_TITLES.get(corpus, corpus)


def corpus_note(run: Mapping) -> str:
    """Where the corpus comes from, its licence if given, and how its tags were read."""
    corpus = run["corpus"]
    collected = f"{corpus} {COLLECTION['note']}." if folder_of(corpus) else ""
    facts = joined_facts({split["name"]: split["facts"] for split in run["splits"].values()})
    license = run["corpus_license"]
    parts = [
        CORPUS_NOTES.get(corpus, collected),
        f"The corpus is licensed under {markdown(license)}." if license else "",
        *(f"{markdown(name).capitalize()}: {markdown(value)}." for name, value in facts.items()),
    ]
    return " ".join(filter(None, parts))


def code(text: object) -> str:
    """Text of unknown origin as a Markdown code span, where markup has no effect."""
    line = " ".join(str(text).split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown(text: object) -> str:
    """Text of unknown origin as plain Markdown: characters of markup become character references."""
    line = html.escape(" ".join(str(text).split()))
    return re.sub(r"[\\`*\[\]{}<>#!|~]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"&#{ord(found[0])};", line)


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def headline(run: Mapping, role: str, scores: Mapping[str, float], forms: Sequence[str]) -> list[str]:
    """The row of one split in the first table."""
    keys = (
        *("span_micro_f1", "span_micro_precision", "span_micro_recall"),
        *("joint_span_micro_f1", "span_macro_f1", "word_micro_f1"),
    )
    row = [run["splits"][role]["name"], f"{scores['entities']:,}", *(percent(scores[key]) for key in keys)]
    strategy = run["pipeline"]["aggregation_strategy"]
    served = [scores.get(f"served_{form}_{strategy}_f1") for form in forms]
    return row + ["–" if f1 is None else percent(f1) for f1 in served]


def served_table(run: Mapping, role: str, scores: Mapping[str, float]) -> dict:
    """The strategies of one split by form of text, with their difference from the reported F1."""
    rows = []
    for form in forms_in(scores):
        start, end = f"served_{form}_", "_f1"
        strategies = [
            name[len(start) : -len(end)] for name in scores if name.startswith(start) and name.endswith(end)
        ]
        for strategy in strategies:
            values = [scores[f"{start}{strategy}_{key}"] for key in SPAN_METRICS]
            gap = 100 * (values[-1] - scores["span_micro_f1"])
            rows.append([form, code(strategy), *map(percent, values), f"{gap:+.2f}"])
    long = int(scores.get("served_abstracts_too_long", 0))
    note = (
        f"\n{long:,} of {int(scores['served_abstracts_texts']):,} abstracts are longer than "
        f"{run['pipeline']['max_length']} subtokens. `none` takes no stride and loses their ends."
        if long
        else ""
    )
    title = f"{run['splits'][role]['name']}, reported F1 {percent(scores['span_micro_f1'])}:"
    return {"title": title, "rows": rows, "note": note}


def score_table(run: Mapping, role: str, level: str, scores: Mapping[str, float]) -> dict:
    """Precision, recall, F1 and support of each type (or label), and the averages."""
    names = (
        entity_types(run["labels"]) if level == "span" else [name for name in run["labels"] if name != "O"]
    )
    rows = [
        [
            f"{name} average" if name in AVERAGES else code(name).replace("|", "\\|"),
            *(percent(scores[f"{level}_{name}_{key}"]) for key in SPAN_METRICS),
            f"{int(scores[f'{level}_{name}_support']):,}",
        ]
        for name in (*names, *AVERAGES)
        if f"{level}_{name}_f1" in scores
    ]
    what = "entities" if level == "span" else "words"
    return {"title": f"{run['splits'][role]['name']}, {what}:", "rows": rows}


def training_rows(run: Mapping) -> list[list[str]]:
    """Settings, precision, best epoch and losses."""
    rows = {**run["settings"], "precision": run["precision"], **run["training"]}
    return [[markdown(name), markdown(value)] for name, value in rows.items()]


def sentences_used(split: Mapping) -> str:
    """The number of sentences, and the total if the run used only the first ones."""
    used, total = split["sentences"], split.get("total", split["sentences"])
    return f"{used:,}" if used == total else f"{used:,} of {total:,}"


def count_rows(split: Mapping) -> list[list[str]]:
    """The row of one split, and that of the text beside it that a model tagged."""
    rows = [count_row(split)]
    if silver := split.get("silver"):
        rows.append(count_row({"name": f"{split['name']}, tagged by a model", **silver}))
    return rows


def count_row(split: Mapping) -> list[str]:
    """Name, counts and checksums of one split."""
    words, entities = (f"{split[key]:,}" for key in ("words", "entities"))
    documents = "unknown" if split["documents"] is None else f"{split['documents']:,}"
    counts = [documents, sentences_used(split), words, entities]
    sha256 = code(split["sha256"]) if "sha256" in split else ""  # that of tagged text stands with its files
    return [split["name"], *counts, code(split["fingerprint"]), sha256]


def provenance(run: Mapping) -> list[tuple[str, str]]:
    """The command, commit, seed, hardware, time and versions of the run."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    silver = run["splits"].get("train", {}).get("silver")
    return [
        ("command", code(run["command"])),
        ("commit of the recipe", code(run["commit"]) if run["commit"] else "not recorded"),
        *([("learnt from", markdown(run["teachers"]))] if run.get("teachers") else []),
        *([("tagged by a model", markdown(silver["files"]))] if silver else []),
        ("seed", str(run["seed"])),
        ("hardware", f"{markdown(run['device'])}; processes: {run['processes']}"),
        ("time", f"{run['seconds'] / 60:.1f} minutes, evaluation included"),
        ("versions", versions),
    ]


def citations(run: Mapping) -> str:
    """BibTeX entries of the corpus, the encoder (if SciBERT) and the recipe."""
    wanted = {
        CITATION: run["corpus"] == "jnlpba",
        SCIBERT_CITATION: "scibert" in run["model"].lower(),
        RECIPE_CITATION: True,
    }
    return "\n".join(citation for citation, cited in wanted.items() if cited)


def dataset_card(
    pushed: str, repo_id: str, kind: str, corpus: datasets.DatasetDict, sha256: Mapping[str, str]
) -> str:
    """The card of a corpus on the Hub.

    Args:
        pushed: the path of the card that `push_to_hub` wrote. Its front matter (features, files) is kept.
        kind: jnlpba, sample or custom.
    """
    title = {"jnlpba": "JNLPBA", "sample": "Sample sentences of jnlpba-ner"}.get(kind, repo_id)
    is_own = kind == "custom"
    data = DatasetCardData(
        **{
            **DatasetCard.load(pushed).data.to_dict(),
            "language": None if is_own else "en",
            "license": LICENSES.get(kind),
            "task_categories": ["token-classification"],
            "task_ids": ["named-entity-recognition"],
            "pretty_name": title,
            "tags": None if is_own else ["biomedical"],
        }
    )
    labels = corpus["train"].features["ner_tags"].feature.names
    counts = [
        count_row({"name": split, "sha256": sha256[split], **split_counts(sentences)})
        for split, sentences in corpus.items()
    ]
    return str(
        DatasetCard.from_template(
            data,
            template_path=str(TEMPLATES / "dataset_card.md"),
            title=title,
            description=OWN_DATA_SET if is_own else CORPUS_NOTES[kind],
            repository=repo_id,
            counts=counts,
            labels=", ".join(code(label) for label in labels),
            citation=CITATION if kind == "jnlpba" else None,
        )
    )
