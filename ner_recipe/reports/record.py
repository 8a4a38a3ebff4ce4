"""run.json: where a run's figures come from, for the reports, the card and the recorded results.

facts = run_facts(...)          # before the run
record = run_record(...)        # after it
"""

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import Trainer

from ner_recipe.arguments import DataArguments, ModelArguments, RecipeArguments
from ner_recipe.corpora.splits import Split
from ner_recipe.models import PACKAGE_SCHEME
from ner_recipe.reports.history import kept_history, training_facts

ROOT = Path(__file__).resolve().parents[2]
RECORDED_PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "evaluate", "seqeval"),
    "huggingface_hub",
)
# The settings that the card lists; the command in run.json has any others.
LISTED_SETTINGS = {
    "model": ("add_tokens_min_count",),
    "data": ("train_on", "label_all_tokens", "max_seq_length", "stride"),
    "trainer": (
        *("learning_rate", "num_train_epochs", "max_steps", "train_batch_tokens"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type"),
        *("optim", "weight_decay", "max_grad_norm", "label_smoothing_factor", "train_sampling_strategy"),
        *("ema_decay", "metric_for_best_model"),
    ),
    "encoder": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}
WITHOUT_TRAINING = ("label_all_tokens", "max_seq_length", "stride")


def run_facts(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RecipeArguments,
    argv: Sequence[str],
    program: str = "run_ner.py",
) -> dict[str, str]:
    """The facts about a run that every report states. Facts that are not known are left out."""
    facts = {
        "model": model_args.model_name_or_path,
        "teachers": teacher_names(model_args, args),
        "seed": str(args.seed),
        "precision": args.precision_reason,
        "commit": current_commit(),
        "command": shlex.join([program, *without_token(argv)]),
        "protocol": unusual_protocol(data_args, args.do_train),
    }
    return {name: value for name, value in facts.items() if value is not None}


def teacher_names(model_args: ModelArguments, args: RecipeArguments) -> str | None:
    """The teachers and their part of the loss; None without any, or if nothing is trained."""
    if not (model_args.teacher_name_or_path and args.do_train):
        return None
    return f"{', '.join(model_args.teacher_name_or_path)} (weight {args.distillation_weight:g})"


def unusual_protocol(data_args: DataArguments, do_train: bool) -> str | None:
    """A warning if a scored split was also trained on, or if test selected the model; None if neither."""
    trained, selects = (name.split("+") for name in (data_args.train_split_name, data_args.eval_split_name))
    if not do_train:
        return None
    if "test" in (*trained, *selects):
        return "the test split trained or selected the model, so its score is optimistic"
    if set(trained) & set(selects):
        return "the split that selected the model was also trained on, so its score is that of training data"
    return None


def without_token(argv: Sequence[str]) -> list[str]:
    """The command line with the value of --hub_token replaced by ***."""
    shown = []
    hide = False
    for word in argv:
        flag = word.split("=")[0].replace("-", "_")
        shown.append("***" if hide else "--hub_token=***" if flag == "__hub_token" and "=" in word else word)
        hide = flag == "__hub_token" and "=" not in word
    return shown


def current_commit(root: Path = ROOT) -> str | None:
    """The recipe's own commit, marked if files differ from it; None outside a git checkout of the recipe.

    An installed copy may lie inside another project's repository, whose commit says nothing about the recipe.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        options = {"env": environment, "capture_output": True, "text": True, "check": True}
        return subprocess.run(command, **options).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        git("ls-files", "--error-unmatch", "ner_recipe/reports/record.py")
        changes = " with uncommitted changes" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError):
        return None


def device_name(args: RecipeArguments) -> str:
    """The GPU, or the CPU with its number of threads."""
    if args.device.type == "cuda":
        return torch.cuda.get_device_name()
    cpu = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{cpu}, {threads} thread{'s' * (threads > 1)}" if args.device.type == "cpu" else args.device.type


def run_record(
    model_args: ModelArguments,
    data_args: DataArguments,
    trainer: Trainer,
    splits: Mapping[str, Split],
    facts: Mapping[str, str],
    pipeline: Mapping[str, object],
) -> dict:
    """run.json: everything beside the scores that the card and a recorded result need.

    `pipeline` is how to call `pipeline("ner")` on the model, as serving.pipeline_settings returns it.
    `repository` and `revision` stay null until the run is published.
    """
    args = trainer.args
    base = model_args.model_name_or_path
    sources = {"model": model_args, "data": data_args, "trainer": args, "encoder": trainer.model.config}
    source = next(iter(splits.values())).source
    return {
        "commit": None,
        "protocol": None,
        **facts,
        "name": Path(args.output_dir).resolve().name,
        "output_dir": args.output_dir,
        "repository": None,
        "revision": None,
        "license": model_args.model_license,
        "base_model": None if base.startswith(PACKAGE_SCHEME) or Path(base).exists() else base,
        "corpus": source.name,
        "corpus_license": source.license,
        "seed": args.seed,
        "processes": args.world_size,
        "device": device_name(args),
        "versions": package_versions(),
        "labels": list(trainer.model.config.id2label.values()),
        "settings": listed_settings(sources),
        "training": training_facts(args, kept_history(args, trainer.state)),
        "splits": {role: split_record(split) for role, split in splits.items()},
        "pipeline": dict(pipeline),
    }


def listed_settings(sources: Mapping[str, object]) -> dict[str, object]:
    """The settings in effect that the card lists, from the objects with each group of LISTED_SETTINGS."""
    args = sources["trainer"]
    void = "per_device_train_batch_size" if args.train_batch_tokens else "train_batch_tokens"
    values = {
        name: plain(getattr(source, name, None))
        for group, source in sources.items()
        for name in LISTED_SETTINGS[group]
        if name != void and (args.do_train or name in WITHOUT_TRAINING)
    }
    return {name: value for name, value in values.items() if value is not None}


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that scores depend on."""
    packages = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {"python": platform.python_version(), **packages}


def plain(value: object) -> object:
    """An enumeration's value; anything else as it is."""
    return getattr(value, "value", value)


def split_record(split: Split) -> dict[str, object]:
    """Name, counts and checksums of one split."""
    record = {
        "name": split.name,
        **split.counts,
        "total": split.total,
        "windows": len(split.windows),
        "sha256": " + ".join(split.source.sha256[part] for part in split.name.split("+")),
        "facts": dict(split.facts),
    }
    if split.silver:
        record["silver"] = {"files": split.silver.files, **split.silver.counts}
    if split.taught_by:
        record["taught_by"] = split.taught_by
    return record
