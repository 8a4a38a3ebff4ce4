"""Adversarial training: the step is taken a second time, with the word embeddings moved against the model.

before = gradient_of(model, input_ids)
loss.backward()
with moved_embeddings(model, input_ids, before): loss.backward()   # --adversarial_epochs 1

This is the fast gradient method of Miyato, Dai and Goodfellow (2017), Adversarial Training Methods for
Semi-Supervised Text Classification. The second gradient is added to the first.
"""

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

EPSILON = 0.5  # the Euclidean length of the move of a batch, all its rows of the table together


def gradient_of(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """The gradient that the embeddings of a batch's subtokens have so far. (different subtokens, hidden)"""
    table = model.get_input_embeddings().weight
    rows = input_ids.unique()
    return torch.zeros_like(table[rows]) if table.grad is None else table.grad[rows]


@contextlib.contextmanager
def moved_embeddings(model: PreTrainedModel, input_ids: torch.Tensor, before: torch.Tensor) -> Iterator[None]:
    """Within the block the embeddings of a batch's subtokens are where its loss is larger.

    Args:
        model: after the backward pass of the batch.
        input_ids: the batch, (batch, tokens).
        before: what `gradient_of` returned before that pass: batches of one step add up their gradients.
    """
    table = model.get_input_embeddings().weight  # (vocabulary, hidden)
    rows = input_ids.unique()
    with torch.no_grad():
        kept, direction = table[rows], table.grad[rows] - before
        norm = direction.norm()
        if norm.isfinite() and norm > 0:  # fp16 overflows now and then, and its scaler then skips the step
            table[rows] += (EPSILON / norm) * direction
    try:
        yield
    finally:
        with torch.no_grad():
            table[rows] = kept
