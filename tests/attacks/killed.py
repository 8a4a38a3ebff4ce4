"""Runs of a command that end in SIGKILL: some seconds after its work began, or as a certain file is touched.

    runs = KillableRuns(scratch)
    code = runs.run(words, folder, Kill(after_events=40))

The command's main() runs in a new process, forked from one that has imported everything: a run takes seconds.
"""

import dataclasses
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file

from ner_recipe.checkpoints import LOCK, last_checkpoint
from ner_recipe.tuning import search

REPO = Path(__file__).resolve().parents[2]
# The clock of a kill starts with this function of a command. A flag names its folder.
BEGINS = {
    "run_ner": ("train", "--output_dir"),
    "hyperparameter_search": ("open_study", "--search_dir"),
    "lr_range_test": ("sweep_all", "--range_test_dir"),
    "ner_recipe.publishing": ("publish_run", None),
}
FILE_EVENTS = ("open", "sqlite3.connect", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
# What a resumed run can't repeat: clocks, and where it was started.
CLOCKS = ("runtime", "per_second", "seconds", "command", "resum", "best_model_checkpoint", "_dir")


ENDS = {".png": b"IEND\xaeB`\x82", ".svg": b"</svg>"}


@dataclasses.dataclass(frozen=True)
class Kill:
    """When the process kills itself: so many seconds after its work began, or at an event with a file."""

    after_seconds: float | None = None
    after_events: int | None = None


class KillableRuns:
    """Starts runs; `scratch` gets what they print."""

    def __init__(self, scratch: Path):
        self.scratch = scratch
        self.number = 0
        self.started: list[multiprocessing.Process] = []
        os.environ["PYTHONPATH"] = f"{REPO}:{Path(__file__).parent}"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["killed", *BEGINS])

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        kill: Kill | None = None,
        processes: int = 1,
        program: str = "run_ner",
        hub: tuple[str, str] | None = None,
    ) -> int:
        """The exit code, -9 after a kill. Of several processes the first one is killed, then the others.

        `hub` is the address of a Hub, and a token for it.
        """
        self.number += 1
        folder.parent.mkdir(exist_ok=True)
        port = free_port() if processes > 1 else 0
        flag = BEGINS[program][1]
        words = [*words, flag, str(folder)] if flag else words
        self.started = [
            self.context.Process(
                target=run_and_die,
                args=(words, folder, kill if rank == 0 else None, self.scratch / f"{self.number}.{rank}"),
                kwargs={"process": (rank, processes, port), "program": program, "hub": hub},
            )
            for rank in range(processes)
        ]
        for process in self.started:
            process.start()
        self.started[0].join()
        for process in self.started[1:]:
            if self.started[0].exitcode == -signal.SIGKILL:
                process.kill()
            process.join()
        return self.started[0].exitcode

    def said(self) -> str:
        """What the first process of the last run printed."""
        return (self.scratch / f"{self.number}.0").read_text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_and_die(
    words: Sequence[str],
    folder: Path,
    kill: Kill | None,
    output: Path,
    process: tuple[int, int, int],
    program: str,
    hub: tuple[str, str] | None,
) -> None:
    """In the new process: run the command, and die at the moment."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    rank, processes, port = process
    if processes > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    if hub:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
        constants.ENDPOINT, os.environ["HF_TOKEN"] = hub
    search.HEARTBEAT_SECONDS, search.GRACE_SECONDS = 1, 4  # the next process soon runs a dead trial again
    module = importlib.import_module(program)
    begins = getattr(module, BEGINS[program][0])
    clock = {}
    count = threading.local()
    count.events = 0

    def watch(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(str(folder)):
            count.events = getattr(count, "events", 0) + 1
            if kill and count.events == kill.after_events:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched(*arguments: object, **options: object) -> object:
        clock["began"] = time.perf_counter()
        if kill and kill.after_seconds is not None:
            threading.Thread(target=die_after, args=(kill.after_seconds,), daemon=True).start()
        return begins(*arguments, **options)

    setattr(module, BEGINS[program][0], watched)
    if program == "run_ner":
        keep_the_last_checkpoint(module, folder)
    sys.addaudithook(watch)
    code = module.main(words)
    if clock:
        folder.with_suffix(".seconds").write_text(str(time.perf_counter() - clock["began"]))
    folder.with_suffix(".events").write_text(str(count.events))
    sys.exit(code)


def keep_the_last_checkpoint(run_ner: ModuleType, folder: Path) -> None:
    """Have run_ner.py copy its last checkpoint before it deletes it."""
    deletes = run_ner.delete_checkpoints

    def kept_then_deleted(output_dir: str) -> None:
        if (last := last_checkpoint(output_dir)) and not folder.with_suffix(".last").exists():
            shutil.copytree(last, folder.with_suffix(".part"), dirs_exist_ok=True)
            folder.with_suffix(".part").rename(folder.with_suffix(".last"))
        deletes(output_dir)

    run_ner.delete_checkpoints = kept_then_deleted


def die_after(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def without_clocks(value: object) -> object:
    """JSON without the entries that a clock makes."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if not any(clock in name for clock in CLOCKS)}
        return {name: without_clocks(one) for name, one in kept.items()}
    return [without_clocks(one) for one in value] if isinstance(value, list) else value


def everything(folder: Path) -> dict[str, object]:
    """All that two runs must have in common, in a form that can be compared with ==.

    A run that is killed at its very end leaves its lock, an empty file that locks nothing.
    """
    last = folder.with_suffix(".last")
    names = {path.name for path in folder.iterdir()} - {LOCK}
    found: dict[str, object] = {"files": sorted(names)}
    for path in (folder / "model.safetensors", *sorted(last.glob("*.safetensors"))):
        for name, weight in load_file(path).items():
            found[f"{path.parent.suffix}{path.name}: {name}"] = weight.numpy().tobytes()
    for path in (*sorted(last.glob("*.pt")), *sorted(last.glob("rng_state*.pth"))):
        found[path.name] = flat(torch.load(path, weights_only=False))
    for path in sorted(folder.glob("*.json")):
        for name, value in without_clocks(json.loads(path.read_text())).items():
            found[f"{path.name}: {name}"] = value
    for path in sorted(folder.glob("predictions_*.tsv")):
        found[path.name] = path.read_bytes()
    return found


def search_end(folder: Path) -> dict[str, object]:
    """What two searches must have in common.

    A trial that is run again gets another number, and may come after others, because its process must be
    silent first.
    """
    best = (folder / "best.yaml").read_text().replace(str(folder), "")
    finished = [row for row in json.loads((folder / "trials.json").read_text()) if row["state"] != "fail"]
    rows = [row for row in finished if row["state"] != "running"]  # one whose process died as it began
    return {
        "files": sorted(path.name for path in folder.iterdir() if path.name != "trials.db-journal"),
        "best": re.sub(r"Trial \d+", "Trial", best),
        "trials": sorted(({**without_clocks(row), "number": None} for row in rows), key=json.dumps),
    }


def range_test_end(folder: Path) -> dict[str, object]:
    """What two range tests must have in common: every point, the suggestions, and the picture."""
    numbers = without_clocks(json.loads((folder / "lr_range_test.json").read_text()))
    picture = (folder / "lr_range_test.png").read_bytes()
    return {"files": sorted(path.name for path in folder.iterdir()), "picture": picture, **numbers}


def half_written(folder: Path) -> list[str]:
    """The results in a folder that were cut short. A file that is still being written is called .part."""
    found = []
    for path in folder.iterdir() if folder.exists() else ():
        content = path.read_bytes()
        if path.suffix in (".json", ".yaml"):
            whole = yaml.safe_load(content) is not None
        else:
            whole = content.rstrip().endswith(ENDS.get(path.suffix, b""))
        found += [] if whole else [path.name]
    return found


def flat(value: object) -> object:
    """Tensors and arrays as bytes, at any depth."""
    if isinstance(value, dict):
        return {str(name): flat(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [flat(one) for one in value]
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    return value.tobytes() if hasattr(value, "tobytes") else value


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The names of what two runs do not have in common."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
