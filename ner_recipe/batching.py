"""Which windows a split becomes, and which of them are trained together.

split = encode_split(split, "train", data_args, tokenizer)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer_pt_utils import get_length_grouped_indices

from jnlpba_dataset import encode, with_abstracts
from ner_recipe.arguments import DataArguments
from ner_recipe.corpora import Split, label_names


def encode_split(
    split: Split, role: str, data_args: DataArguments, tokenizer: PreTrainedTokenizerBase
) -> Split:
    """Cut a split into windows. Those to be evaluated come longest first, which saves padding."""
    sentences = split.sentences
    if role == "train" and data_args.train_on_abstracts:
        sentences = with_abstracts(sentences)
    windows = sentences.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=sentences.column_names,
        num_proc=data_args.preprocessing_num_workers,
        desc=f"Encoding {role}",
        fn_kwargs={
            "tokenizer": tokenizer,
            "max_seq_length": data_args.max_seq_length,
            "stride": data_args.stride,
            "label_all_tokens": data_args.label_all_tokens,
            "label_names": label_names(sentences),
        },
    )
    if role != "train":
        windows = windows.select(np.argsort(-np.array(windows["length"]), kind="stable"))
    return dataclasses.replace(split, windows=windows)


class LikeLengthSampler(torch.utils.data.Sampler):
    """Batches of like length in an order that depends on the seed and the epoch alone.

    transformers' own sampler draws from the global random state, which dropout advances: processes on a CPU
    then disagree about the order from the second epoch on and train on some rows twice. It also leaves
    batches sorted within each stretch of fifty. Here whole batches are shuffled, except the first, which
    holds the longest row.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = [indices[i : i + self.batch_size] for i in range(0, len(indices), self.batch_size)]
        full = len(batches) - (len(batches[-1]) < self.batch_size)
        order = torch.randperm(max(full - 1, 0), generator=generator) + 1
        for batch in [0, *order.tolist(), *range(max(full, 1), len(batches))]:
            yield from batches[batch]
