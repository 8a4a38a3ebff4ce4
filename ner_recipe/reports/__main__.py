"""Look into prediction files: scores, intervals and kinds of error of one; the paired comparison of two.

python -m ner_recipe.reports OUTPUT_DIR/predictions_test.tsv
python -m ner_recipe.reports A/predictions_test.tsv B/predictions_test.tsv
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from ner_recipe.arguments import PlainParser
from ner_recipe.launch import UsageError, run_command
from ner_recipe.reports.comparison import compare
from ner_recipe.reports.error_analysis import kind_counts, nervaluate_counts
from ner_recipe.reports.intervals import RESAMPLES, in_words
from ner_recipe.reports.predictions import read_predictions
from ner_recipe.reports.text import render_report

PROGRAM = "python -m ner_recipe.reports"
FEWEST, MOST = 100, 100_000  # resamples: fewer give no percentiles, more don't improve them


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace]:
    parser = PlainParser(
        prog=PROGRAM,
        description="Scores, intervals and kinds of error of a prediction file, or the comparison of two.",
        allow_abbrev=False,
    )
    parser.add_argument("file", help="predictions_test.tsv or predictions_validation.tsv of an output folder")
    parser.add_argument("other", nargs="?", help="the same file of another run, to compare with")
    parser.add_argument("--json", action="store_true", help="print JSON with every score instead of a report")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the bootstrap")
    given = parser.parse_args(argv)
    if not FEWEST <= given.resamples <= MOST:
        raise UsageError(f"--resamples: found {given.resamples}; expected {FEWEST} to {MOST:,}")
    return (given,)


def work(given: argparse.Namespace) -> None:
    if given.other is None:
        result = read_predictions(given.file, given.resamples)
        details = {"errors": {"kinds": kind_counts(result), "nervaluate": nervaluate_counts(result)}}
        numbers = {**result.scores, "intervals": result.intervals, **details}
        text = render_report(given.file, result)
    else:
        results = [read_predictions(path, given.resamples) for path in (given.file, given.other)]
        try:
            numbers = compare(*results, resamples=given.resamples)
        except ValueError as error:
            raise UsageError(f"{given.file} and {given.other}: {error}") from None
        text = render_comparison(given, [result.intervals for result in results], numbers)
    print(json.dumps(numbers, indent=2) if given.json else text.rstrip("\n"))


def render_comparison(given: argparse.Namespace, intervals: Sequence[Mapping], numbers: Mapping) -> str:
    """Both files' micro F1, and the difference of each score as a table."""
    lines = ["F1 of A minus F1 of B", ""]
    for letter, path, its in zip("AB", (given.file, given.other), intervals, strict=True):
        lines += [f"{letter}  {path}", f"   {its['f1']['micro']['value']:.4f}, {in_words(its)}"]
    width = max(map(len, numbers["difference"]))
    lines += ["", f"{'':<{width}}  difference   95 % interval            p"]
    for name, row in numbers["difference"].items():
        interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
        lines.append(f"{name:<{width}}  {row['value']:+10.4f}   {interval}  {row['p']:8.4f}")
    lines += ["", f"{numbers['resamples']:,} bootstrap draws and {numbers['shuffles']:,} random exchanges of"]
    lines[-1] += f" {numbers['units']:,} {numbers['unit']}"
    if numbers["note"]:
        lines.append(f"Note: {numbers['note']}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return run_command(PROGRAM, argv, parse, work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
