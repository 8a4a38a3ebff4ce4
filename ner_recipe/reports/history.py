"""What Trainer's log history says: which model was kept, its epoch and its losses.

facts = training_facts(args, kept_history(args, trainer.state))
"""

from collections.abc import Mapping, Sequence

from transformers import TrainerState, TrainingArguments

History = Sequence[Mapping[str, float]]


def improves(args: TrainingArguments, state: TrainerState, metrics: Mapping[str, float]) -> bool:
    """Whether the model just evaluated is the one to keep, by the rule that Trainer applies right afterwards.

    Where the best model is not restored at the end, the latest is kept.
    """
    if not args.load_best_model_at_end or state.best_metric is None:
        return True
    value = metrics["eval_" + args.metric_for_best_model.removeprefix("eval_")]
    return value > state.best_metric if args.greater_is_better else value < state.best_metric


def kept_history(args: TrainingArguments, state: TrainerState) -> History:
    """The log history up to the evaluation of the model that was kept; empty if it was never evaluated."""
    step = state.best_global_step if args.load_best_model_at_end else state.global_step
    for end, entry in enumerate(state.log_history, start=1):
        if "eval_loss" in entry and entry["step"] == step:
            return state.log_history[:end]
    return []


def training_facts(args: TrainingArguments, history: History) -> dict[str, str]:
    """Epoch and losses of the evaluation that ends this history; nothing if the history is empty."""
    if not history:
        return {}
    evaluation, loss = history[-1], training_loss(history)
    kept = f"best epoch by {args.metric_for_best_model}" if args.load_best_model_at_end else "epoch"
    return {
        kept: f"{evaluation['epoch']:g} (step {evaluation['step']:,})",
        "training loss": "not logged"
        if loss is None
        else f"{loss:.4f} (mean since the evaluation before it)",
        "validation loss": loss_text(evaluation["eval_loss"]),
    }


def loss_text(loss: float) -> str:
    return f"{loss:.4f} (mean over labelled subtokens)"


def mean_loss(history: History, since: int = 0) -> float | None:
    """Mean training loss per step, of what was logged from entry `since` on; None if nothing was."""
    total = steps = logged = 0
    for number, entry in enumerate(history):
        if "loss" not in entry:
            continue
        if number >= since:
            total += entry["loss"] * (entry["step"] - logged)
            steps += entry["step"] - logged
        logged = entry["step"]
    return total / steps if steps else None


def training_loss(history: History) -> float | None:
    """Mean training loss per step since the last evaluation but one; None if nothing was logged."""
    before = history[:-1]
    evaluations = [number for number, entry in enumerate(before) if "eval_loss" in entry]
    return mean_loss(before, since=evaluations[-1] if evaluations else 0)
