"""manifest.json: what an output folder was begun with, so that nothing else goes on in it.

claim(folder, manifest_of(...))
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import torch

from jnlpba_dataset import FULL
from ner_recipe.annotation.onnx_model import MODEL, runtime
from ner_recipe.annotation.plan import InputFile, sha256
from ner_recipe.annotation.settings import Settings
from ner_recipe.launch import UsageError
from ner_recipe.reports.files import write_text
from ner_recipe.serving import JOINT, ONNX, TORCH

MANIFEST = "manifest.json"
PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
SCORES = {"scores of joint decoding": "2"}  # probabilities of entities; 1 were means over their words
# What tokenizer and model are loaded from. The reports of a run lie beside it.
TOKENIZER_FILES = (
    *("tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model"),
)
WEIGHTS = {TORCH: ("*.safetensors", "*.safetensors.index.json"), ONNX: (MODEL, f"{MODEL}.data")}


def manifest_of(name: str, folder: Path, settings: Settings, files: Sequence[InputFile]) -> dict:
    """Hashes of the model's files and of the inputs, versions, and the settings."""
    paths = {path for pattern in model_files(settings.backend) for path in folder.glob(pattern)}
    return {
        "model": {"name": name, "files": {path.name: sha256(path) for path in sorted(paths)}},
        "versions": package_versions(settings),
        "settings": {
            **dataclasses.asdict(settings),
            "convert_to": list(settings.convert_to),
            "device": torch.device(settings.device).type,
        },
        "inputs": {
            file.path: {"bytes": file.bytes, "sha256": file.sha256, "name": file.name} for file in files
        },
    }


def package_versions(settings: Settings) -> dict[str, str]:
    """The versions of the packages that may change the bytes of the output. Parquet names its writer's."""
    names = (*PACKAGES, *(["pyarrow"] if settings.output_format == "parquet" else []))
    versions = {name: importlib.metadata.version(name) for name in names}
    versions |= {"onnxruntime": runtime().__version__} if settings.backend == ONNX else {}
    return versions | (SCORES if settings.decoding == JOINT else {})


def model_files(backend: str) -> list[str]:
    """Patterns of the names of the files that a model is loaded from."""
    return ["config.json", *TOKENIZER_FILES, *WEIGHTS[backend]]


def claim(folder: Path, manifest: dict) -> None:
    """Write the manifest into a new or empty folder, or check that the folder was begun with the same one.

    Raises:
        UsageError: another model, other settings or inputs; somebody's own files; no place to write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_foreign_files(folder)
        with filelock.FileLock(folder / ".manifest.lock"):
            if not (folder / MANIFEST).exists():
                write_text(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
                return
            begun = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UsageError(f"--output_dir: {folder}: {error.strerror}; expected a folder to write to") from None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{folder / MANIFEST}: {error}; expected the manifest of annotate.py") from None
    try:
        found = list(differences(begun, manifest))
    except (KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{folder / MANIFEST}: expected the manifest of annotate.py; use another folder"
        ) from None
    if found:
        more = f"\n  and {len(found) - 5} more" if len(found) > 5 else ""
        raise UsageError(
            f"--output_dir: {folder} was begun differently:\n  "
            + "\n  ".join(found[:5])
            + more
            + "\n  Use the same model, settings and inputs to go on, or another folder"
        )


def refuse_foreign_files(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    other = sorted(names - {f"{MANIFEST}.part"})  # which a kill may leave
    if other and MANIFEST not in other:
        raise UsageError(
            f"--output_dir: {folder} holds {other[0]} and no {MANIFEST}; expected a new or empty folder, "
            "or one that annotate.py wrote"
        )


def differences(begun: dict, now: dict) -> Iterator[str]:
    """Each difference, as a line."""
    before, after = begun["model"]["files"], now["model"]["files"]
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        names = f"{begun['model']['name']}, now {now['model']['name']}"
        yield f"the model ({names}): {', '.join(changed)} differ"
    for name, version in now["versions"].items():
        if begun["versions"].get(name) != version:
            yield f"{name}: begun with version {begun['versions'].get(name)}, now {version}"
    for name, value in now["settings"].items():
        if begun["settings"].get(name) != value:
            yield f"--{name}: begun with {begun['settings'].get(name)}, now {value}"
    before, after = begun["inputs"], now["inputs"]
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield f"{path}: is not among the inputs any more"
        elif path not in before:
            yield f"{path}: is a new input"
        elif before[path]["name"] != after[path]["name"]:
            names = f"{before[path]['name']}, now {after[path]['name']}"
            yield f"{path}: is named {names} in ids; give the inputs as before"
        elif before[path] != after[path]:
            yield f"{path}: has changed"
