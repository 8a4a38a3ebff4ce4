"""What attacks find on the disk: links, folders, models and checkpoints that are not what they should be.

    make = bad_config(num_attention_heads=0)
    make(here, places)                     # writes here/model

Each maker takes the folder of the attack and the places that all attacks share.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from ner_recipe.checks import parse_arguments

Maker = Callable[[Path, Mapping[str, Path]], None]
FEW_BYTES = 1000
WORDS = "--model_name_or_path no/model --dataset_config_name sample --do_train"


class CannotMakeError(Exception):
    """This machine can't provide what the attack needs."""


def folder(name: str) -> Maker:
    def make(here: Path, places: Mapping[str, Path]) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).mkdir(parents=True)

    return make


def fifo(name: str) -> Maker:
    def make(here: Path, places: Mapping[str, Path]) -> None:
        (here / name).unlink(missing_ok=True)
        os.mkfifo(here / name)

    return make


def loop(name: str) -> Maker:
    def make(here: Path, places: Mapping[str, Path]) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).symlink_to(here / name)

    return make


def bad_link(name: str) -> Maker:
    def make(here: Path, places: Mapping[str, Path]) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).symlink_to(here / "nothing")

    return make


def read_only(name: str) -> Maker:
    """A mount that can't be written to."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        (here / name).mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(here / name)]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
            raise CannotMakeError("nothing can be mounted here (needs root)")

    return make


def bad_config(**changes) -> Maker:
    """The tiny encoder with other values in its config.json; None removes one."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        shutil.copytree(places["bert"], here / "model")
        path = here / "model" / "config.json"
        values = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    return make


def bad_weights(name: str, content: bytes | str | None) -> Maker:
    """The tiny encoder with a file replaced: by `nan`, by `sparse` (a token of a high id), None for half."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        shutil.copytree(places["bert"], here / "model")
        path = here / "model" / name
        if content == "nan":
            weights = load_file(path)
            next(weight for weight in weights.values() if weight.dim() > 1)[0, 0] = torch.nan
            save_file(weights, path, metadata={"format": "pt"})
        elif content == "sparse":
            tokenizer = json.loads(path.read_text())
            tokenizer["model"]["vocab"]["beyond"] = 5000
            path.write_text(json.dumps(tokenizer))
        elif content is None:
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(content)

    return make


def copied_run() -> Maker:
    def make(here: Path, places: Mapping[str, Path]) -> None:
        shutil.copytree(places["trained"], here / "run")

    return make


def copied_model(name: str = "tokenizer_config.json", **changes) -> Maker:
    """A copy of the trained model in here/model with other values in one of its files; None removes one."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        shutil.copytree(places["trained"], here / "model")
        file = here / "model" / name
        values = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return make


def more_labels(*names: str) -> Maker:
    """A copy of the trained model in here/model that has these labels beside its own."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        config = AutoConfig.from_pretrained(places["trained"])
        labels = [*config.id2label.values(), *names]
        head = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
        copied_model("config.json", **head)(here, places)
        file = here / "model" / "model.safetensors"
        weights = load_file(file)
        for name in ("classifier.weight", "classifier.bias"):
            weights[name] = torch.cat([weights[name], weights[name][: len(names)]])
        save_file(weights, file, metadata={"format": "pt"})

    return make


def checkpoint_with(**harm: bytes | None) -> Maker:
    """out/checkpoint-5 with all its files, some of them replaced or (None) removed."""

    def make(here: Path, places: Mapping[str, Path]) -> None:
        checkpoint = here / "out" / "checkpoint-5"
        checkpoint.mkdir(parents=True)
        save_file({"weight": torch.zeros(FEW_BYTES)}, checkpoint / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({"state": torch.zeros(FEW_BYTES)}, checkpoint / name)
        (checkpoint / "trainer_state.json").write_text('{"global_step": 5}')
        began = parse_arguments(shlex.split(f"{WORDS} --output_dir {here / 'other'}"))[2].deciding
        settings = {"settings": {**began, "seed": 7}, "corpus": {}}
        (checkpoint / "run_settings.json").write_text(json.dumps(settings))
        for name, content in harm.items():
            if content is None:
                (checkpoint / name).unlink()
            else:
                (checkpoint / name).write_bytes(content)

    return make
