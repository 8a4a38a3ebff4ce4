"""Recorded runs: one line of results.jsonl each, and README's tables made from those lines.

    python benchmarks/results.py add outputs/jnlpba_minilm     # append what run_ner.py left in a folder
    python benchmarks/results.py table                         # print the tables of full JNLPBA runs
    python benchmarks/results.py readme                        # put them between their markers in README.md

Reads files only; imports nothing of ours.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.jsonl"
MARKERS = {
    name: (f"<!-- {name}: made by benchmarks/results.py readme -->", f"<!-- end of {name} -->")
    for name in ("results", "served")
}
PLACES = ("--seed", "--output_dir", "--cache_dir", "--data_dir", "--disable_tqdm")
SCORES = {
    "F1": "test_span_micro_f1",
    "precision": "test_span_micro_precision",
    "recall": "test_span_micro_recall",
    "macro F1": "test_span_macro_f1",
    "word F1": "test_word_micro_f1",
    "devel F1": "eval_span_micro_f1",
}
STRATEGIES = ("none", "simple", "first", "average", "max")
FORMS = ("sentences", "abstracts")


def record(folder: Path) -> dict:
    """One row: run.json (commit, command, seed, versions, device, seconds) with all the run's scores."""
    row = json.loads((folder / "run.json").read_text())
    scores = json.loads((folder / "all_results.json").read_text())
    kept = {name: value for name, value in scores.items() if name.startswith(("eval_", "test_", "train_"))}
    return {**row, "scores": kept}


def full_runs(rows: Sequence[dict]) -> dict[tuple[str, str], list[dict]]:
    """Honest runs that scored the whole JNLPBA test set (8,662 entities), by commit and settings."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["scores"].get("test_entities") == 8662 and not row.get("protocol"):
            groups.setdefault((row["commit"], without_seed(row["command"])), []).append(row)
    return groups


def without_seed(command: str) -> str:
    """A command line less its seed, its places and its progress bar, in which runs of one setting differ."""
    words = command.split()
    skipped = {i + k for i, word in enumerate(words) if word in PLACES for k in (0, 1)}
    return " ".join(word for i, word in enumerate(words) if i not in skipped)


def table(rows: Sequence[dict]) -> str:
    """Mean and standard deviation over seeds of each setting, as Markdown."""
    lines = [
        f"| settings | commit | seeds | {' | '.join(SCORES)} | gold entities | minutes |",
        f"|---|---|---|{'---:|' * (len(SCORES) + 2)}",
    ]
    for (commit, command), runs in full_runs(rows).items():
        cells = [spread([100 * run["scores"][key] for run in runs]) for key in SCORES.values()]
        seeds = ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
        minutes = f"{statistics.median(run['seconds'] for run in runs) / 60:.0f}"
        lines.append(f"| `{command}` | {commit[:7]} | {seeds} | {' | '.join(cells)} | 8,662 | {minutes} |")
    return "\n".join(lines)


def served_table(rows: Sequence[dict]) -> str:
    """What `pipeline("ner")` answers on the test split: the last setting whose runs were checked so."""
    checked = [
        runs for runs in full_runs(rows).values() if "test_served_sentences_first_f1" in runs[0]["scores"]
    ]
    lines = [
        "| strategy | sentences | minus reported | abstracts | minus reported |",
        "|---|---:|---:|---:|---:|",
    ]
    for strategy in STRATEGIES if checked else ():
        cells = []
        for form in FORMS:
            pairs = [
                (run["scores"][f"test_served_{form}_{strategy}_f1"], run["scores"]["test_span_micro_f1"])
                for run in checked[-1]
            ]
            cells.append(spread([100 * served for served, _ in pairs]))
            cells.append(f"{statistics.mean(100 * (served - reported) for served, reported in pairs):+.2f}")
        lines.append(f"| `{strategy}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(rows: Sequence[dict]) -> dict[str, str]:
    return {"results": table(rows), "served": served_table(rows)}


def spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def in_readme(text: str, made: dict[str, str]) -> str:
    """README's text with each table between its markers replaced."""
    for name, (start, end) in MARKERS.items():
        before, rest = text.split(start)
        after = rest.split(end)[1]
        text = f"{before}{start}\n{made[name]}\n{end}{after}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Record runs and make README's tables of them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("add").add_argument("folder", type=Path, nargs="+")
    verbs.add_parser("table")
    verbs.add_parser("readme")
    arguments = parser.parse_args(argv)
    if arguments.verb == "add":
        try:
            rows = [record(folder) for folder in arguments.folder]
        except (OSError, ValueError) as error:
            print(
                f"results.py: error: {error}; expected the output folder of a finished run", file=sys.stderr
            )
            return 2
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return 0
    made = tables([json.loads(line) for line in RESULTS.read_text().splitlines()])
    if arguments.verb == "readme":
        readme = ROOT / "README.md"
        readme.write_text(in_readme(readme.read_text(), made))
    else:
        print(*made.values(), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
