"""Adversarial training without a second pass: embeddings are moved along the gradients of earlier steps.

moves = EmbeddingMoves()
trainer.add_callback(moves)                          # --adversarial_epsilon 0.5
with moves.applied(model, input_ids): model(input_ids, ...).loss.backward()

The fast gradient method of Miyato, Dai and Goodfellow (2017, Adversarial Training Methods for
Semi-Supervised Text Classification) moves the embeddings along the gradient of the same batch, for which it
computes each batch twice. Here a subtoken is moved along the gradient of the last step that it was in.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LAST_GRADIENTS = "embedding_gradients.safetensors"  # in a checkpoint


class EmbeddingMoves(TrainerCallback):
    """Moves the word embeddings of a batch to where the loss is larger, and back after the backward pass.

    All rows of the batch together move by `adversarial_epsilon`, a Euclidean length. With 0 nothing is kept,
    and nothing changes. The gradients are those of a whole step, clipped, so every process keeps the same.
    """

    def __init__(self):
        self.gradients: torch.Tensor | None = None  # the last of each row that is not 0: (vocabulary, hidden)
        self.epsilon = 0.0
        self.resumed = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs,
    ):
        self.epsilon = args.adversarial_epsilon
        if not self.resumed:
            self.gradients = torch.zeros_like(table_of(model)) if self.epsilon else None
        self.resumed = False

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs,
    ):
        if self.gradients is not None:
            gradient = table_of(model).grad
            rows = gradient.any(dim=1).nonzero().squeeze(1)
            found = gradient[rows]
            if found.isfinite().all():  # fp16 overflows now and then, and its scaler then skips the step
                self.gradients[rows] = found

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.gradients = None

    @contextlib.contextmanager
    def applied(self, model: PreTrainedModel, input_ids: torch.Tensor) -> Iterator[None]:
        """Within the block the embeddings of a batch, (batch, tokens), are moved."""
        if self.gradients is None:
            yield
            return
        table, rows = table_of(model), input_ids.unique()
        with torch.no_grad():
            kept, move = table[rows], self.gradients[rows]
            table[rows] += self.epsilon * torch.nn.functional.normalize(move.flatten(), dim=0).view_as(move)
        try:
            yield
        finally:
            with torch.no_grad():
                table[rows] = kept

    def bytes(self) -> int:
        """The size of what `save` writes."""
        return 0 if self.gradients is None else self.gradients.nbytes

    def save(self, checkpoint: str | Path) -> None:
        if self.gradients is not None:
            save_file({"gradients": self.gradients}, Path(checkpoint, LAST_GRADIENTS))

    def resume(self, checkpoint: str | Path, device: torch.device) -> None:
        """Go on from a checkpoint, before the training begins."""
        self.gradients = load_file(Path(checkpoint, LAST_GRADIENTS), device=str(device))["gradients"]
        self.resumed = True


def table_of(model: PreTrainedModel) -> torch.nn.Parameter:
    """The word embeddings: (vocabulary, hidden)."""
    return model.get_input_embeddings().weight
