"""Sweep the learning rate through the training pipeline and suggest one.

    accelerate launch lr_range_test.py configs/jnlpba_minilm.yaml [flags of run_ner.py]
    accelerate launch lr_range_test.py configs/quickstart.yaml --seeds 1 2 3 --weight_decay_grid 0 0.01 0.1

Prints a --learning_rate for each setting and writes a picture and the numbers. `--help` lists the flags;
those of the sweep come last. In Python: ner_recipe.tuning.range_test.lr_range_test(trainer).
"""

import sys
from collections.abc import Sequence

from ner_recipe.arguments import OF_A_RUN, Arguments, parse_flags
from ner_recipe.launch import run_command
from ner_recipe.reports.record import run_facts
from ner_recipe.tuning.range_test import (
    RangeTestArguments,
    by_setting,
    check_range_test,
    render_line,
    sweep_all,
    sweep_facts,
    train_only,
    write_results,
)

PROGRAM = "lr_range_test.py"


def parse(argv: Sequence[str]) -> tuple[Arguments, RangeTestArguments, Sequence[str]]:
    """The arguments of the training and of the sweep, checked, and the command line for the record."""
    *run, test = parse_flags(argv, (*OF_A_RUN, RangeTestArguments), PROGRAM)
    train_only(run[2])
    check_range_test(*run, test)
    return tuple(run), test, argv


def work(run: Arguments, test: RangeTestArguments, argv: Sequence[str]) -> None:
    """Sweep each setting, write the results and print the suggestions."""
    facts = run_facts(*run, argv, program=PROGRAM)
    settings = by_setting(sweep_all(*run, test))
    if run[2].process_index == 0:
        names = write_results(settings, facts | sweep_facts(*run), test)
        print(f"Written to {test.range_test_dir}: {', '.join(names)}")
        print(*map(render_line, settings), sep="\n")


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    return run_command(PROGRAM, argv, parse, work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
