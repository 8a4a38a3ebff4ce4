"""Ctrl-C and SIGTERM while the model trains: save a checkpoint after the current step, then stop.

with save_at_signal(trainer):
    trainer.train()
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what schedulers send before they kill
ONE_REQUEST_SECONDS = 3  # torchrun forwards signals, so its processes may get the same one twice


class Interrupted(KeyboardInterrupt):
    """A training that was stopped by a signal after it saved a checkpoint. The exit code is the shell's."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + number


@contextlib.contextmanager
def save_at_signal(trainer: Trainer) -> Iterator[None]:
    """Within the block a signal saves a checkpoint and raises `Interrupted`; a second one stops at once."""
    callback = SaveAtSignal(trainer.args.world_size)
    before = {number: signal.signal(number, callback.note) for number in SIGNALS}
    trainer.add_callback(callback)
    try:
        yield
    finally:
        trainer.remove_callback(callback)
        for number, handler in before.items():
            signal.signal(number, handler)


class SaveAtSignal(TrainerCallback):
    """Turns a signal into a checkpoint and an `Interrupted`.

    Several processes agree after each step, so they save the same step even if only one got the signal.
    """

    def __init__(self, processes: int):
        self.wait = ONE_REQUEST_SECONDS if processes > 1 else 0
        self.received = 0  # by this process
        self.when = 0.0
        self.agreed = 0  # by all processes: the signal to stop for

    def note(self, number: int, frame: object) -> None:
        if not self.received:
            self.received, self.when = number, time.monotonic()
            name = signal.Signals(number).name
            print(
                f"\n{name}: saving a checkpoint after this step; once more to stop at once", file=sys.stderr
            )
        elif time.monotonic() - self.when >= self.wait:
            raise Interrupted(number, "no checkpoint was saved for this signal")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # At the end of an epoch, and of the training, there may be an evaluation first.
        if not (float(state.epoch).is_integer() or control.should_training_stop):
            self.agree(args, control)
        return control

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.agree(args, control)
        return control

    on_evaluate = on_epoch_end  # a signal may have come during the evaluation

    def agree(self, args: TrainingArguments, control: TrainerControl) -> None:
        """Save and stop if any process got a signal."""
        self.agreed = self.received
        if args.world_size > 1:
            highest = torch.tensor(self.received, device=args.device)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
            self.agreed = int(highest)
        if self.agreed:
            # The loss is logged too: a resumed run would not know that of the steps before.
            control.should_save = control.should_log = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.agree(args, control)
        if not self.agreed:
            return
        if args.world_size > 1:
            torch.distributed.barrier()  # a process that ends first would have the others killed
        checkpoint = f"{args.output_dir}/{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        raise Interrupted(
            self.agreed, f"{checkpoint} was saved; the same command with --resume_from_checkpoint goes on"
        )
