"""run.json: where a run's figures come from, for the reports, the recorded results and the model card.

    run_facts(...) before the run, run_record(...) after it

Imports arguments, encoder (for the scheme of names), jnlpba_dataset, report and served.
"""

import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import datasets
import torch
from transformers import Trainer

from arguments import DataArguments, ModelArguments, RecipeArguments
from encoder import PACKAGE_SCHEME
from jnlpba_dataset import corpus_name, source_sha256, split_counts
from report import kept_history, training_facts
from served import STRATEGIES, recommended, serving_stride

ROOT = Path(__file__).resolve().parent
RECORDED_PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "evaluate", "seqeval"),
    "huggingface_hub",
)
# The settings that a card lists; the command in run.json says what else was set.
LISTED_SETTINGS = {
    "data": ("train_on_abstracts", "label_all_tokens", "max_seq_length"),
    "trainer": (
        *("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
        *("gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type", "optim", "weight_decay"),
        *("max_grad_norm", "label_smoothing_factor", "train_sampling_strategy", "metric_for_best_model"),
    ),
    "encoder": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}


class CorpusPart(Protocol):
    """What a record needs of run_ner's Split."""

    name: str
    sentences: datasets.Dataset
    total: int
    windows: datasets.Dataset


def run_facts(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RecipeArguments,
    argv: Sequence[str],
    program: str = "run_ner.py",
) -> dict[str, str]:
    """What every report says of where its figures come from."""
    facts = {
        "model": model_args.model_name_or_path,
        "seed": str(args.seed),
        "precision": args.precision_reason,
        "commit": current_commit(),
        "command": shlex.join([program, *without_token(argv)]),
    }
    protocol = unusual_protocol(data_args)
    return {**facts, "protocol": protocol} if protocol else facts


def unusual_protocol(data_args: DataArguments) -> str | None:
    """What a reader must know where a split that is scored was trained on, or test was used to select."""
    trained, selects = (name.split("+") for name in (data_args.train_split_name, data_args.eval_split_name))
    if "test" in (*trained, *selects):
        return "the test split trained or selected the model: its score is optimistic"
    if set(trained) & set(selects):
        return "the split that selected the model was also trained on: its score is that of training data"
    return None


def without_token(argv: Sequence[str]) -> list[str]:
    """The command line with the value of --hub_token struck out."""
    shown = []
    hide = False
    for word in argv:
        flag = word.split("=")[0].replace("-", "_")
        shown.append("***" if hide else "--hub_token=***" if flag == "__hub_token" and "=" in word else word)
        hide = flag == "__hub_token" and "=" not in word
    return shown


def current_commit() -> str:
    """The commit this file runs from, marked if files differ from it; `unknown` outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with uncommitted changes" if changed.strip() else "")


def device_name(args: RecipeArguments) -> str:
    if args.device.type == "cuda":
        return torch.cuda.get_device_name()
    cpu = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{cpu}, {torch.get_num_threads()} threads" if args.device.type == "cpu" else args.device.type


def run_record(
    model_args: ModelArguments,
    data_args: DataArguments,
    trainer: Trainer,
    splits: Mapping[str, CorpusPart],
    served: Mapping[str, Mapping],
    facts: Mapping[str, str],
) -> dict:
    """run.json: all that a recorded result and a model card need beside the scores.

    `served` holds what served.serve_check returned, by role, validation first.
    """
    args = trainer.args
    kept = kept_history(args, trainer.state)
    base = model_args.model_name_or_path
    sources = {"data": data_args, "trainer": args, "encoder": trainer.model.config}
    return {
        **facts,
        "name": Path(args.output_dir).resolve().name,
        "output_dir": args.output_dir,
        "repository": args.hub_model_id if "/" in (args.hub_model_id or "") else None,
        "revision": args.hub_revision,
        "license": model_args.model_license,
        "base_model": None if base.startswith(PACKAGE_SCHEME) or Path(base).exists() else base,
        "corpus": corpus_name(data_args.data_dir, data_args.dataset_config_name),
        "protocol": facts.get("protocol"),
        "seed": args.seed,
        "processes": args.world_size,
        "device": device_name(args),
        "versions": package_versions(),
        "labels": list(trainer.model.config.id2label.values()),
        "settings": listed_settings(sources),
        "training": training_facts(args, kept) if kept else {},
        "splits": split_records(data_args, splits),
        "max_seq_length": data_args.max_seq_length,
        "stride": serving_stride(data_args.max_seq_length),
        "served": served_record(splits, served),
    }


def listed_settings(sources: Mapping[str, object]) -> dict[str, object]:
    """The settings that a card lists, of what holds them: `data`, `trainer` and `encoder`."""
    return {
        name: plain(getattr(source, name))
        for group, source in sources.items()
        for name in LISTED_SETTINGS[group]
        if hasattr(source, name)
    }


def package_versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {"python": platform.python_version(), **packages}


def plain(value: object) -> object:
    """An enumeration's value; anything else as it is."""
    return getattr(value, "value", value)


def split_records(data_args: DataArguments, splits: Mapping[str, CorpusPart]) -> dict[str, dict]:
    """What was read of the corpus: name, counts, checksums of the content and of the file."""
    sha256 = source_sha256(data_args.data_dir, data_args.dataset_config_name)
    return {
        role: {
            "name": split.name,
            **split_counts(split.sentences),
            "total": split.total,
            "windows": len(split.windows),
            "sha256": " + ".join(sha256[part] for part in split.name.split("+")),
        }
        for role, split in splits.items()
    }


def served_record(splits: Mapping[str, CorpusPart], served: Mapping[str, Mapping]) -> dict | None:
    """The aggregation strategy to recommend, by validation where it was served, and by what it was chosen."""
    if not served:
        return None
    role = next(iter(served))
    return {
        "strategy": recommended(served[role]),
        "chosen_on": splits[role].name,
        "strategies": STRATEGIES,
    }
