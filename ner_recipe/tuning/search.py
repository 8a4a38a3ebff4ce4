"""Hyperparameter search: Trainer.hyperparameter_search with Optuna, shared by any number of processes.

    study = open_study(search, args, settings_of(given, splits))
    run_trials(study, Search(arguments, space, search.n_trials, trainer, splits), report)

From the command line: accelerate launch hyperparameter_search.py CONFIG.yaml
"""

import copy
import dataclasses
import fnmatch
import json
import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import filelock
import matplotlib.pyplot as plt
import optuna
import sqlalchemy
import yaml
from matplotlib.ticker import MaxNLocator
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ner_recipe.arguments import Arguments, DataArguments, ModelArguments, RecipeArguments
from ner_recipe.checks import beside, number_problems, place_problems, refuse, setting_problems
from ner_recipe.corpora.building import label_names
from ner_recipe.corpora.splits import Split
from ner_recipe.launch import UsageError
from ner_recipe.models import load_model
from ner_recipe.reports.figures import picture
from ner_recipe.reports.files import write_bytes, write_text
from ner_recipe.reports.record import current_commit, unusual_protocol
from ner_recipe.training import SplitScorer, encode_splits
from ner_recipe.tuning.search_space import Space, end_problems, holder, read_space, suggested

# The settings in which two commands of one search may differ: places, and what is only shown.
MAY_DIFFER = (
    *("n_trials", "search_dir", "storage", "output_dir", "cache_dir", "data_dir", "*_num_workers"),
    *("do_*", "hub_*", "logging_*", "log_level", "disable_tqdm", "push_to_hub", "report_to", "run_name"),
)
# A trial is dead, and another process runs it again, if its process has been silent for GRACE_SECONDS.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 90
RETRIES = 3  # of a trial whose process dies each time
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
SURPLUS = "surplus"  # attribute of a trial that the search did not need


@dataclasses.dataclass
class SearchArguments:
    """The search space, and how much of it to try."""

    search_space: str | None = HfArg(
        default=None,
        help="Setting -> a list of values, or {low, high} with log: true or step (a mapping in the YAML "
        "file, JSON on the command line).",
    )
    n_trials: int = HfArg(default=20, help="Trials of the whole search, over all its processes and restarts.")
    search_dir: str | None = HfArg(
        default=None, help="Folder for trials and results (--output_dir with _search appended)."
    )
    storage: str | None = HfArg(
        default=None,
        help="SQLAlchemy URL of a database for machines that share no folder. The name of --search_dir tells "
        "its searches apart. SQLite in --search_dir if not given.",
    )


def train_and_validate(args: RecipeArguments) -> None:
    """Make each trial a training with validation, and switch off checkpoints, publishing and loggers."""
    args.do_train, args.do_eval, args.do_predict, args.push_to_hub = True, False, False, False
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    args.resume_from_checkpoint, args.report_to = None, []
    if args.eval_strategy == IntervalStrategy.NO:
        args.eval_strategy = IntervalStrategy.EPOCH


def check_search(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RecipeArguments,
    search: SearchArguments,
    given: Mapping[str, object],
) -> Space:
    """Refuse settings that can't work, and choose the folder if none is given; return the search space."""
    run = (model_args, data_args, args)
    search.search_dir = search.search_dir or beside(args.output_dir, "search")
    problems = setting_problems(*run) + number_problems([search], {"n_trials": (1, math.inf)})
    if unusual_protocol(data_args, do_train=True):
        problems.append(
            f"--eval_split_name: found {data_args.eval_split_name} with --train_split_name "
            f"{data_args.train_split_name}; a search must select on a split that it does not train on, and "
            "never use test"
        )
    if given.get("load_best_model_at_end") is False:
        problems.append(
            "--load_best_model_at_end: found false; a search scores the best epoch, and run_ner.py must keep "
            "it to have that score; leave it out"
        )
    problems += place_problems("search_dir", search.search_dir, args.output_dir)
    problems += storage_problems(search.storage)
    if args.world_size > 1:
        problems.append(
            f"found {args.world_size} processes; a trial trains in one. To run several trials at once, start "
            "this command several times, each on a device of its own"
        )
    space, space_problems = read_space(search.search_space)
    if len(space.get("label_all_tokens", ())) > 1 and args.metric_for_best_model.endswith("loss"):
        space_problems.append(
            "search_space.label_all_tokens: losses over different subtokens can't be compared; give one "
            "value, or another --metric_for_best_model"
        )
    if args.max_steps > 0 and "num_train_epochs" in space:
        space_problems.append("search_space.num_train_epochs: --max_steps overrides it; remove one of them")
    if "per_device_train_batch_size" in space and (args.train_batch_tokens or "train_batch_tokens" in space):
        space_problems.append(
            "search_space.per_device_train_batch_size: train_batch_tokens overrides it; remove one of them"
        )
    refuse(problems + space_problems)
    refuse([problem for name in space for problem in end_problems(name, space[name], run)])
    return space


def storage_problems(url: str | None) -> list[str]:
    """Whether SQLAlchemy can use the URL of the database."""
    if url is None:
        return []
    try:
        sqlalchemy.engine.make_url(url).get_dialect()
    except (SQLAlchemyError, ImportError) as error:
        return [
            f"--storage: {' '.join(str(error).split())}; expected a URL such as "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME with its driver installed, or no flag for SQLite"
        ]
    return []


def settings_of(given: Mapping[str, object], splits: Mapping[str, Split]) -> dict:
    """What identifies a search: the given settings, and the corpus by its content."""
    settings = {
        name: value
        for name, value in given.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in MAY_DIFFER)
    }
    settings |= {f"{role} corpus": split.counts["fingerprint"] for role, split in splits.items()}
    train = splits["train"]
    settings |= {"silver text": train.silver.counts["fingerprint"]} if train.silver else {}
    return settings | ({"teachers' checksum": train.taught_by} if train.taught_by else {})


def open_study(search: SearchArguments, args: RecipeArguments, settings: Mapping) -> optuna.Study:
    """Begin the study of this search, or continue it.

    Raises:
        UsageError: the search was begun with other settings, or the database can't be used.
    """
    folder = Path(search.search_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        try:
            study = optuna.create_study(load_if_exists=True, **study_options(search, args))
            study.get_trials(deepcopy=False)  # a damaged page shows only when it is read
            begun = study.user_attrs.get("settings")
            if begun is None:
                study.set_user_attr("settings", settings)
        except (ImportError, SQLAlchemyError, StorageInternalError, RuntimeError) as error:
            # Optuna raises RuntimeError for the tables of another version.
            cause = error.__cause__ or error
            reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:300]
            place = "--storage" if search.storage else f"--search_dir: {folder / 'trials.db'}"
            raise UsageError(
                f"{place}: {reason}; expected a new database, or one that Optuna can read and write"
            ) from None
        if begun not in (None, settings):
            name = next(name for name in sorted({*begun, *settings}) if begun.get(name) != settings.get(name))
            raise UsageError(
                f"--search_dir: {folder} holds a search with {name} {begun.get(name)!r}, found "
                f"{settings.get(name)!r}; use the settings that it began with, or another --search_dir"
            )
    return study


def study_options(search: SearchArguments, args: RecipeArguments) -> dict:
    """Database, direction and pruner, for optuna.create_study."""
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
        # Prunes a trial that is worse than the median of the others at that epoch; never in its first epoch.
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=99),
    }


def lock(folder: Path) -> filelock.FileLock:
    """Lets one process at a time create the tables of the database or write results."""
    return filelock.FileLock(folder / "lock")


class SurplusTrial(Exception):
    """Ends a trial that the search does not need, because other processes already run the last ones."""


class Search:
    """Runs trials: turns Optuna's values into arguments, data and a new model for the Trainer."""

    def __init__(
        self, arguments: Arguments, space: Space, n_trials: int, trainer: Trainer, splits: Mapping[str, Split]
    ):
        self.model_args, self.data_args, self.args = arguments
        self.space, self.n_trials, self.trainer, self.splits = space, n_trials, trainer, splits
        self.number: int | None = None  # of the trial that runs
        self.objectives: list[float] = []
        self.first_seen: dict[int, float] = {}  # trial without parameters -> when this process first saw it

    def model_init(self, trial: optuna.Trial) -> PreTrainedModel:
        """Ask for the trial's values, apply them and load the encoder.

        Raises:
            SurplusTrial: the search has enough trials without this one.
        """
        self.number, self.objectives = trial.number, []
        if self.is_surplus(trial):
            trial.set_user_attr(SURPLUS, trial.number)
            raise SurplusTrial
        place = self.place(trial)
        model_args, data_args = copy.copy(self.model_args), copy.copy(self.data_args)
        for name, choices in self.space.items():
            # Trials that start together must draw different values, and a trial that is run again the same.
            trial.study.sampler = sampler(f"{self.args.seed} {place} {name}")
            value = suggested(trial, name, choices)
            setattr(holder(name, (model_args, data_args, self.trainer.args)), name, value)
        splits = encode_splits(self.splits, self.trainer.processing_class, model_args, data_args, self.args)
        self.trainer.train_dataset = splits["train"].windows
        self.trainer.eval_dataset = splits["validation"].windows
        self.trainer.compute_metrics = SplitScorer(splits["validation"], {}, data_args.min_score)
        labels = label_names(splits["train"].sentences)
        tokenizer = self.trainer.processing_class
        return load_model(model_args, labels, True, self.args.cpu_attention, tokenizer)

    def space_of(self, trial: optuna.Trial) -> dict:
        """Leave nothing for Trainer to set: it would cast a warm-up of 0.1 to the type of the default, 0."""
        set_seed(self.args.seed)  # as Trainer does after run_ner.py has loaded its model
        return {}

    def objective(self, metrics: Mapping[str, float]) -> float:
        """The trial's best selecting score so far, which is that of the model that run_ner.py would keep."""
        score = metrics["eval_" + self.args.metric_for_best_model.removeprefix("eval_")]
        if not math.isfinite(score):
            raise optuna.TrialPruned(f"the score is {score}")
        self.objectives.append(score)
        return max(self.objectives) if self.args.greater_is_better else min(self.objectives)

    def place(self, trial: optuna.Trial) -> int:
        """How many trials the search had begun before this one, or before the trial that this one repeats.

        Unlike the number of a trial it does not depend on kills.
        """
        trials = trial.study.get_trials(deepcopy=False)
        repeated = repeated_trial(trials[trial.number])
        first = trial.number if repeated is None else repeated
        return sum(
            repeated_trial(one) is None
            and not is_marked_surplus(one)
            and not (one.state == TrialState.RUNNING and self.is_stillborn(one))
            for one in trials[:first]
        )

    def is_surplus(self, trial: optuna.Trial) -> bool:
        """Whether the search has its trials without this one.

        Two processes may both find one trial missing and begin one each. Only trials with a lower number
        count here, so of the two the first in the database runs. Trials that wait to be run again count too:
        a process may take them up after this trial has begun.
        """
        earlier = [one for one in trial.study.get_trials(deepcopy=False) if one.number < trial.number]
        waiting = sum(one.state == TrialState.WAITING for one in earlier)
        return waiting + len(self.running(earlier)) + len(finished(earlier)) >= self.n_trials

    def running(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that a process is running."""
        return [
            trial for trial in trials if trial.state == TrialState.RUNNING and not self.is_stillborn(trial)
        ]

    def is_stillborn(self, trial: FrozenTrial) -> bool:
        """Whether a trial's process died before its first heartbeat, which Optuna does not notice.

        Its age counts from when this process first saw it, because the clocks of two machines may disagree.
        """
        if trial.params:
            return False
        now = time.monotonic()
        return now - self.first_seen.setdefault(trial.number, now) > GRACE_SECONDS


def sampler(name: str) -> optuna.samplers.BaseSampler:
    """Optuna's default sampler, aware of the trials that other processes run, and seeded by a name."""
    return optuna.samplers.TPESampler(seed=random.Random(name).getrandbits(32), constant_liar=True)


def repeated_trial(trial: FrozenTrial) -> int | None:
    """The number of the first attempt at a trial that is run again; None for any other trial."""
    return optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)


def run_trials(study: optuna.Study, task: Search, report: Callable[[], None]) -> None:
    """Run trials until the search has all of them, including those of other processes."""
    waited = False
    while True:
        optuna.storages.fail_stale_trials(study)
        trials = study.get_trials(deepcopy=False)
        running = task.running(trials)
        if len(running) + len(finished(trials)) < task.n_trials:
            run_trial(study, task)
            report()
            continue
        if not running:
            report()  # the process that ran the last trial may have died before it wrote the results
            return
        if not waited:
            print(f"Waiting for {len(running)} trials of other processes; a dead one is run again here")
        waited = True
        time.sleep(min(5, GRACE_SECONDS))


def run_trial(study: optuna.Study, task: Search) -> None:
    """Run one trial with Trainer's own search. It may end complete, pruned or surplus."""
    task.number = None
    task.trainer.model_init = task.model_init
    # Such a trial ends, and the search goes on.
    task.trainer.divergence = task.trainer.exhaustion = optuna.TrialPruned
    try:
        task.trainer.hyperparameter_search(
            hp_space=task.space_of,
            compute_objective=task.objective,
            n_trials=1,
            direction=study.direction.name.lower(),
            backend="optuna",
            storage=study._storage,
            study_name=study.study_name,
            pruner=study.pruner,
            load_if_exists=True,
            catch=(SurplusTrial,),
        )
    except ValueError:
        # At the end Trainer asks for the best trial. Optuna has none, and raises, until one is complete.
        trial = None if task.number is None else study.get_trials(deepcopy=False)[task.number]
        if trial is None or not (trial.state == TrialState.PRUNED or is_marked_surplus(trial)):
            raise


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials with a result. A pruned trial has one too."""
    return [trial for trial in trials if trial.state in FINISHED]


def is_marked_surplus(trial: FrozenTrial) -> bool:
    """Whether the search did not need this trial. A rerun inherits the mark, but has another number."""
    return trial.user_attrs.get(SURPLUS) == trial.number


def needed_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but the surplus ones."""
    return [trial for trial in study.get_trials(deepcopy=False) if not is_marked_surplus(trial)]


def write_results(study: optuna.Study, given: Mapping[str, object], folder: Path) -> None:
    """Write trials.json and best.yaml, after each trial."""
    with lock(folder):
        trials = needed_trials(study)
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
    """A configuration for run_ner.py: the settings of the search with the values of the best trial."""
    left_out = {*(field.name for field in dataclasses.fields(SearchArguments)), "hub_token", "do_train"}
    settings = {"do_train": True, "do_eval": True} | {
        name: value for name, value in given.items() if name not in left_out
    }
    best, results, commit = study.best_trial, finished(study.get_trials(deepcopy=False)), current_commit()
    pruned = sum(trial.state == TrialState.PRUNED for trial in results)
    head = (
        f"# Trial {best.number}, the best of {len(results)} ({pruned} of them pruned): validation score "
        f"{best.value:.4f} of its best epoch.\n"
        f"#   accelerate launch run_ner.py {folder / 'best.yaml'}\n"
        f"# Found by hyperparameter_search.py{f' at commit {commit}' if commit else ''}, over "
        f"{', '.join(best.params)}.\n"
    )
    return head + yaml.safe_dump(settings | best.params, sort_keys=False)


def draw(study: optuna.Study, folder: Path, score: str) -> list[str]:
    """Draw what can be drawn of a finished search; return the names of the pictures."""
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
            content = picture(axes.figure, kind, dpi=150, bbox_inches="tight")
            write_bytes(folder / f"{name}.{kind}", content)
        plt.close(axes.figure)
    return [f"{name}.{kind}" for name in pictures for kind in ("png", "svg")]


def finish(study: optuna.Study, folder: Path, metric: str) -> None:
    """Draw the pictures and print counts, the best trial and the command that trains it."""
    trials = needed_trials(study)
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise UsageError(
            f"--search_dir: none of the {len(trials)} trials in {folder} has a score that is a number; use "
            "lower learning rates in search_space, or smaller batches if their memory did not suffice, and "
            "another --search_dir"
        )
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
    print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    with lock(folder):
        names = draw(study, folder, f"validation {metric}")
    print(f"Written to {folder}: best.yaml, trials.json, {', '.join(names)}")
    best = study.best_trial
    print(f"Best: trial {best.number}, validation score {best.value:.4f}, {best.params}")
    print(f"Train it: accelerate launch run_ner.py {folder / 'best.yaml'}")


def quiet_optuna() -> None:
    """Keep Optuna's line for each trial, and hide what it says before each one and about surplus trials."""
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    for module in ("study", "_optimize"):
        logging.getLogger(f"optuna.study.{module}").addFilter(is_worth_a_line)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether to show a message of Optuna, which reports a failed trial twice, once without the error."""
    hidden = ("Using an existing study", "failed with value None", SurplusTrial.__name__)
    return not any(text in record.getMessage() for text in hidden)
