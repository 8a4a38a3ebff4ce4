"""Run a program that uses transformers' Trainer, and write down what was computed and when.

    python benchmarks/clock.py times.json run_ner.py configs/quickstart.yaml

The program is not changed. The environment variable START says when the process was started, in seconds since
1970. Without it, time counts from the first line of this file.
"""

import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path

START = float(os.environ.get("START", time.time()))

import torch  # noqa: E402  (the clock starts before the imports)
from transformers import Trainer, TrainerCallback, trainer  # noqa: E402


class Clock(TrainerCallback):
    """Seconds since the start of the process at the events of a training."""

    def __init__(self):
        self.times: dict = {"epochs": [], "evaluations": []}
        self.batches: list[tuple[int, torch.Tensor]] = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.times["epochs"].append([seconds()])

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.times["first_step"] = seconds()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.times["epochs"][-1].append(seconds())

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        found = {"at": seconds(), "seconds": metrics["eval_runtime"]}
        scores = {name: metrics.get(f"eval_{name}") for name in ("f1", "joint_f1")}
        self.times["evaluations"].append(found | scores)

    def record(self) -> dict:
        """Everything that was noted; `computed` and `real` count subtokens with and without padding."""
        computed = sum(size for size, _ in self.batches)
        real = int(sum(count.item() for _, count in self.batches))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
        on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        found = {"steps": len(self.batches), "computed": computed, "real": real, "end": seconds()}
        return {**self.times, **found, "peak_bytes": peak, "gpu_bytes": on_gpu}


def seconds() -> float:
    """Seconds since the start of the process, once the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time() - START


def main(path: str, program: str, *words: str) -> None:
    clock = Clock()
    step = Trainer.training_step

    def counted(self, model, inputs, *rest):
        clock.batches.append((inputs["input_ids"].numel(), inputs["attention_mask"].sum()))
        return step(self, model, inputs, *rest)

    Trainer.training_step = counted
    trainer.DEFAULT_CALLBACKS.append(clock)
    sys.argv = [program, *words]
    sys.path.insert(0, str(Path(program).resolve().parent))
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        if int(os.environ.get("RANK", 0)) == 0:
            Path(path).write_text(json.dumps(clock.record()))


if __name__ == "__main__":
    main(*sys.argv[1:])
