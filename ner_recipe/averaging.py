"""An average of the weights over the steps: what a training evaluates, saves and ends with.

    average = WeightAverage()
    trainer.add_callback(average)               # --ema_decay 0.997
    with average.applied(): trainer.evaluate()

The optimizer goes on with the weights themselves. They are saved beside the average, to resume with.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

TRAINED_WEIGHTS = "training_weights.safetensors"  # in a checkpoint whose model.safetensors is the average


class WeightAverage(TrainerCallback):
    """Exponential moving average of the parameters, updated after each optimizer step.

    After step t the average moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)), as in
    TensorFlow's ExponentialMovingAverage. Short trainings then forget their first steps too. Without
    `ema_decay` nothing is kept, and nothing changes.
    """

    def __init__(self):
        self.model: PreTrainedModel | None = None
        self.average: list[torch.Tensor] = []  # by parameter; empty if nothing is averaged
        self.resumed = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs,
    ):
        if not self.resumed:
            self.begin(model if args.ema_decay else None)
        self.resumed = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if self.average:
            step = state.global_step
            decay = min(args.ema_decay, (1 + step) / (10 + step))
            weights = [parameter.data for parameter in self.model.parameters()]
            torch._foreach_lerp_(self.average, weights, 1 - decay)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # A best checkpoint holds an average already, and Trainer has restored it.
        if not (args.load_best_model_at_end and state.best_model_checkpoint):
            self.swap()
        self.begin(None)

    def begin(self, model: PreTrainedModel | None) -> None:
        """Average this model's weights from now on, starting with those that it has; without one, none."""
        self.model = model
        self.average = [parameter.detach().clone() for parameter in model.parameters()] if model else []

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights within the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange the weights and their average."""
        if self.average:
            for number, parameter in enumerate(self.model.parameters()):
                self.average[number], parameter.data = parameter.data, self.average[number]

    def save(self, checkpoint: str | Path) -> None:
        """Within `applied`, when this list holds the weights themselves, write them to a checkpoint."""
        if self.average:
            names = [name for name, _ in self.model.named_parameters()]
            save_file(dict(zip(names, self.average, strict=True)), Path(checkpoint, TRAINED_WEIGHTS))

    def resume(self, checkpoint: str | Path, model: PreTrainedModel) -> None:
        """Go on from a checkpoint whose average the model has just loaded."""
        self.begin(model)
        weights = load_file(Path(checkpoint, TRAINED_WEIGHTS))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        self.resumed = True
