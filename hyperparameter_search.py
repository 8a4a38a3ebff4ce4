"""Which settings? Trainer.hyperparameter_search by Optuna over the space that a configuration names.

    accelerate launch hyperparameter_search.py configs/search_minilm.yaml --data_dir ../shared/data/jnlpba
    accelerate launch run_ner.py outputs/search_minilm_search/best.yaml      # what it found, as it stands

Every trial is the training that run_ner.py would do, scored on devel; test is never looked at. All trials are
kept in one database: the same command goes on after a kill; started several times at once, on one machine or
on several that share the folder, it divides the trials among them. Imports run_ner.
"""

import copy
import dataclasses
import datetime
import fnmatch
import functools
import json
import logging
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import filelock
import matplotlib.pyplot as plt
import optuna
import sqlalchemy
import yaml
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from arguments import (
    OF_A_RUN,
    Arguments,
    RecipeArguments,
    UsageError,
    beside,
    given_flags,
    number_problems,
    parse_flags,
    place_problems,
    refuse,
    setting_problems,
)
from encoder import load_model
from jnlpba_dataset import fingerprint
from record import current_commit, unusual_protocol
from report import ReportCallback, write_text
from run_ner import Split, build_trainer, encode_split, exit_code, label_names, prepare, token_loss
from search_space import Space, end_problems, holder, read_space, suggested

PROGRAM = "hyperparameter_search.py"
# In which two commands of one search may differ: places, and what is only shown.
MAY_DIFFER = (
    *("n_trials", "search_dir", "storage", "output_dir", "cache_dir", "data_dir", "*_num_workers"),
    *("do_*", "hub_*", "logging_*", "log_level", "disable_tqdm", "push_to_hub", "report_to", "run_name"),
)
# A trial whose process has not been heard of for the second is taken to be dead, and is run again.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 90
RETRIES = 3  # of a trial whose process dies each time


@dataclasses.dataclass
class SearchArguments:
    """The space, and how much of it to try."""

    search_space: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Setting -> a list of values, or {low, high} with log: true or step (a mapping in the "
            "YAML file, JSON on the command line)."
        },
    )
    n_trials: int = dataclasses.field(
        default=20, metadata={"help": "Trials of the whole search, all its processes and restarts together."}
    )
    search_dir: str | None = dataclasses.field(
        default=None,
        metadata={"help": "Where trials and results are kept (--output_dir with _search after it)."},
    )
    storage: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "A database URL as SQLAlchemy has it, for machines that share no folder (SQLite in "
            "--search_dir, whose name tells the searches of one database apart)."
        },
    )


class Search:
    """What a trial does to a Trainer: Optuna's values become arguments, data and a fresh model."""

    def __init__(self, arguments: Arguments, space: Space, trainer: Trainer, splits: dict[str, Split]):
        self.model_args, self.data_args, self.args = arguments
        self.space, self.trainer, self.splits = space, trainer, splits
        self.tokenizer = trainer.processing_class
        self.objectives: list[float] = []

    def model_init(self, trial: optuna.Trial) -> PreTrainedModel:
        """Ask for the trial's values, set all that Trainer does not, and load the encoder anew."""
        # Two processes that begin at once must not draw the same values; one alone draws the same each time.
        trial.study.sampler = sampler(self.args.seed + trial.number)
        values = {name: suggested(trial, name, choices) for name, choices in self.space.items()}
        self.objectives = []
        model_args, data_args = copy.copy(self.model_args), copy.copy(self.data_args)
        for name, value in values.items():
            setattr(holder(name, (model_args, data_args, self.trainer.args)), name, value)
        for role, split in self.splits.items():
            encode_split(split, role, data_args, self.tokenizer)
        self.trainer.train_dataset = self.splits["train"].windows
        self.trainer.eval_dataset = self.splits["validation"].windows
        smoothing = self.trainer.args.label_smoothing_factor
        self.trainer.compute_loss_func = functools.partial(token_loss, label_smoothing=smoothing)
        return load_model(model_args, label_names(self.splits["train"].sentences), fine_tune=True)

    def space_of(self, trial: optuna.Trial) -> dict:
        """Nothing is left for Trainer to set: it would cast a warm-up of 0.1 to the default's type, 0."""
        set_seed(self.args.seed)  # as Trainer does once run_ner.py has loaded its model
        return {}

    def objective(self, metrics: Mapping[str, float]) -> float:
        """The selecting score of the trial's best evaluation so far: that of the model run_ner.py keeps."""
        score = metrics["eval_" + self.args.metric_for_best_model.removeprefix("eval_")]
        if not math.isfinite(score):
            raise optuna.TrialPruned(f"the score is {score}")
        self.objectives.append(score)
        return max(self.objectives) if self.args.greater_is_better else min(self.objectives)


def sampler(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)


def parse(argv: Sequence[str]) -> tuple[Arguments, SearchArguments, Space]:
    """What the program is told, checked: each end of the space by the checks that run_ner.py makes."""
    *run, search = parse_flags(argv, (*OF_A_RUN, SearchArguments), PROGRAM)
    model_args, data_args, args = run
    search.search_dir = search.search_dir or beside(args.output_dir, "search")
    problems = setting_problems(*run) + number_problems([search], {"n_trials": (1, math.inf)})
    if unusual_protocol(data_args):
        problems.append(
            "--eval_split_name: expected a split that is not trained on and is not test; a search is by devel"
        )
    problems += place_problems("search_dir", search.search_dir, args.output_dir)
    problems += storage_problems(search.storage)
    if args.world_size > 1:
        problems.append(
            f"found {args.world_size} processes of one training; expected one. Several searches at once: "
            "start this command several times, each with a device of its own"
        )
    space, wrong = read_space(search.search_space)
    if len(space.get("label_all_tokens", ())) > 1 and args.metric_for_best_model.endswith("loss"):
        wrong.append(
            "search_space.label_all_tokens: losses over other subtokens can't be compared; expected one "
            "value, or another --metric_for_best_model"
        )
    if args.max_steps > 0 and "num_train_epochs" in space:
        wrong.append("search_space.num_train_epochs: --max_steps is given, which wins; expected one of them")
    refuse(problems + wrong)
    refuse([problem for name in space for problem in end_problems(name, space[name], run)])
    args.do_train, args.do_eval, args.do_predict, args.push_to_hub = True, False, False, False
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    args.resume_from_checkpoint, args.report_to = None, []
    if args.eval_strategy == IntervalStrategy.NO:
        args.eval_strategy = IntervalStrategy.EPOCH
    return tuple(run), search, space


def storage_problems(url: str | None) -> list[str]:
    if url is None:
        return []
    try:
        sqlalchemy.engine.make_url(url).get_dialect()
    except (SQLAlchemyError, ImportError) as error:
        return [
            f"--storage: {' '.join(str(error).split())}; expected a URL such as "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME whose driver is installed, or no flag for SQLite"
        ]
    return []


def open_study(search: SearchArguments, args: RecipeArguments, settings: dict) -> optuna.Study:
    """The search's study, begun or taken up.

    Raises:
        UsageError: it was begun with other settings, or the database can't be had.
    """
    folder = Path(search.search_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        try:
            study = optuna.create_study(load_if_exists=True, **study_options(search, args))
        except (ImportError, SQLAlchemyError) as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
            place = "--storage" if search.storage else f"--search_dir: {folder / 'trials.db'}"
            raise UsageError(
                f"{place}: {reason}; expected a database that Optuna can read and write, or none there yet"
            ) from None
        begun = study.user_attrs.get("settings")
        if begun is None:
            study.set_user_attr("settings", settings)
        elif begun != settings:
            name = next(name for name in sorted({*begun, *settings}) if begun.get(name) != settings.get(name))
            raise UsageError(
                f"--search_dir: {folder} holds a search with {name} {begun.get(name)!r}, found "
                f"{settings.get(name)!r}; expected the settings it began with, or another --search_dir"
            )
    return study


def study_options(search: SearchArguments, args: RecipeArguments) -> dict:
    """Database, direction and pruner, as optuna.create_study takes them."""
    url = search.storage or f"sqlite:///{Path(search.search_dir).absolute() / 'trials.db'}"
    return {
        "study_name": Path(search.search_dir).resolve().name,
        "storage": optuna.storages.RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {},
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(RETRIES),
        ),
        "direction": "maximize" if args.greater_is_better else "minimize",
        # Worse than the median of the others after as much of training; not before an epoch's end.
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=99),
    }


def lock(folder: Path) -> filelock.FileLock:
    """One process at a time makes the database's tables or writes results."""
    return filelock.FileLock(folder / "lock")


def settings_of(given: Mapping[str, object], splits: Mapping[str, Split]) -> dict:
    """What makes a search the same search: the settings given, and the corpus by its content."""
    settings = {
        name: value
        for name, value in given.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in MAY_DIFFER)
    }
    return settings | {f"{role} corpus": fingerprint(split.sentences) for role, split in splits.items()}


def search_on(study: optuna.Study, trainer: Trainer, task: Search, search: SearchArguments, report) -> None:
    """Run trials until the search has as many as it is to have, those of other processes counted."""
    waited = False
    while True:
        optuna.storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING and not is_stillborn(trial)]
        if len(running) + len(finished(trials)) < search.n_trials:
            run_trial(study, trainer, task)
            report(study)
            continue
        if not running:
            return
        if not waited:
            print(f"Waiting for {len(running)} trials of other processes; a dead one is run again here")
        waited = True
        time.sleep(min(5, GRACE_SECONDS))


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def is_stillborn(trial: FrozenTrial) -> bool:
    """Whether its process died before the first heartbeat, which Optuna does not take for dead."""
    age = datetime.datetime.now() - trial.datetime_start
    return not trial.params and age.total_seconds() > GRACE_SECONDS


def run_trial(study: optuna.Study, trainer: Trainer, task: Search) -> None:
    """One trial by Trainer's own search; a pruned one is as good as another."""
    trainer.model_init = task.model_init
    try:
        trainer.hyperparameter_search(
            hp_space=task.space_of,
            compute_objective=task.objective,
            n_trials=1,
            direction=study.direction.name.lower(),
            backend="optuna",
            storage=study._storage,
            study_name=study.study_name,
            pruner=study.pruner,
            load_if_exists=True,
        )
    except ValueError:  # Trainer asks for the best trial, which there is not while all were pruned
        if any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            raise


def write_results(study: optuna.Study, given: Mapping[str, object], folder: Path) -> None:
    """best.yaml and trials.json, after each trial."""
    with lock(folder):
        trials = study.get_trials(deepcopy=False)
        rows = [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "params": trial.params,
                "by_epoch": {step / 100: value for step, value in trial.intermediate_values.items()},
                "seconds": trial.duration and round(trial.duration.total_seconds(), 1),
            }
            for trial in trials
        ]
        write_text(folder / "trials.json", json.dumps(rows, indent=1) + "\n")
        if any(trial.state == TrialState.COMPLETE for trial in trials):
            write_text(folder / "best.yaml", best_config(study, given, folder))


def best_config(study: optuna.Study, given: Mapping[str, object], folder: Path) -> str:
    """The search's own settings with the best trial's in their place, for run_ner.py."""
    own = {field.name for field in dataclasses.fields(SearchArguments)}
    settings = {"do_train": True, "do_eval": True} | {
        name: value for name, value in given.items() if name not in own and name != "hub_token"
    }
    best, trials = study.best_trial, study.get_trials(deepcopy=False)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    head = (
        f"# Trial {best.number}, the best of {len(finished(trials))} ({pruned} of them pruned): devel score "
        f"{best.value:.4f} of its best epoch.\n"
        f"#   accelerate launch run_ner.py {folder / 'best.yaml'}\n"
        f"# Found by {PROGRAM} at commit {current_commit()}, over {', '.join(best.params)}.\n"
    )
    return head + yaml.safe_dump(settings | best.params, sort_keys=False)


def draw(study: optuna.Study, folder: Path, score: str) -> list[str]:
    """The pictures that can be drawn of a finished search; their names."""
    plt.switch_backend("agg")
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    pictures = {"optimization_history": optuna.visualization.matplotlib.plot_optimization_history}
    if len(complete) > 1 and len({trial.value for trial in complete}) > 1:
        pictures["param_importances"] = optuna.visualization.matplotlib.plot_param_importances
    for name, plot in pictures.items():
        axes = plot(study, target_name=score)
        if name == "optimization_history":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for kind in ("png", "svg"):
            axes.figure.savefig(folder / f"{name}.{kind}", dpi=150, bbox_inches="tight")
        plt.close(axes.figure)
    return [f"{name}.{kind}" for name in pictures for kind in ("png", "svg")]


def run(argv: Sequence[str]) -> None:
    """Load, build the Trainer, open the study, run trials, draw, say."""
    quiet_optuna()
    arguments, search, space = parse(argv)
    given = given_flags(argv, (*OF_A_RUN, SearchArguments), PROGRAM)  # now: the file may change meanwhile
    folder = Path(search.search_dir)
    model_args, data_args, args = arguments
    model, tokenizer, splits = prepare(["train", "validation"], model_args, data_args, args)
    study = open_study(search, args, settings_of(given, splits))
    with tempfile.TemporaryDirectory() as scratch:
        args.output_dir = scratch
        trainer, _ = build_trainer(model, tokenizer, splits, args, data_args, facts={})
        trainer.remove_callback(ReportCallback)
        task = Search(arguments, space, trainer, splits)
        search_on(study, trainer, task, search, report=lambda study: write_results(study, given, folder))
    finish(study, folder, args.metric_for_best_model)


def quiet_optuna() -> None:
    """Its line for each trial is wanted; what Trainer makes it say before each is not."""
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logger = logging.getLogger("optuna.study.study")
    logger.addFilter(lambda record: "Using an existing study" not in record.getMessage())


def finish(study: optuna.Study, folder: Path, metric: str) -> None:
    """The last screen: pictures, counts, the best trial and the command that trains it."""
    trials = study.get_trials(deepcopy=False)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise UsageError(
            f"--search_dir: all {len(trials)} trials in {folder} ended without a score that is a number; "
            "expected lower learning rates in search_space, and another --search_dir"
        )
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
    print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    with lock(folder):
        names = draw(study, folder, f"devel {metric}")
    print(f"Written to {folder}: best.yaml, trials.json, {', '.join(names)}")
    best = study.best_trial
    print(f"Best: trial {best.number}, devel score {best.value:.4f}, {best.params}")
    print(f"Train it: accelerate launch run_ner.py {folder / 'best.yaml'}")


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return exit_code(
        lambda: run(argv), PROGRAM, "the same command goes on with the search", debug="debug" in argv
    )


if __name__ == "__main__":
    sys.exit(main())
