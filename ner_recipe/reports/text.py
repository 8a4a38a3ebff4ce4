"""The reports that a person reads as text: classification report, mistakes and the final screen.

write_split(output_dir, "test", result)
"""

from collections.abc import Mapping
from pathlib import Path

from metrics import AVERAGES
from ner_recipe.launch import visible
from ner_recipe.reports.error_analysis import render_kinds
from ner_recipe.reports.files import REPORTS, files_in, write_text
from ner_recipe.reports.intervals import in_words
from ner_recipe.reports.predictions import format_predictions
from ner_recipe.reports.result import FORMS, SplitResult

OTHER_READINGS = {
    "span_strict": "strict IOB2 (an entity starts with B-)",
    "left_boundary": "type and left boundary",
    "right_boundary": "type and right boundary",
    "untyped": "both boundaries, any type",
}


def write_split(output_dir: str | Path, role: str, result: SplitResult, strategy: str | None = None) -> None:
    """Write the report, predictions and mistakes of one split (`validation` or `test`).

    `strategy` is the aggregation strategy that the report recommends, if the split was served.
    """
    texts = {
        REPORTS[role]: render_report(role, result, strategy),
        f"predictions_{role}.tsv": format_predictions(result),
        f"mistakes_{role}.txt": render_mistakes(result),
    }
    if result.joint:
        texts[f"predictions_{role}_joint.tsv"] = format_predictions(result.joint)
    for name, text in texts.items():
        write_text(Path(output_dir) / name, text)


def render_report(role: str, result: SplitResult, strategy: str | None = None) -> str:
    """The whole report of one split as text."""
    parts = [render_scores(role, result), render_kinds(result)]
    return "\n".join([*parts, *([render_served(result, strategy)] if result.served else [])])


def render_scores(role: str, result: SplitResult) -> str:
    """Facts and scores of one split as text."""
    scores = result.scores
    facts = {
        "gold entities": f"{scores['entities']:,}",
        "gold words": f"{scores['words']:,}",
        **result.facts,
        "95 % interval": in_words(result.intervals),
    }
    width = max(map(len, facts))
    return "\n".join(
        [
            f"Classification report: {role}",
            "",
            *(f"{name:<{width}}  {value}" for name, value in facts.items()),
            "",
            "Entities (span level; type and both boundaries match; an I- without a B- starts an entity)",
            "",
            *table(scores["span"]),
            "",
            *(render_decodings(result) if result.joint else []),
            "Other readings of an entity (micro average)",
            "",
            *table({name: scores[key]["micro"] for key, name in OTHER_READINGS.items()}),
            "",
            "Words (one tag per word; averages without O)",
            "",
            *table(scores["word"]),
            "",
            f"accuracy over all {scores['words']:,} words, O included: {scores['accuracy']:.4f}",
            "",
        ]
    )


def render_decodings(result: SplitResult) -> list[str]:
    """The scores of both ways to decode the same probabilities, as lines."""
    joint = result.joint
    rows = {
        "first: each word alone, by its first subtoken": result.scores["span"]["micro"],
        "joint: the best sequence in which entities start with B-": joint.scores["span"]["micro"],
    }
    left_out = (
        [f"joint leaves out entities with a score below {joint.min_score:g} (min_score)"]
        if joint.min_score
        else []
    )
    return [
        "Decoding (micro average; the rest of this report is about first)",
        "",
        *table(rows),
        "",
        *left_out,
        f"95 % interval of joint: {in_words(joint.intervals)}",
        "",
    ]


def render_served(result: SplitResult, strategy: str | None) -> str:
    """The scores of `pipeline("ner")`, beside the reported F1 of the same split, as text."""
    served, reported = result.served, result.scores["span"]["micro"]["f1"]
    lines = [
        'Served by pipeline("ner") on plain text (micro average; type and both ends match to the character)',
        "The rows named joint are the recipe's Annotator (ner_recipe.serving), which decodes jointly",
        "",
        f"{'':<9}  strategy   precision  recall      f1  minus reported",
    ]
    for form in served_forms(served):
        for name, row in served[form]["scores"].items():
            numbers = f"{row['precision']:9.4f}  {row['recall']:.4f}  {row['f1']:.4f}"
            mark = "  recommended" if name == strategy else ""
            lines.append(f"{form:<9}  {name:<9}  {numbers}  {row['f1'] - reported:+14.4f}{mark}")
    lines += ["", f"stride={served['stride']}"]
    if "abstracts" in served:
        long, texts = served["abstracts"]["too_long"], served["abstracts"]["texts"]
        lines[-1] += (
            f"; {long:,} of {texts:,} abstracts are longer than {served['max_length']} subtokens. "
            "Strategy none takes no stride and loses their ends"
        )
    else:
        lines[-1] += "; documents are unknown, so only sentences were served"
    return "\n".join([*lines, ""])


def served_forms(served: Mapping) -> list[str]:
    """The forms of text that were served: sentences, and abstracts where documents are known."""
    return [form for form in FORMS if form in served]


def averages_last(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of rows of scores: types or labels first, averages last."""
    return [name for name in rows if name not in AVERAGES] + [name for name in AVERAGES if name in rows]


def table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """An aligned table of scores as lines, averages last."""
    order = averages_last(rows)
    names = {name: f"{name} average" if name in AVERAGES else visible(name) for name in order}
    width = max(map(len, names.values()))
    lines = [f"{'':<{width}}  precision  recall      f1  support"]
    for name in order:
        row = rows[name]
        numbers = f"{row['precision']:9.4f}  {row['recall']:.4f}  {row['f1']:.4f}  {row['support']:7,}"
        lines.append(f"{names[name]:<{width}}  {numbers}")
    return lines


def render_mistakes(result: SplitResult, limit: int | None = None) -> str:
    """Each sentence with an error (at most `limit`) as an aligned TOKEN / LABEL / PRED table."""
    sentences = list(zip(result.words, result.gold, result.predicted, strict=True))
    wrong = [
        (number, *columns) for number, columns in enumerate(sentences, start=1) if columns[1] != columns[2]
    ]
    shown = wrong if limit is None else wrong[:limit]
    lines = [f"{len(wrong):,} of {len(sentences):,} sentences have an error; {len(shown):,} shown", ""]
    for number, *columns in shown:
        words, gold, predicted = (list(map(visible, column)) for column in columns)
        widths = [max(map(len, column)) for column in (["TOKEN", *words], ["LABEL", *gold])]
        lines.append(f"sentence {number}")
        for word, label, guess in [("TOKEN", "LABEL", "PRED"), *zip(words, gold, predicted, strict=True)]:
            mark = "  <--" if label != guess and (label, guess) != ("LABEL", "PRED") else ""
            lines.append(f"{word:<{widths[0]}}  {label:<{widths[1]}}  {guess}{mark}")
        lines.append("")
    return "\n".join(lines) + "\n"


def render_summary(results: Mapping[str, SplitResult], output_dir: str) -> str:
    """The final screen: one line of scores per split, and the files of the output folder."""
    columns = "precision  recall      f1  joint f1  macro f1  strict f1  word f1  accuracy  gold entities"
    lines = ["", "Scores (span level, micro, unless said otherwise)", f"{'':<10}  {columns}"]
    for role, result in results.items():
        scores = result.scores
        micro = scores["span"]["micro"]
        numbers = (
            f"{micro['precision']:9.4f}  {micro['recall']:.4f}  {micro['f1']:.4f}  "
            f"{result.joint.scores['span']['micro']['f1']:8.4f}  "
            f"{scores['span']['macro']['f1']:8.4f}  {scores['span_strict']['micro']['f1']:9.4f}  "
            f"{scores['word']['micro']['f1']:7.4f}  {scores['accuracy']:8.4f}  {scores['entities']:13,}"
        )
        lines.append(f"{role:<10}  {numbers}")
    files = [f"  {name}" for name in sorted(files_in(output_dir))]
    return "\n".join([*lines, "", f"Written to {output_dir}", *files])
