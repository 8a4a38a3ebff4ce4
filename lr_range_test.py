"""Which learning rate? A short sweep over the very pipeline that will train, one picture, one flag to paste.

    accelerate launch lr_range_test.py configs/jnlpba_minilm.yaml [run_ner.py's flags]
    accelerate launch lr_range_test.py configs/quickstart.yaml --seeds 1 2 3 --weight_decay_grid 0 0.01 0.1

Takes run_ner.py's arguments as they are, and RangeTestArguments beside them. The rate rises from step to step
while Trainer trains (Smith 2015, arXiv 1506.01186). In Python: `lr_range_test(trainer)`. Imports run_ner.
"""

import contextlib
import copy
import dataclasses
import itertools
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm.auto import tqdm
from transformers import DefaultFlowCallback, Trainer, TrainerCallback, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from arguments import (
    OF_A_RUN,
    Arguments,
    DataArguments,
    ModelArguments,
    RecipeArguments,
    beside,
    number_problems,
    parse_flags,
    place_problems,
    refuse,
    setting_problems,
)
from encoder import load_model
from lr_rules import RECOMMENDED, RULES, Suggestion, finite_part, smooth, suggest
from record import device_name, listed_settings, package_versions, run_facts
from report import write_text
from run_ner import build_trainer, exit_code, label_names, prepare

PROGRAM = "lr_range_test.py"
# Okabe and Ito's colours, which the colour-blind tell apart, less the yellow that paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", ":", "-.")
MARKERS = {"knee": "o", "steepest": "v", "minimum/10": "s", "valley": "D"}


@dataclasses.dataclass
class RangeTestArguments:
    """The sweep, and what is compared by it."""

    min_lr: float = dataclasses.field(default=1e-6, metadata={"help": "Learning rate of the first step."})
    max_lr: float = dataclasses.field(default=1e-1, metadata={"help": "Learning rate of the last step."})
    num_steps: int = dataclasses.field(default=100, metadata={"help": "Optimizer steps of a sweep."})
    schedule: Literal["exponential", "linear"] = dataclasses.field(
        default="exponential", metadata={"help": "How the rate rises from step to step."}
    )
    smoothing: float = dataclasses.field(
        default=0.8, metadata={"help": "Weight of the past in the moving averages of the loss."}
    )
    diverge_factor: float = dataclasses.field(
        default=4.0, metadata={"help": "Stop when the average loss is this many times its lowest."}
    )
    seeds: list[int] | None = dataclasses.field(
        default=None,
        metadata={"help": "A curve for each seed (--seed): another head, order of batches and dropout."},
    )
    weight_decay_grid: list[float] | None = dataclasses.field(
        default=None, metadata={"help": "A curve for each weight decay, from equal weights on equal batches."}
    )
    dropout_grid: list[float] | None = dataclasses.field(
        default=None, metadata={"help": "A curve for each hidden_dropout_prob, likewise."}
    )
    range_test_dir: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Where the picture and the numbers go (--output_dir with _lr_range_test after it)."
        },
    )


RANGES = {
    **dict.fromkeys(("min_lr", "max_lr"), (1e-12, math.inf)),
    "num_steps": (2, 100_001),
    "smoothing": (0, 1),
    "diverge_factor": (1.01, math.inf),
    "seeds": (0, 2**32),
    "weight_decay_grid": (0, math.inf),
    "dropout_grid": (0, 1),
}


@dataclasses.dataclass
class Curve:
    """One sweep: the rate and the loss of each step, and why it ended."""

    rates: list[float]
    losses: list[float]
    ended: str
    seconds: float


class SweepCallback(TrainerCallback):
    """Keeps rate and loss of each step; stops at the first loss that is not finite, or once it diverges."""

    def __init__(self, test: RangeTestArguments, bar: tqdm):
        self.test, self.bar = test, bar

    def on_train_begin(self, args, state, control, **others):
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.average, self.lowest = 0.0, math.inf
        self.ended = "at the last step"

    def on_log(self, args, state, control, logs, **others):
        if "loss" not in logs:  # Trainer's summary at the end
            return
        loss, weight = logs["loss"], self.test.smoothing
        self.rates.append(logs["learning_rate"])
        self.losses.append(loss)
        self.bar.update()
        self.average = weight * self.average + (1 - weight) * loss
        average = self.average / (1 - weight ** len(self.losses))
        self.lowest = min(self.lowest, average)
        if not math.isfinite(loss):
            self.ended = f"at step {state.global_step}: the loss is {loss}"
            control.should_training_stop = True
        elif average > self.test.diverge_factor * self.lowest:
            self.ended = f"at step {state.global_step}: diverged"
            control.should_training_stop = True


def lr_range_test(trainer: Trainer, test: RangeTestArguments | None = None) -> Curve:
    """Sweep the learning rate with a Trainer, which is afterwards as it was before.

    The optimizer is one of its own, made as `trainer.create_optimizer` makes it; callbacks rest meanwhile.
    """
    test = test or RangeTestArguments()
    spaced = np.geomspace if test.schedule == "exponential" else np.linspace
    rates = spaced(test.min_lr, test.max_lr, test.num_steps).tolist()
    hidden = trainer.args.disable_tqdm or not trainer.is_world_process_zero()
    with left_as_it_was(trainer), tqdm(total=len(rates), disable=hidden, leave=False) as bar:
        callback = SweepCallback(test, bar)
        trainer.callback_handler.callbacks = [DefaultFlowCallback(), callback]
        vars(trainer.args).update(
            learning_rate=rates[0],
            max_steps=len(rates),
            logging_strategy=IntervalStrategy.STEPS,
            logging_steps=1,
            logging_nan_inf_filter=False,
            eval_strategy=IntervalStrategy.NO,
            eval_on_start=False,
            save_strategy=SaveStrategy.NO,
            load_best_model_at_end=False,
        )
        trainer.model_init = trainer.optimizer = None
        trainer.create_optimizer()
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            trainer.optimizer, lambda step: rates[min(step, len(rates) - 1)] / rates[0]
        )
        trainer._created_lr_scheduler = False  # or Trainer would make its own in the place of this one
        start = time.perf_counter()
        trainer.train()
        return Curve(callback.rates, callback.losses, callback.ended, time.perf_counter() - start)


@contextlib.contextmanager
def left_as_it_was(trainer: Trainer) -> Iterator[None]:
    """Give a Trainer back as it came: weights, optimizer, schedule, settings, callbacks, random state."""
    model, handler = trainer.model, trainer.callback_handler
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    modes = [(module, module.training) for module in model.modules()]
    forward = vars(model).get("forward")
    names = ("optimizer", "lr_scheduler", "_created_lr_scheduler", "model_init", "model_wrapped", "state")
    kept = {name: getattr(trainer, name) for name in (*names, "is_in_train")}
    control = copy.copy(trainer.control)
    settings, callbacks = dict(vars(trainer.args)), handler.callbacks
    randomness = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            model.load_state_dict(weights)
            model.zero_grad()
            for module, mode in modes:
                module.training = mode
            vars(model).pop("forward", None)  # mixed precision wraps it anew at each training
            if forward is not None:
                model.forward = forward
            vars(trainer).update(kept, control=control)
            vars(trainer.args).clear()
            vars(trainer.args).update(settings)
            handler.callbacks = callbacks
            random.setstate(randomness[0])
            np.random.set_state(randomness[1])


def parse(argv: Sequence[str]) -> tuple[Arguments, RangeTestArguments]:
    """What the program is told, checked; TrainingArguments' own places for results are not used."""
    *run, test = parse_flags(argv, (*OF_A_RUN, RangeTestArguments), PROGRAM)
    args = run[2]
    test.range_test_dir = test.range_test_dir or beside(args.output_dir, "lr_range_test")
    problems = setting_problems(*run) + number_problems([test], RANGES)
    if not problems and test.min_lr >= test.max_lr:
        problems.append(f"--max_lr: found {test.max_lr:g}; expected more than --min_lr, {test.min_lr:g}")
    for name in ("seeds", "weight_decay_grid", "dropout_grid"):
        values = getattr(test, name) or []
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            problems.append(f"--{name}: found {twice[0]} twice; expected each value once")
    problems += place_problems("range_test_dir", test.range_test_dir, args.output_dir)
    refuse(problems)
    args.do_train, args.do_eval, args.do_predict, args.push_to_hub = True, False, False, False
    args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    args.load_best_model_at_end, args.resume_from_checkpoint, args.report_to = False, None, []
    return tuple(run), test


def compared_settings(args: RecipeArguments, test: RangeTestArguments) -> list[dict]:
    """The flags of each curve, seeds of one setting side by side."""
    grid = {
        "weight_decay": test.weight_decay_grid,
        "hidden_dropout_prob": test.dropout_grid,
        "seed": test.seeds or [args.seed],
    }
    grid = {name: values for name, values in grid.items() if values}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def sweep_all(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, test: RangeTestArguments
) -> list[dict]:
    """A row for each curve: its flags, its points, what the rules say of it."""
    _, tokenizer, splits = prepare(["train"], model_args, data_args, args)
    labels = label_names(splits["train"].sentences)
    rows = []
    for flags in compared_settings(args, test):
        changed, changed_model = copy.copy(args), copy.copy(model_args)
        for group in (changed, changed_model):
            vars(group).update({name: value for name, value in flags.items() if hasattr(group, name)})
        set_seed(changed.seed)
        model = load_model(changed_model, labels, fine_tune=True)
        trainer, _ = build_trainer(model, tokenizer, splits, changed, data_args, facts={})
        curve = lr_range_test(trainer, test)
        rows.append(
            {"flags": flags, "curve": curve, "says": suggest(curve.rates, curve.losses, test.smoothing)}
        )
    return rows


def by_setting(rows: Sequence[dict]) -> list[dict]:
    """Rows that differ in the seed alone become one: the median of their rates."""
    settings = []
    for row in rows:
        flags = {name: value for name, value in row["flags"].items() if name != "seed"}
        if not settings or settings[-1]["flags"] != flags:
            settings.append({"flags": flags, "rows": []})
        settings[-1]["rows"].append(row)
    return [setting | {"says": median_of([row["says"] for row in setting["rows"]])} for setting in settings]


def median_of(suggestions: Sequence[Suggestion]) -> Suggestion:
    """The median by each rule, over the curves that have one; none is recommended unless most curves do."""
    rates = {
        rule: float(np.median([said.rates[rule] for said in suggestions if rule in said.rates]))
        for rule in RULES
        if any(rule in said.rates for said in suggestions)
    }
    good = [said.recommended for said in suggestions if said.recommended is not None]
    if 2 * len(good) <= len(suggestions):
        return Suggestion(rates, None, next(said.why for said in suggestions if said.recommended is None))
    return Suggestion(rates, float(np.median(good)), RULES[RECOMMENDED])


def short(rate: float) -> str:
    """A rate as one writes it: 1.9e-4."""
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def as_flags(flags: dict) -> str:
    return " ".join(f"--{name} {value:g}" for name, value in flags.items())


def render_line(setting: dict) -> str:
    """One line of a setting: the flags to paste, and what the other rules say."""
    says, seeds = setting["says"], len(setting["rows"])
    flags = as_flags(setting["flags"])
    others = ", ".join(f"{rule} {short(rate)}" for rule, rate in says.rates.items() if rule != RECOMMENDED)
    if says.recommended is None:
        return f"No suggestion{f' for {flags}' if flags else ''}: {says.why}"
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    return f"Suggestion: --learning_rate {short(says.recommended)} {flags}".rstrip() + (
        f"  ({RECOMMENDED}{over}; {others})"
    )


def draw(settings: Sequence[dict], test: RangeTestArguments, title: str) -> Figure:
    """All curves, raw and smoothed, over the rate, with what the rules say."""
    smoothing = test.smoothing
    many = len(settings) > 4  # then the legend stands beside the curves
    figure = Figure(figsize=(12 if many else 8, 5), layout="constrained")
    axes = figure.subplots()
    alone = len(settings) == 1
    for number, setting in enumerate(settings):
        colour = COLOURS[number % len(COLOURS)]
        style = LINES[number // len(COLOURS) % len(LINES)]
        recommended = setting["says"].recommended
        says = "no suggestion" if recommended is None else short(recommended)
        name = f"{as_flags(setting['flags'])}: {says}" if setting["flags"] else "smoothed loss"
        for place, row in enumerate(setting["rows"]):
            if alone and len(setting["rows"]) > 1:
                colour, name = COLOURS[place % len(COLOURS)], f"seed {row['flags']['seed']}"
            rates, losses = finite_part(row["curve"].rates, row["curve"].losses)
            axes.plot(rates, losses, color=colour, linewidth=0.6, alpha=0.35)
            axes.plot(rates, smooth(losses, smoothing), style, color=colour, linewidth=1.8, label=name)
            name = None  # one entry a setting
        if alone:
            colour = "black" if len(setting["rows"]) > 1 else colour
            mark_rules(axes, setting, smoothing, colour)
        if recommended is not None:
            axes.axvline(recommended, color=colour, linestyle=style, linewidth=0.9)
    axes.set_xscale("log" if test.schedule == "exponential" else "linear")
    axes.set_ylim(*heights([row["curve"] for setting in settings for row in setting["rows"]]))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss of the step (thin), smoothed (thick)")
    axes.set_title(title.replace("$", r"\$"), fontsize="medium")
    axes.grid(alpha=0.25)
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if many else {"loc": "best"}
    axes.legend(fontsize="small", **place)
    return figure


def heights(curves: Sequence[Curve]) -> tuple[float | None, float | None]:
    """Bottom and top of the picture: by where the curves begin and how low they get; an explosion is cut."""
    finite = [losses for curve in curves if len(losses := finite_part(curve.rates, curve.losses)[1])]
    if not finite:
        return None, None
    floor, top = min(losses.min() for losses in finite), max(losses[0] for losses in finite)
    margin = 0.1 * max(top - floor, 1e-3)
    return floor - margin, top + 3 * margin


def mark_rules(axes: Axes, setting: dict, smoothing: float, colour: str) -> None:
    """What each rule says, on the curve of the first seed."""
    says, curve = setting["says"], setting["rows"][0]["curve"]
    rates, losses = finite_part(curve.rates, curve.losses)
    for rule, rate in says.rates.items():
        chosen = rule == RECOMMENDED and says.recommended is not None
        label = f"{rule}: {short(rate)}{' (suggested)' if chosen else ''}"
        height = np.interp(rate, rates, smooth(losses, smoothing))
        face = {"facecolor": colour if chosen else "white", "edgecolor": colour, "zorder": 3}
        axes.scatter([rate], [height], s=70 if chosen else 40, marker=MARKERS[rule], label=label, **face)


def as_json(rows: Sequence[dict], settings: Sequence[dict], facts: dict, test: RangeTestArguments) -> str:
    """Every point and every setting; a loss that is not finite is null."""
    curves = []
    for row in rows:
        curve = row["curve"]
        points = [
            {"step": step, "learning_rate": rate, "loss": loss if math.isfinite(loss) else None}
            for step, (rate, loss) in enumerate(zip(curve.rates, curve.losses, strict=True), start=1)
        ]
        rest = {"ended": curve.ended, "seconds": round(curve.seconds, 2), "points": points}
        curves.append({"flags": row["flags"], **dataclasses.asdict(row["says"]), **rest})
    suggestions = [{"flags": setting["flags"], **dataclasses.asdict(setting["says"])} for setting in settings]
    sweep = dataclasses.asdict(test)
    return json.dumps(
        {**facts, "rules": RULES, "sweep": sweep, "suggestions": suggestions, "curves": curves}, indent=1
    )


def write_results(
    rows: Sequence[dict], settings: Sequence[dict], facts: dict, test: RangeTestArguments
) -> None:
    """The picture twice and the numbers, all made before the first is written."""
    folder = Path(test.range_test_dir)
    title = f"{facts['model']}, {test.num_steps} steps, {len(rows)} curve{'s' * (len(rows) > 1)}"
    figure = draw(settings, test, title)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [Path(scratch) / f"lr_range_test.{kind}" for kind in ("png", "svg")]
        for picture in pictures:
            figure.savefig(picture, dpi=150)
        text = as_json(rows, settings, facts, test)
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            (folder / picture.name).write_bytes(picture.read_bytes())
    write_text(folder / "lr_range_test.json", text + "\n")
    print(f"Written to {folder}: lr_range_test.png, lr_range_test.svg, lr_range_test.json")


def run(argv: Sequence[str]) -> None:
    """Sweep each setting, read the curves, draw, write, say."""
    (model_args, data_args, args), test = parse(argv)
    facts = run_facts(model_args, data_args, args, argv, program=PROGRAM)
    with tempfile.TemporaryDirectory() as scratch:
        args.output_dir = scratch  # Trainer makes its folder whether or not it writes there
        rows = sweep_all(model_args, data_args, args, test)
    if args.process_index == 0:
        settings = by_setting(rows)
        facts |= {
            "device": device_name(args),
            "processes": args.world_size,
            "versions": package_versions(),
            "settings": listed_settings({"data": data_args, "trainer": args, "encoder": model_args}),
        }
        write_results(rows, settings, facts, test)
        print(*map(render_line, settings), sep="\n")


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: run(argv), PROGRAM, "nothing was written", debug="debug" in argv)


if __name__ == "__main__":
    sys.exit(main())
