"""Which windows a split becomes, and which of them are trained together.

split = encode_split(split, "train", data_args, tokenizer, cache_dir)
batches = LikeLengthBatches(lengths, seed=1, tokens=1400)
"""

import dataclasses
import itertools
from collections.abc import Iterator

import datasets
import numpy as np
import torch
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import BatchRebalanceSampler

from jnlpba_dataset import column, encode, whole_abstracts
from ner_recipe.arguments import DataArguments
from ner_recipe.corpora.building import label_names
from ner_recipe.corpora.splits import Split
from ner_recipe.launch import UsageError

ROUNDING = 12  # a length is rounded up by less than one part in so many
TEACHER = "teacher"  # a column of the training windows: see distillation.py
ALWAYS = -1  # the `document` of a window that is trained on in each epoch


def encode_split(
    split: Split,
    role: str,
    data_args: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    cache_dir: str | None = None,
) -> Split:
    """Cut a split into windows. Those to be evaluated come longest first, which saves padding."""
    texts = sentences = split.with_silver
    if role == "train":
        texts = training_rows(sentences, data_args.train_on, cache_dir)
    windows = texts.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=texts.column_names,
        num_proc=data_args.preprocessing_num_workers,
        desc=f"Encoding {role}",
        fn_kwargs={
            "tokenizer": tokenizer,
            "max_seq_length": data_args.max_seq_length,
            "stride": data_args.stride,
            "label_all_tokens": data_args.label_all_tokens,
            "label_names": label_names(texts),
        },
    )
    if role != "train":
        windows = windows.select(np.argsort(-numbers(windows, "length"), kind="stable"))
    elif data_args.train_on == "alternate":
        windows = with_documents(windows, sentences, texts)
    return dataclasses.replace(split, windows=windows)


def training_rows(sentences: datasets.Dataset, train_on: str, cache_dir: str | None) -> datasets.Dataset:
    """The texts to train on: the sentences that are asked for, then whole abstracts if they are.

    A sentence that is its whole abstract, or whose abstract is unknown, is always there.
    """
    if train_on == "sentences":
        return sentences
    if train_on == "abstracts":
        alone = np.flatnonzero(repeated_documents(sentences) == ALWAYS)
        return datasets.concatenate_datasets([sentences.select(alone), whole_abstracts(sentences, cache_dir)])
    return datasets.concatenate_datasets([sentences, whole_abstracts(sentences, cache_dir)])


def repeated_documents(sentences: datasets.Dataset) -> np.ndarray:
    """The number of each sentence's document; ALWAYS if unknown or with no other sentence. (sentences,)"""
    documents = np.full(len(sentences), ALWAYS, dtype=np.int32)
    start = 0
    for number, (name, rows) in enumerate(itertools.groupby(column(sentences, "document_id"))):
        size = sum(1 for _ in rows)
        if name is not None and size > 1:
            documents[start : start + size] = number
        start += size
    return documents


def with_documents(
    windows: datasets.Dataset, sentences: datasets.Dataset, texts: datasets.Dataset
) -> datasets.Dataset:
    """Add two columns: the document of each window (or ALWAYS), and whether it shows a whole abstract."""
    documents = repeated_documents(sentences)
    whole = np.unique(documents[documents != ALWAYS])  # the abstracts, in the order of the corpus
    of_text = np.concatenate([documents, whole])
    if len(of_text) != len(texts):
        raise RuntimeError("the abstracts to train on are not those of the corpus")
    rows = numbers(windows, "sentence")
    windows = windows.add_column("document", of_text[rows])
    return windows.add_column("whole", rows >= len(sentences))


def numbers(windows: datasets.Dataset, name: str) -> np.ndarray:
    """One column of numbers. (windows,)"""
    return windows.select_columns(name).with_format("numpy")[:][name]


def presentations(windows: datasets.Dataset, seed: int) -> list[np.ndarray]:
    """The rows of each kind of epoch: all; or, to alternate, those of even and of odd epochs.

    Half of the abstracts, drawn by the seed, are whole in even epochs and cut into sentences in odd ones. The
    others take the other turn. So each abstract is shown once an epoch, and in both forms within two.
    """
    if "document" not in windows.column_names:
        return [np.arange(len(windows))]
    document, whole = numbers(windows, "document"), numbers(windows, "whole")
    known = np.unique(document[document != ALWAYS])
    turn = np.zeros(document.max(initial=0) + 1, dtype=np.int8)  # by document
    turn[known] = np.random.default_rng(seed).permutation(len(known)) % 2
    return [np.flatnonzero((document == ALWAYS) | ((turn[document] == epoch) == whole)) for epoch in range(2)]


def padded_lengths(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Lengths as batches are padded to: rounded up by at most a twelfth, and not beyond `longest`.

    oneDNN, for CPUs, compiles and keeps the matrix products of each shape. Few lengths mean few shapes.
    """
    step = 2 ** np.log2(np.maximum(lengths / ROUNDING, 1)).astype(int)
    return np.minimum(-(-lengths // step) * step, longest)


class RoundedPadding(DataCollatorForTokenClassification):
    """Pads a batch to `padded_lengths`, and the teachers' probabilities with zeros."""

    def torch_call(self, features: list[dict]) -> dict[str, torch.Tensor]:
        taught = [row.pop(TEACHER) for row in features if TEACHER in row]
        lengths = np.array([len(row["input_ids"]) for row in features])
        self.padding = "max_length"
        self.max_length = int(padded_lengths(lengths.max(), self.tokenizer.model_max_length))
        batch = super().torch_call(features)
        if taught:
            tables = [np.frombuffer(held, np.float16) for held in taught]
            batch[TEACHER] = torch.zeros(len(taught), self.max_length, len(tables[0]) // lengths[0])
            for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
                values = table.astype(np.float32).reshape(length, -1)  # (tokens, labels)
                batch[TEACHER][row, :length] = torch.from_numpy(values)
        return batch


class LikeLengthBatches(BatchRebalanceSampler):
    """Batches of windows of like length, in an order that depends on the seed and the epoch alone.

    Every process plans the same batches and takes its share. A batch holds up to `rows` windows, or as many
    as fit into `tokens` subtokens, padding included. Windows of one length are drawn in random order. The
    batches of one optimizer step are neighbours in length. The steps are shuffled, but the longest windows
    come first, which shows at once whether the memory suffices, and the shortest last.

    Trainer and accelerate leave batches as they are only for a BatchRebalanceSampler, whose own planning (by
    rows, from the global random state) is not used. Every epoch has the same number of batches, because
    Trainer counts steps by it. Where nearly every batch is a single window, an epoch of fewer windows than
    batches repeats some.

    Args:
        lengths: subtokens of each window, padding included. (windows,)
        seed: of the order.
        shown: the windows of each kind of epoch, taken in turn. All in each epoch if not given.
        rows, tokens: the size of a batch; exactly one of the two.
        accumulate: batches of one process in an optimizer step.
        processes, process: how many processes train, and the number of this one.

    Raises:
        UsageError: a window exceeds `tokens`, or there are fewer windows than processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        seed: int,
        shown: list[np.ndarray] | None = None,
        rows: int | None = None,
        tokens: int | None = None,
        accumulate: int = 1,
        processes: int = 1,
        process: int = 0,
    ):
        self.lengths, self.seed, self.epoch = np.asarray(lengths), seed, 0
        self.shown = [np.arange(len(lengths))] if shown is None else shown
        self.rows, self.tokens = rows, tokens
        self.accumulate, self.processes, self.process = accumulate, processes, process
        if tokens is not None and self.lengths.max() > tokens:
            raise UsageError(
                f"--train_batch_tokens: {tokens} is less than the longest window, {self.lengths.max()} "
                f"subtokens with its padding; use at least {self.lengths.max()}, or a smaller "
                "--max_seq_length"
            )
        needed = max(len(self.batch_sizes(windows)) for windows in self.shown)
        self.batches = -(-needed // processes) * processes  # of all processes, in an epoch
        fewest = min(map(len, self.shown))
        if fewest < processes:
            raise UsageError(
                f"found {fewest} windows to train on in an epoch; expected at least one for each of the "
                f"{processes} processes; use fewer processes"
            )

    def __len__(self) -> int:
        return self.batches // self.processes

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this process, as row numbers."""
        generator = np.random.default_rng((self.seed, self.epoch))
        windows = generator.permutation(self.shown[self.epoch % len(self.shown)])
        windows = np.resize(windows, max(len(windows), self.batches))
        windows = windows[np.argsort(-self.lengths[windows], kind="stable")]
        ends = np.cumsum(split_largest(self.batch_sizes(windows), self.batches))
        batches = np.split(windows, ends[:-1])
        together = self.accumulate * self.processes
        steps = -(-len(batches) // together)
        # The last step may have fewer batches, and Trainer expects such a step at the end of an epoch.
        between = generator.permutation(max(steps - 2, 0)) + 1
        for step in [0, *between, *range(max(steps - 1, 1), steps)]:
            for batch in batches[step * together : (step + 1) * together][self.process :: self.processes]:
                yield batch.tolist()

    def batch_sizes(self, windows: np.ndarray) -> list[int]:
        """The number of windows in each batch if the batches are filled from the longest window on."""
        return batch_sizes(-np.sort(-self.lengths[windows]), self.tokens, self.rows)


def batch_sizes(lengths: np.ndarray, tokens: int | None, rows: int | None = None) -> list[int]:
    """The number of windows in each batch of up to `rows`, or `tokens` subtokens, padding included.

    `lengths` are those of the windows, longest first. A batch has at least one window.
    """
    sizes, start = [], 0
    while start < len(lengths):
        fitting = rows or max(1, tokens // int(lengths[start]))
        sizes.append(min(fitting, len(lengths) - start))
        start += sizes[-1]
    return sizes


def batches_by_length(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Windows, longest first, in batches of up to `tokens` subtokens, padding included; at least one."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    for size in batch_sizes(lengths[order], tokens):
        yield order[start : start + size]
        start += size


def default_batch_tokens(device: torch.device) -> int:
    """Subtokens in a batch: what fits a CPU's caches, or more on a GPU."""
    return 1024 if device.type == "cpu" else 16384


def split_largest(sizes: list[int], count: int) -> list[int]:
    """Halve the largest of the sizes until there are `count`. Their order and their sum stay the same."""
    sizes = list(sizes)
    while len(sizes) < count:
        largest = int(np.argmax(sizes))
        sizes[largest : largest + 1] = [-(-sizes[largest] // 2), sizes[largest] // 2]
    return sizes
