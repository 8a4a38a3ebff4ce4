"""Training towards the probabilities of other models: knowledge distillation (Hinton et al. 2015).

    teachers = load_teachers(names, labels, tokenizer, ...)              # --teacher_name_or_path A B C
    windows = with_teachers(windows, teachers, tokenizer, checksum(teachers))
    loss = teacher_loss(logits, batch[TEACHER], count)                   # RoundedPadding pads the column

The probabilities are the mean of all teachers. They are computed once, before the training, and cached beside
the windows. A teacher has the labels of the model and its subtokens.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import datasets
import numpy as np
import torch
from datasets.fingerprint import Hasher
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ner_recipe.batching import TEACHER, batches_by_length, default_batch_tokens, padded_lengths
from ner_recipe.launch import UsageError
from ner_recipe.models import load_trained, model_errors, position_limit, resolve_model

FLAG = "--teacher_name_or_path"
VERSION = 1  # of the column: a new one makes a new cache
ROWS = 1000  # windows that are sorted by length together


class Teacher(NamedTuple):
    """A model, and the place of each of our labels among its own."""

    model: PreTrainedModel
    places: list[int]


def find_teachers(names: Sequence[str], cache_dir: str | None = None) -> None:
    """Read the configuration of each teacher, so that a misspelt name is found before the corpus is read.

    Raises:
        UsageError: there is no such model.
    """
    for name in names:
        with model_errors(name, FLAG):
            AutoConfig.from_pretrained(
                resolve_model(name, FLAG), cache_dir=cache_dir, trust_remote_code=False
            )


def load_teachers(
    names: Sequence[str],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    label_all_tokens: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    cache_dir: str | None = None,
) -> list[Teacher]:
    """The models to learn from, on the device.

    Args:
        names: folders, Hub ids or package:NAME/PATH.
        labels: those to be learnt. A teacher may have them in another order.
        tokenizer: that of the training; its model_max_length is the longest window.
        label_all_tokens: whether every subtoken is labelled.

    Raises:
        UsageError: a teacher can't be loaded, or has other labels, another vocabulary or shorter windows.
    """
    teachers = []
    for name in names:
        model, its_tokenizer = load_trained(resolve_model(name, FLAG), dtype, FLAG, cache_dir)
        known = [model.config.id2label[number] for number in sorted(model.config.id2label)]
        if sorted(known) != sorted(labels):
            raise UsageError(
                f"{FLAG}: '{name}' has the labels {', '.join(known)}; expected {', '.join(labels)}, "
                "those of the data"
            )
        if not same_subtokens(its_tokenizer, tokenizer):
            raise UsageError(
                f"{FLAG}: '{name}' splits words in another way than --model_name_or_path; expected one "
                "with its tokenizer: the same encoder, and the same --add_tokens_min_count on the same text"
            )
        longest = min(position_limit(model), its_tokenizer.model_max_length)
        if longest < tokenizer.model_max_length:
            raise UsageError(
                f"{FLAG}: '{name}' takes {longest} subtokens; expected at least "
                f"{tokenizer.model_max_length}; use --max_seq_length {longest}"
            )
        if label_all_tokens and not getattr(model.config, "label_all_tokens", False):
            raise UsageError(
                f"{FLAG}: the config.json of '{name}' does not say that it was trained on every subtoken "
                "(label_all_tokens); give --label_all_tokens false, or choose another teacher"
            )
        teachers.append(Teacher(model.to(device).eval(), [known.index(label) for label in labels]))
    return teachers


def same_subtokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers have the same vocabulary and the same rules for words."""
    text = "Der IL-2Rα/p55 gene (CD25), NF-kappa B's 5'-flanking DNA; naïve ß-cells, 10^6 \u4e00\u4e8c"
    options = {"is_split_into_words": True, "verbose": False}
    ids = [tokenizer(text.split(), **options)["input_ids"] for tokenizer in (one, other)]
    return one.get_vocab() == other.get_vocab() and ids[0] == ids[1]


def checksum(teachers: Sequence[Teacher]) -> str:
    """Of all that decides the probabilities: weights, configuration, precision and the order of labels."""
    digest = hashlib.sha256(str(VERSION).encode())
    for model, places in teachers:
        config = {**model.config.to_dict(), "_name_or_path": None, "transformers_version": None}
        digest.update(repr((places, model.dtype, sorted(config.items()))).encode())
        for weight in model.state_dict().values():
            digest.update(weight.flatten().cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


def with_teachers(
    windows: datasets.Dataset,
    teachers: Sequence[Teacher],
    tokenizer: PreTrainedTokenizerBase,
    taught_by: str,
) -> datasets.Dataset:
    """Add the column TEACHER: the teachers' mean probabilities of each label for each subtoken.

    A window's are the bytes of an array of float16, shape (tokens, labels). Subtokens without a label have
    zeros. `taught_by` is the checksum of the teachers.
    """
    return windows.map(
        mean_probabilities,
        batched=True,
        batch_size=ROWS,
        features=datasets.Features({**windows.features, TEACHER: datasets.Value("binary")}),
        fn_kwargs={"teachers": teachers, "tokenizer": tokenizer},
        new_fingerprint=Hasher.hash((windows._fingerprint, taught_by)),
        desc="Asking the teachers",
    )


@torch.inference_mode()
def mean_probabilities(
    rows: dict[str, list], teachers: Sequence[Teacher], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[bytes]]:
    """The column TEACHER for some windows, which are read longest first."""
    lengths = np.array([len(ids) for ids in rows["input_ids"]])
    padded = padded_lengths(lengths, tokenizer.model_max_length)
    found = [b""] * len(lengths)
    for batch in batches_by_length(padded, default_batch_tokens(teachers[0].model.device)):
        columns = {name: [rows[name][row] for row in batch] for name in tokenizer.model_input_names}
        options = {"padding": "max_length", "max_length": int(padded[batch[0]])}
        inputs = tokenizer.pad(columns, return_tensors="pt", **options)
        mean = sum(probabilities(teacher, inputs) for teacher in teachers) / len(teachers)
        for row, values in zip(batch, mean.cpu().numpy(), strict=True):  # values: (tokens, labels)
            labelled = np.not_equal(rows["labels"][row], -100)
            values = values[: lengths[row]] * labelled[:, None]
            found[row] = values.astype(np.float16).tobytes()
    return {TEACHER: found}


def probabilities(teacher: Teacher, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Those of one teacher, its labels in our order: (batch, tokens, labels)."""
    logits = teacher.model(**inputs.to(teacher.model.device)).logits.float()
    return logits.softmax(dim=-1)[..., teacher.places]


def teacher_loss(logits: torch.Tensor, teacher: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Cross entropy with the teachers' probabilities, summed and divided by `count`.

    Args:
        logits, teacher: shape (batch, tokens, labels). Rows of zeros in `teacher` add nothing.
        count: the labelled subtokens of the whole optimizer step.
    """
    logits = logits.float().flatten(0, 1)  # (batch * tokens, labels)
    return torch.nn.functional.cross_entropy(logits, teacher.flatten(0, 1), reduction="sum") / count
