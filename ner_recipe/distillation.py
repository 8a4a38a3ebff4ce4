"""Training towards the probabilities of other models: knowledge distillation (Hinton et al. 2015).

    teachers = load_teachers(names, labels, tokenizer, ...)      # --teacher_name_or_path A B C
    windows = with_teachers(windows, teachers, tokenizer)        # a column that RoundedPadding pads
    loss = teacher_loss(logits, batch[TEACHER], count)

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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ner_recipe.batching import TEACHER, batch_sizes
from ner_recipe.launch import UsageError
from ner_recipe.models import load_trained, resolve_model

FLAG = "--teacher_name_or_path"
BATCH_TOKENS = 2048  # subtokens that a teacher reads at once, padding included
ROWS = 1000  # windows that are sorted by length together


class Teacher(NamedTuple):
    """A model, and the place of each of our labels among its own."""

    model: PreTrainedModel
    places: list[int]


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
        known = [model.config.id2label[number] for number in range(model.config.num_labels)]
        if set(known) != set(labels):
            raise UsageError(
                f"{FLAG}: '{name}' has the labels {', '.join(known)}; expected {', '.join(labels)}, "
                "those of the data"
            )
        if not same_subtokens(its_tokenizer, tokenizer):
            raise UsageError(
                f"{FLAG}: '{name}' splits words in another way than --model_name_or_path; expected a model "
                "that was trained from the same encoder, or one with its tokenizer"
            )
        if its_tokenizer.model_max_length < tokenizer.model_max_length:
            raise UsageError(
                f"{FLAG}: '{name}' takes {its_tokenizer.model_max_length} subtokens; expected at least "
                f"{tokenizer.model_max_length}; use --max_seq_length {its_tokenizer.model_max_length}"
            )
        if label_all_tokens and not getattr(model.config, "label_all_tokens", True):
            raise UsageError(
                f"{FLAG}: '{name}' was trained with --label_all_tokens false; give the same flag here, or "
                "choose another teacher"
            )
        teachers.append(Teacher(model.to(device).eval(), [known.index(label) for label in labels]))
    return teachers


def same_subtokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers have the same vocabulary and the same rules for words."""
    text = "Der IL-2Rα/p55 gene (CD25), NF-kappa B's 5'-flanking DNA; naïve ß-cells, 10^6 \u4e00\u4e8c"
    ids = [tokenizer(text.split(), is_split_into_words=True)["input_ids"] for tokenizer in (one, other)]
    return one.get_vocab() == other.get_vocab() and ids[0] == ids[1]


def fingerprint(teachers: Sequence[Teacher]) -> str:
    """A checksum of the weights, and of the precision in which they are used."""
    digest = hashlib.sha256()
    for teacher in teachers:
        digest.update(repr((teacher.places, teacher.model.dtype)).encode())
        for weight in teacher.model.parameters():
            digest.update(weight.detach().flatten().cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


def with_teachers(
    windows: datasets.Dataset, teachers: Sequence[Teacher], tokenizer: PreTrainedTokenizerBase
) -> datasets.Dataset:
    """Add the column TEACHER: the teachers' mean probabilities of each label for each subtoken.

    It is flat, (tokens * labels,), in float16. Subtokens without a label have zeros.
    """
    features = datasets.Features({**windows.features, TEACHER: datasets.List(datasets.Value("float16"))})
    return windows.map(
        mean_probabilities,
        batched=True,
        batch_size=ROWS,
        features=features,
        fn_kwargs={"teachers": teachers, "tokenizer": tokenizer},
        new_fingerprint=Hasher.hash((windows._fingerprint, fingerprint(teachers))),
        desc="Asking the teachers",
    )


@torch.inference_mode()
def mean_probabilities(
    rows: dict[str, list], teachers: Sequence[Teacher], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[np.ndarray]]:
    """The column TEACHER for some windows, which are read longest first."""
    lengths = np.array([len(ids) for ids in rows["input_ids"]])
    order = np.argsort(-lengths, kind="stable")
    found: list[np.ndarray] = [np.empty(0)] * len(lengths)
    ends = np.cumsum(batch_sizes(lengths[order], BATCH_TOKENS))
    for batch in np.split(order, ends[:-1]):
        columns = {name: [rows[name][row] for row in batch] for name in tokenizer.model_input_names}
        inputs = tokenizer.pad(columns, return_tensors="pt")
        mean = sum(probabilities(teacher, inputs) for teacher in teachers) / len(teachers)
        for row, values in zip(batch, mean.cpu().numpy(), strict=True):  # values: (tokens, labels)
            labelled = np.not_equal(rows["labels"][row], -100)
            values = values[: lengths[row]] * labelled[:, None]
            found[row] = values.astype(np.float16).ravel()
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
