"""Ctrl-C and SIGTERM while the model trains: save a checkpoint after the current step, then stop.

trainer.add_callback(SaveAtSignal())        # after all others
"""

import signal
import sys

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what schedulers send before they kill


class Interrupted(KeyboardInterrupt):
    """A training that was stopped by a signal after it saved a checkpoint. The exit code is the shell's."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + number


class SaveAtSignal(TrainerCallback):
    """Turns the first signal into a checkpoint and an `Interrupted`. A second one stops the process at once.

    Several processes agree after each step, so they save the same step even if only one got the signal.
    """

    def __init__(self):
        self.before: dict[int, object] = {}  # the handlers to restore
        self.received = 0
        self.stopping = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.before = {number: signal.signal(number, self.note) for number in SIGNALS}

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.restore()

    def note(self, number: int, frame: object) -> None:
        self.received = number
        self.restore()
        name = signal.Signals(number).name
        print(f"\n{name}: saving a checkpoint after this step; once more to stop at once", file=sys.stderr)

    def restore(self) -> None:
        """Put the handlers back that were there before the training."""
        while self.before:
            signal.signal(*self.before.popitem())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not float(state.epoch).is_integer():  # at the end of an epoch there may be an evaluation first
            self.agree(args, control)
        return control

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.agree(args, control)
        return control

    on_evaluate = on_epoch_end  # a signal may have come during the evaluation

    def agree(self, args: TrainingArguments, control: TrainerControl) -> None:
        """Save and stop if any process got a signal."""
        if args.world_size > 1:
            received = torch.tensor(self.received, device=args.device)
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
            self.received = int(received)
        if self.received:
            self.stopping = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if self.stopping:
            self.restore()
            checkpoint = f"{args.output_dir}/{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            raise Interrupted(
                self.received,
                f"{checkpoint} was saved; the same command with --resume_from_checkpoint goes on",
            )
