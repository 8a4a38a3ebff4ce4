"""Record finished runs in results.jsonl, and write their tables into README.md and docs/evaluation.md.

    python benchmarks/results.py add outputs/jnlpba_minilm     # append the run of an output folder
    python benchmarks/results.py readme                        # write the tables between their markers

Each line of results.jsonl is one run: provenance and headline scores. The command is recorded without seed
and paths, so that runs of one setting have the same.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGES = {"README.md": ("results",), "docs/evaluation.md": ("history", "served")}  # the tables of each page
LEFT_OUT = re.compile(r" --(seed|output_dir|cache_dir|data_dir|disable_tqdm)[ =]\S+")
PROVENANCE = ("commit", "seed", "device", "processes", "precision", "seconds", "protocol")
SCORES = {  # name in a row -> name in all_results.json
    "test_f1": "test_span_micro_f1",
    "test_precision": "test_span_micro_precision",
    "test_recall": "test_span_micro_recall",
    "test_macro_f1": "test_span_macro_f1",
    "test_word_f1": "test_word_micro_f1",
    "test_joint_f1": "test_joint_span_micro_f1",
    "eval_f1": "eval_span_micro_f1",
    "eval_joint_f1": "eval_joint_span_micro_f1",
    "test_entities": "test_entities",
}
COLUMNS = {"F1": "test_f1", "joint F1": "test_joint_f1"}
MORE_COLUMNS = {
    "precision": "test_precision",
    "recall": "test_recall",
    "macro F1": "test_macro_f1",
    "word F1": "test_word_f1",
}
FORMS = ("sentences", "abstracts")
STRATEGIES = ("none", "simple", "first", "average", "max", "joint")  # the last is the Annotator
TEXT_COLUMNS = ("settings", "commit", "seeds", "text", "device")


def record(folder: Path) -> dict:
    """The row of a finished run, from its run.json and all_results.json."""
    run, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "all_results.json"))
    row = {name: run[name] for name in PROVENANCE if run[name] is not None}
    row["command"] = LEFT_OUT.sub("", run["command"])
    row["versions"] = {name: run["versions"][name] for name in ("python", "torch", "transformers")}
    row["scores"] = {name: round(scores[key], 6) for name, key in SCORES.items() if key in scores}
    row["served"] = {}
    for form, strategy in itertools.product(FORMS, STRATEGIES):
        if (name := f"test_served_{form}_{strategy}_f1") in scores:
            row["served"].setdefault(form, {})[strategy] = round(scores[name], 6)
    row["strategy"] = run["pipeline"]["aggregation_strategy"]
    return row


def refusal(row: Mapping, earlier: Sequence[Mapping]) -> str | None:
    """Why a row can't stand in the tables beside the earlier ones; None if it can."""
    if not {"test_f1", "test_entities"} <= row["scores"].keys():
        return "found no test scores; expected a run with --do_predict"
    if row in earlier:
        return "found a run that is recorded already; expected each run once"
    return None


def grouped(rows: Iterable[dict]) -> list[list[dict]]:
    """The runs that differ only in their seed, side by side."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row.get("commit"), row["command"], row["scores"]["test_entities"]), []).append(row)
    return list(groups.values())


def results_table(rows: Sequence[dict]) -> str:
    """The latest commit of each setting. Runs with an unusual protocol are only in the history."""
    latest = {runs[0]["command"]: runs for runs in grouped(row for row in rows if "protocol" not in row)}
    lines = [
        {
            **provenance(runs),
            **scores_of(runs, COLUMNS),
            "served F1 (sentences / abstracts)": served_cell(runs),
        }
        | size_and_time(runs)
        for runs in latest.values()
    ]
    return markdown(lines)


def history_table(rows: Sequence[dict]) -> str:
    """Every setting at every commit."""
    lines = [
        {**provenance(runs), **scores_of(runs, COLUMNS | MORE_COLUMNS), **size_and_time(runs)}
        | {"device": "; ".join(sorted({run["device"] for run in runs}))}
        for runs in grouped(rows)
    ]
    return markdown(lines)


def served_table(rows: Sequence[dict]) -> str:
    """The F1 that each aggregation strategy serves; the recommended one is bold."""
    lines = []
    for runs in grouped(row for row in rows if row["served"]):
        for form, strategies in runs[0]["served"].items():
            cells = {f"`{name}`": "" for name in STRATEGIES}
            cells |= {f"`{name}`": spread(run["served"][form][name] for run in runs) for name in strategies}
            for chosen in {f"`{run['strategy']}`" for run in runs}:
                cells[chosen] = f"**{cells[chosen]}**"
            reported = {"reported F1": spread(run["scores"]["test_f1"] for run in runs)}
            lines.append({**provenance(runs), **reported, "text": form, **cells})
    return markdown(lines)


def provenance(runs: Sequence[dict]) -> dict[str, str]:
    commit, *changes = runs[0].get("commit", "unknown").split(" ", 1)
    note = f" ({runs[0]['protocol']})" if "protocol" in runs[0] else ""
    return {
        "settings": f"`{runs[0]['command']}`{note}",
        "commit": " ".join([commit[:7], *changes]),
        "seeds": ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs)),
    }


def scores_of(runs: Sequence[dict], columns: Mapping[str, str]) -> dict[str, str]:
    """A cell for each column; empty where the runs have no such score."""
    columns = {**columns, "validation F1": "eval_f1"}
    return {name: spread(run["scores"].get(key) for run in runs) for name, key in columns.items()}


def served_cell(runs: Sequence[dict]) -> str:
    """The strategy that each run recommends and the F1 that it serves; empty if the runs were not checked."""
    names = ", ".join(sorted({f"`{run['strategy']}`" for run in runs}))
    cells = [spread(run["served"][form][run["strategy"]] for run in runs) for form in runs[0]["served"]]
    return f"{names}: {' / '.join(cells)}" if cells else ""


def size_and_time(runs: Sequence[dict]) -> dict[str, str]:
    minutes = [f"{find(run['seconds'] for run in runs) / 60:.0f}" for find in (min, max)]
    return {
        "gold entities": f"{runs[0]['scores']['test_entities']:,}",
        "minutes": " to ".join(dict.fromkeys(minutes)),
    }


def spread(values: Iterable[float | None]) -> str:
    """Scores in percent: mean ± standard deviation, or the only value; empty if one is missing."""
    values = list(values)
    if None in values:
        return ""
    percent = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
    return f"{statistics.mean(percent):.2f}{deviation}"


def markdown(lines: Sequence[Mapping[str, str]]) -> str:
    """A table with one row per mapping; columns of numbers are aligned to the right."""
    names = list(lines[0])
    rule = ["---" if name in TEXT_COLUMNS else "---:" for name in names]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rule, *(row.values() for row in lines)))


def pages(rows: Sequence[dict]) -> dict[str, str]:
    """The text of each page with its tables replaced, by path."""
    tables = {"results": results_table(rows), "history": history_table(rows), "served": served_table(rows)}
    texts = {path: (ROOT / path).read_text() for path in PAGES}
    for path, names in PAGES.items():
        for name in names:
            start, end = f"<!-- {name}: made by benchmarks/results.py readme -->", f"<!-- end of {name} -->"
            before, rest = texts[path].split(start)
            texts[path] = f"{before}{start}\n{tables[name]}\n{end}{rest.split(end)[1]}"
    return texts


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Record runs and write their tables into the documentation.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", help="append the runs of output folders to results.jsonl")
    add.add_argument("folder", type=Path, nargs="+")
    verbs.add_parser("readme", help="write the tables into README.md and docs/evaluation.md")
    given = parser.parse_args(argv)
    known = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    if given.verb == "readme":
        for path, text in pages(known).items():
            (ROOT / path).write_text(text)
        return 0
    try:
        rows = [record(folder) for folder in given.folder]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"results.py: error: {error!r}; expected output folders of finished runs", file=sys.stderr)
        return 2
    for number, row in enumerate(rows):
        if found := refusal(row, [*known, *rows[:number]]):
            print(f"results.py: error: {given.folder[number]}: {found}", file=sys.stderr)
            return 2
    with RESULTS.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
