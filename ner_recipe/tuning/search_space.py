"""The search space: YAML -> choices, checked as run_ner.py checks its flags -> a trial's values.

space, problems = read_space('{"learning_rate": {"low": 1e-5, "high": 1e-3, "log": true}}')
"""

import contextlib
import copy
import json
from collections.abc import Mapping, Sequence

import optuna

from ner_recipe.arguments import TRAIN_ON, suggestion
from ner_recipe.checks import setting_problems

# The settings that can be searched, and the kind of their values.
SEARCHABLE = {
    "learning_rate": "a number",
    "num_train_epochs": "a number",
    "train_batch_tokens": "a whole number",
    "per_device_train_batch_size": "a whole number",
    "weight_decay": "a number",
    "warmup_steps": "a number",
    "label_smoothing_factor": "a number",
    "hidden_dropout_prob": "a number",
    "attention_probs_dropout_prob": "a number",
    "label_all_tokens": "true or false",
    "train_on": f"one of {', '.join(TRAIN_ON)}",
}

Choices = Mapping | list  # low and high with log or step, or a list of values
Space = dict[str, Choices]


def once(pairs: Sequence[tuple[str, object]]) -> dict:
    """The pairs of a JSON object as a dictionary; refuses a repeated name."""
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"found '{twice[0]}' twice")
    return dict(pairs)


def read_space(text: str | None) -> tuple[Space, list[str]]:
    """The space, with its numbers as numbers, and the problems found in it."""
    try:
        raw = json.loads(text or "{}", object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        return {}, [f"--search_space: not usable JSON: {error}"]
    if not isinstance(raw, dict):
        return {}, [f"--search_space: found {text}; expected a mapping of settings to values"]
    if not raw:
        return {}, [
            f"--search_space: found nothing to search; expected settings among {', '.join(SEARCHABLE)}"
        ]
    space, problems = {}, []
    for name, choices in raw.items():
        place = f"search_space.{name}"
        if name not in SEARCHABLE:
            hint = suggestion(name, set(SEARCHABLE))
            problems.append(f"{place}: unknown setting; expected one of {', '.join(SEARCHABLE)}{hint}")
        elif isinstance(choices, list) and choices:
            space[name] = [as_number(one) for one in choices]
            problems += value_problems(place, space[name], SEARCHABLE[name])
        elif isinstance(choices, dict) and {"low", "high"} <= set(choices) <= {"low", "high", "log", "step"}:
            space[name] = {key: as_number(value) for key, value in choices.items()}
            problems += bound_problems(place, space[name], SEARCHABLE[name])
        else:
            problems.append(
                f"{place}: found {json.dumps(choices)}; expected a list of values, or low and high with log "
                "or step"
            )
    return space, problems


def as_number(value: object) -> object:
    """Text that spells a number as that number. YAML reads 5e-5 as text."""
    if isinstance(value, str):
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(value)
    return value


def fits(value: object, kind: str) -> bool:
    """Whether a value is of this kind."""
    if kind == "true or false":
        return isinstance(value, bool)
    if kind.startswith("one of"):
        return value in TRAIN_ON
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return numeric and (kind == "a number" or isinstance(value, int))


def value_problems(place: str, values: Sequence, kind: str) -> list[str]:
    """What is wrong with a list of values."""
    wrong = [value for value in values if not fits(value, kind)]
    if wrong:
        return [f"{place}: found {wrong[0]!r}; each value must be {kind}"]
    if len(set(values)) < len(values):
        return [f"{place}: found a value twice in {values}; give each value once"]
    return []


def bound_problems(place: str, bounds: Mapping, kind: str) -> list[str]:
    """What is wrong with low, high, log and step. Optuna would refuse the same without naming the setting."""
    ends = [bounds[name] for name in ("low", "high", "step") if name in bounds]
    found = f"found {', '.join(map(repr, ends))}"
    if "number" not in kind:
        return [f"{place}: {found}; expected a list of values, each {kind}"]
    if not all(fits(end, kind) for end in ends):
        return [f"{place}: {found}; each must be {kind}"]
    low, high, step, log = (bounds.get(name) for name in ("low", "high", "step", "log"))
    if not low < high:
        return [f"{place}: found low {low:g} and high {high:g}; low must be below high"]
    if not isinstance(log, bool | None) or (log and (low <= 0 or step is not None)):
        return [f"{place}: found log {log} with low {low:g}; log: true needs low above 0 and no step"]
    if step is not None and not 0 < step <= (high - low) * 1.001:  # in floats 0.3 - 0.2 is less than 0.1
        return [f"{place}: found step {step:g}; it must be above 0 and at most high - low"]
    return []


def end_problems(name: str, choices: Choices, run: Sequence) -> list[str]:
    """What run_ner.py's checks say of each value, or of both ends, of one setting."""
    problems, before = [], setting_problems(*run)
    for value in choices if isinstance(choices, list) else (choices["low"], choices["high"]):
        groups = [copy.copy(group) for group in run]
        setattr(holder(name, groups), name, value)
        for problem in setting_problems(*groups):
            if problem.startswith(f"--{name}:"):
                problems.append(f"search_space.{problem.removeprefix('--')}")
            elif problem not in before:  # two settings that do not go together
                problems.append(f"search_space.{name}: with {value}, {problem}")
    return problems


def holder(name: str, groups: Sequence) -> object:
    """The group of arguments that has a setting of this name."""
    return next(group for group in groups if hasattr(group, name))


def suggested(trial: optuna.Trial, name: str, choices: Choices) -> object:
    """The trial's value of one setting."""
    if isinstance(choices, list):
        return trial.suggest_categorical(name, choices)
    whole = all(isinstance(choices.get(end, 1), int) for end in ("low", "high", "step"))
    if whole and (name == "num_train_epochs" or SEARCHABLE[name] == "a whole number"):
        return trial.suggest_int(name, **choices)
    return trial.suggest_float(name, **choices)
