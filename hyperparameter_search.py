"""Search for good settings: Trainer.hyperparameter_search with Optuna over the space that a YAML file names.

    accelerate launch hyperparameter_search.py configs/quickstart_search.yaml
    accelerate launch hyperparameter_search.py configs/jnlpba_minilm_search.yaml --data_dir DATA
    accelerate launch run_ner.py outputs/jnlpba_minilm_search/best.yaml      # trains the best setting

Each trial trains as run_ner.py would, and is scored on validation; a search never reads test. One database
keeps all trials. After a kill the same command continues the search. Started several times at once, on one
machine or on several with a common folder or database, the command shares the trials among its processes.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ner_recipe.arguments import OF_A_RUN, Arguments, given_flags, parse_flags
from ner_recipe.launch import run_command
from ner_recipe.training import build_trainer, prepare
from ner_recipe.tuning.search import (
    Search,
    SearchArguments,
    check_search,
    finish,
    open_study,
    quiet_optuna,
    run_trials,
    settings_of,
    train_and_validate,
    write_results,
)
from ner_recipe.tuning.search_space import Space

PROGRAM = "hyperparameter_search.py"


def parse(argv: Sequence[str]) -> tuple[Arguments, SearchArguments, Space, dict]:
    """The arguments of the training and of the search, checked; the space; the settings without defaults."""
    groups = (*OF_A_RUN, SearchArguments)
    *run, search = parse_flags(argv, groups, PROGRAM)
    given = given_flags(argv, groups, PROGRAM)
    train_and_validate(run[2])
    space = check_search(*run, search, given)
    return tuple(run), search, space, given


def work(run: Arguments, search: SearchArguments, space: Space, given: Mapping[str, object]) -> None:
    """Load, build the Trainer, run trials until the search has all of them, and show the best."""
    quiet_optuna()
    args, folder = run[2], Path(search.search_dir)
    model, tokenizer, splits = prepare(["train", "validation"], *run)
    study = open_study(search, args, settings_of(given, splits))
    with tempfile.TemporaryDirectory() as scratch:
        args.output_dir = scratch  # Trainer creates its output folder even if it writes nothing
        trainer, _ = build_trainer(model, tokenizer, splits, args, facts={})
        del model  # each trial loads its own
        task = Search(run, space, search.n_trials, trainer, splits)
        run_trials(study, task, report=lambda: write_results(study, given, folder))
    finish(study, folder, args.metric_for_best_model)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    return run_command(PROGRAM, argv, parse, work, "the same command continues the search")


if __name__ == "__main__":
    sys.exit(main())
