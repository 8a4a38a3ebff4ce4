"""Learning-rate range test: sweep the rate with a Trainer, read the curves, draw them and write them down.

    curve = lr_range_test(trainer)

The rate rises from step to step while Trainer trains (Smith 2015, arXiv 1506.01186). From the command line:
accelerate launch lr_range_test.py CONFIG.yaml
"""

import contextlib
import copy
import dataclasses
import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm.auto import tqdm
from transformers import DefaultFlowCallback, Trainer, TrainerCallback, set_seed
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ner_recipe.arguments import DataArguments, ModelArguments, RecipeArguments
from ner_recipe.checks import beside, number_problems, place_problems, refuse, setting_problems
from ner_recipe.corpora.building import label_names
from ner_recipe.models import load_model
from ner_recipe.reports.figures import COLOURS, picture
from ner_recipe.reports.files import write_bytes, write_text
from ner_recipe.reports.record import device_name, listed_settings, package_versions
from ner_recipe.training import build_trainer, prepare
from ner_recipe.tuning.lr_rules import RECOMMENDED, RULES, Suggestion, finite_part, smooth, suggest

LINES = ("-", "--", ":", "-.")
MARKERS = {"knee": "o", "steepest": "v", "minimum/10": "s", "valley": "D"}
# Flag -> lowest value, and the value that it must stay below.
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
class RangeTestArguments:
    """The sweep, and the settings that it compares."""

    min_lr: float = HfArg(default=1e-6, help="Learning rate of the first step.")
    max_lr: float = HfArg(default=1e-1, help="Learning rate of the last step.")
    num_steps: int = HfArg(default=100, help="Optimizer steps in a sweep.")
    schedule: Literal["exponential", "linear"] = HfArg(
        default="exponential", help="How the rate rises from step to step."
    )
    smoothing: float = HfArg(default=0.8, help="Weight of the past in the moving averages of the loss.")
    diverge_factor: float = HfArg(
        default=4.0, help="Stop when the average loss is this many times its lowest value."
    )
    seeds: list[int] | None = HfArg(
        default=None, help="One curve per seed (new head, batch order and dropout). If not given: --seed."
    )
    weight_decay_grid: list[float] | None = HfArg(
        default=None, help="One curve per weight decay, from equal weights on equal batches."
    )
    dropout_grid: list[float] | None = HfArg(
        default=None, help="One curve per hidden_dropout_prob, from equal weights on equal batches."
    )
    range_test_dir: str | None = HfArg(
        default=None,
        help="Folder for picture and numbers. If not given: --output_dir with _lr_range_test appended.",
    )


def check_range_test(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, test: RangeTestArguments
) -> None:
    """Refuse settings that can't work, and choose the folder if none is given."""
    test.range_test_dir = test.range_test_dir or beside(args.output_dir, "lr_range_test")
    problems = setting_problems(model_args, data_args, args) + number_problems([test], RANGES)
    if not problems and test.min_lr >= test.max_lr:
        problems.append(f"--max_lr: found {test.max_lr:g}; expected more than --min_lr ({test.min_lr:g})")
    for name in ("seeds", "weight_decay_grid", "dropout_grid"):
        values = getattr(test, name) or []
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            problems.append(f"--{name}: found {twice[0]} twice; give each value once")
    refuse(problems + place_problems("range_test_dir", test.range_test_dir, args.output_dir))


def train_only(args: RecipeArguments) -> None:
    """Switch off what a sweep does not need: evaluation, checkpoints, publishing, loggers and averages."""
    args.do_train, args.do_eval, args.do_predict, args.push_to_hub = True, False, False, False
    args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    args.load_best_model_at_end, args.resume_from_checkpoint, args.report_to = False, None, []
    args.ema_decay = 0.0


@dataclasses.dataclass
class Curve:
    """One sweep: the rate and the loss of each step, and why it ended."""

    rates: list[float]
    losses: list[float]
    ended: str
    seconds: float


class SweepCallback(TrainerCallback):
    """Records rate and loss of each step; stops when the loss is not finite or the average loss diverges."""

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
    """Sweep the learning rate with a Trainer and leave the Trainer unchanged.

    The sweep uses a new optimizer, made by `trainer.create_optimizer`, and pauses the Trainer's callbacks.
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
        trainer._created_lr_scheduler = False  # otherwise Trainer replaces this one by its own
        start = time.perf_counter()
        trainer.train()
        return Curve(callback.rates, callback.losses, callback.ended, time.perf_counter() - start)


@contextlib.contextmanager
def left_as_it_was(trainer: Trainer) -> Iterator[None]:
    """Restore a Trainer at the end: weights, optimizer, schedule, settings, callbacks and random state."""
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
            vars(model).pop("forward", None)  # each training with mixed precision wraps it again
            if forward is not None:
                model.forward = forward
            vars(trainer).update(kept, control=control)
            vars(trainer.args).clear()
            vars(trainer.args).update(settings)
            handler.callbacks = callbacks
            random.setstate(randomness[0])
            np.random.set_state(randomness[1])


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One curve, the flags that distinguish it, and what the rules suggest."""

    flags: dict[str, float]
    curve: Curve
    suggestion: Suggestion


@dataclasses.dataclass(frozen=True)
class Setting:
    """The sweeps that differ only in the seed, and their median suggestion. `flags` leaves the seed out."""

    flags: dict[str, float]
    sweeps: list[Sweep]
    suggestion: Suggestion


def compared_flags(args: RecipeArguments, test: RangeTestArguments) -> list[dict[str, float]]:
    """The flags of each curve, with the seeds of one setting next to each other."""
    grid = {
        "weight_decay": test.weight_decay_grid,
        "hidden_dropout_prob": test.dropout_grid,
        "seed": test.seeds or [args.seed],
    }
    grid = {name: values for name, values in grid.items() if values}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def sweep_all(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, test: RangeTestArguments
) -> list[Sweep]:
    """Run one sweep for each combination of flags, each from a newly loaded model."""
    tokenizer, splits = prepare(["train"], model_args, data_args, args)[1:]
    labels = label_names(splits["train"].sentences)
    sweeps = []
    with tempfile.TemporaryDirectory() as scratch:
        for flags in compared_flags(args, test):
            changed, changed_model = copy.copy(args), copy.copy(model_args)
            changed.output_dir = scratch  # Trainer creates its output folder even if it writes nothing
            for group in (changed, changed_model):
                vars(group).update({name: value for name, value in flags.items() if hasattr(group, name)})
            set_seed(changed.seed)
            model = load_model(changed_model, labels, True, args.cpu_attention, tokenizer)
            trainer, _ = build_trainer(model, tokenizer, splits, changed, facts={})
            curve = lr_range_test(trainer, test)
            sweeps.append(Sweep(flags, curve, suggest(curve.rates, curve.losses, test.smoothing)))
    return sweeps


def by_setting(sweeps: Sequence[Sweep]) -> list[Setting]:
    """Group the sweeps that differ only in the seed."""
    groups: list[tuple[dict, list[Sweep]]] = []
    for sweep in sweeps:
        flags = {name: value for name, value in sweep.flags.items() if name != "seed"}
        if not groups or groups[-1][0] != flags:
            groups.append((flags, []))
        groups[-1][1].append(sweep)
    return [
        Setting(flags, members, median_of([sweep.suggestion for sweep in members]))
        for flags, members in groups
    ]


def median_of(suggestions: Sequence[Suggestion]) -> Suggestion:
    """The median of each rule over the curves with a rate. It is recommended if most curves have one."""
    rates = {
        rule: float(np.median([one.rates[rule] for one in suggestions if rule in one.rates]))
        for rule in RULES
        if any(rule in one.rates for one in suggestions)
    }
    good = [one.recommended for one in suggestions if one.recommended is not None]
    if 2 * len(good) <= len(suggestions):
        return Suggestion(rates, None, next(one.why for one in suggestions if one.recommended is None))
    return Suggestion(rates, float(np.median(good)), RULES[RECOMMENDED])


def short(rate: float) -> str:
    """A rate with two digits: 1.9e-4."""
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def as_flags(flags: Mapping[str, float]) -> str:
    """Settings as words of a command line."""
    return " ".join(f"--{name} {value:g}" for name, value in flags.items())


def render_line(setting: Setting) -> str:
    """One line for a setting: the flags to paste, and the rates of the other rules."""
    suggestion, seeds, flags = setting.suggestion, len(setting.sweeps), as_flags(setting.flags)
    if suggestion.recommended is None:
        return f"No suggestion{f' for {flags}' if flags else ''}: {suggestion.why}"
    rates = suggestion.rates.items()
    others = ", ".join(f"{rule} {short(rate)}" for rule, rate in rates if rule != RECOMMENDED)
    over = f", median of {seeds} seeds" if seeds > 1 else ""
    words = f"Suggestion: --learning_rate {short(suggestion.recommended)} {flags}".rstrip()
    return f"{words}  ({RECOMMENDED}{over}; {others})"


def draw(settings: Sequence[Setting], test: RangeTestArguments, title: str) -> Figure:
    """All curves, raw and smoothed, over the learning rate, with the suggested rates."""
    many = len(settings) > 4  # then the legend goes beside the curves
    figure = Figure(figsize=(12 if many else 8, 5), layout="constrained")
    axes = figure.subplots()
    if len(settings) == 1:
        draw_seeds(axes, settings[0], test.smoothing)
    else:
        draw_settings(axes, settings, test.smoothing)
    axes.set_xscale("log" if test.schedule == "exponential" else "linear")
    axes.set_ylim(*heights([sweep.curve for setting in settings for sweep in setting.sweeps]))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss of the step (thin), smoothed (thick)")
    axes.set_title(title.replace("$", r"\$"), fontsize="medium")
    axes.grid(alpha=0.25)
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if many else {"loc": "best"}
    axes.legend(fontsize="small", **place)
    return figure


def draw_seeds(axes: Axes, setting: Setting, smoothing: float) -> None:
    """A setting alone: one colour per seed, and the rate of each rule."""
    several = len(setting.sweeps) > 1
    for number, sweep in enumerate(setting.sweeps):
        label = f"seed {sweep.flags['seed']}" if several else legend_of(setting)
        draw_curve(axes, sweep.curve, smoothing, COLOURS[number % len(COLOURS)], "-", label)
    colour = "black" if several else COLOURS[0]
    mark_rules(axes, setting, smoothing, colour)
    mark_suggestion(axes, setting, colour, "-")


def draw_settings(axes: Axes, settings: Sequence[Setting], smoothing: float) -> None:
    """Several settings: one colour each, and one entry in the legend."""
    for number, setting in enumerate(settings):
        colour = COLOURS[number % len(COLOURS)]
        style = LINES[number // len(COLOURS) % len(LINES)]
        for place, sweep in enumerate(setting.sweeps):
            label = legend_of(setting) if place == 0 else None
            draw_curve(axes, sweep.curve, smoothing, colour, style, label)
        mark_suggestion(axes, setting, colour, style)


def legend_of(setting: Setting) -> str:
    """The legend of a setting: its flags and its rate, or `smoothed loss` if nothing is compared."""
    if not setting.flags:
        return "smoothed loss"
    rate = setting.suggestion.recommended
    return f"{as_flags(setting.flags)}: {'no suggestion' if rate is None else short(rate)}"


def draw_curve(
    axes: Axes, curve: Curve, smoothing: float, colour: str, style: str, label: str | None
) -> None:
    """One curve: thin as measured, thick as smoothed."""
    rates, losses = finite_part(curve.rates, curve.losses)
    axes.plot(rates, losses, color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(rates, smooth(losses, smoothing), style, color=colour, linewidth=1.8, label=label)


def mark_suggestion(axes: Axes, setting: Setting, colour: str, style: str) -> None:
    """A vertical line at the recommended rate, if there is one."""
    if setting.suggestion.recommended is not None:
        axes.axvline(setting.suggestion.recommended, color=colour, linestyle=style, linewidth=0.9)


def mark_rules(axes: Axes, setting: Setting, smoothing: float, colour: str) -> None:
    """The rate of each rule as a point on the curve of the first seed."""
    suggestion, curve = setting.suggestion, setting.sweeps[0].curve
    rates, losses = finite_part(curve.rates, curve.losses)
    for rule, rate in suggestion.rates.items():
        chosen = rule == RECOMMENDED and suggestion.recommended is not None
        label = f"{rule}: {short(rate)}{' (suggested)' if chosen else ''}"
        height = np.interp(rate, rates, smooth(losses, smoothing))
        face = {"facecolor": colour if chosen else "white", "edgecolor": colour, "zorder": 3}
        axes.scatter([rate], [height], s=70 if chosen else 40, marker=MARKERS[rule], label=label, **face)


def heights(curves: Sequence[Curve]) -> tuple[float | None, float | None]:
    """Bottom and top of the picture: the lowest loss, and a little above the first losses."""
    finite = [losses for curve in curves if len(losses := finite_part(curve.rates, curve.losses)[1])]
    if not finite:
        return None, None
    floor, top = min(losses.min() for losses in finite), max(losses[0] for losses in finite)
    margin = 0.1 * max(top - floor, 1e-3)
    return floor - margin, top + 3 * margin


def sweep_facts(model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments) -> dict:
    """Where and with what the sweeps ran, for the JSON file."""
    return {
        "device": device_name(args),
        "processes": args.world_size,
        "versions": package_versions(),
        "settings": listed_settings(
            {"model": model_args, "data": data_args, "trainer": args, "encoder": model_args}
        ),
    }


def as_json(settings: Sequence[Setting], facts: Mapping, test: RangeTestArguments) -> str:
    """Facts, suggestions and every point. A loss that is not finite becomes null."""
    curves = []
    for sweep in [sweep for setting in settings for sweep in setting.sweeps]:
        curve = sweep.curve
        points = [
            {"step": step, "learning_rate": rate, "loss": loss if math.isfinite(loss) else None}
            for step, (rate, loss) in enumerate(zip(curve.rates, curve.losses, strict=True), start=1)
        ]
        rest = {"ended": curve.ended, "seconds": round(curve.seconds, 2), "points": points}
        curves.append({"flags": sweep.flags, **dataclasses.asdict(sweep.suggestion), **rest})
    result = {
        "commit": None,
        **facts,
        "rules": RULES,
        "sweep": dataclasses.asdict(test),
        "suggestions": [{"flags": one.flags, **dataclasses.asdict(one.suggestion)} for one in settings],
        "curves": curves,
    }
    return json.dumps(result, indent=1)


def write_results(settings: Sequence[Setting], facts: Mapping, test: RangeTestArguments) -> list[str]:
    """Write the picture (PNG and SVG) and the numbers, after all of them are made; return their names."""
    folder = Path(test.range_test_dir)
    count = sum(len(setting.sweeps) for setting in settings)
    title = f"{facts['model']}, {test.num_steps} steps, {count} curve{'s' * (count > 1)}"
    figure = draw(settings, test, title)
    text = as_json(settings, facts, test)
    names = ["lr_range_test.png", "lr_range_test.svg"]
    for name, content in [(name, picture(figure, name[-3:], dpi=150)) for name in names]:
        write_bytes(folder / name, content)
    write_text(folder / "lr_range_test.json", text + "\n")
    return [*names, "lr_range_test.json"]
