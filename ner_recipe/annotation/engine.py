"""A model that answers chunks of texts with entities: the Annotator, or the stock pipeline.

engine = load_engine(local_folder("outputs/quickstart", None), settings)
for answers in engine.annotate_chunks([["Interleukin-4 induces GATA-3."]]): ...
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    pipeline,
)

from jnlpba_dataset import require_fast
from ner_recipe.annotation.manifest import model_files
from ner_recipe.annotation.onnx_model import MODEL, OnnxModel, require_file
from ner_recipe.annotation.settings import PIPELINE, Settings
from ner_recipe.batching import default_batch_tokens
from ner_recipe.launch import UsageError
from ner_recipe.models import load_trained, min_score_of, model_errors, resolve_model
from ner_recipe.serving import ONNX, TORCH, Annotator, longest_text, serving_stride

FLAG = "MODEL"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SUBTOKENS = 256  # of a text, as a guess: --batch_tokens as a number of texts, for the pipeline


def local_folder(name: str, revision: str | None, backend: str = TORCH) -> Path:
    """The folder of a model; one on the Hub is downloaded first, unless HF_HUB_OFFLINE forbids it."""
    folder = Path(resolve_model(name, FLAG))
    if os.path.isdir(folder):
        if revision:
            raise UsageError(
                f"--model_revision: '{revision}' has no effect on the folder {folder}; leave it out"
            )
        return folder
    with model_errors(name, FLAG):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=model_files(backend)))
    if backend == ONNX:
        require_file(folder, name)
    return folder


@functools.lru_cache(1)  # it is loaded once to see whether it can be, and once more to be used
def load_engine(folder: Path, settings: Settings) -> "Annotator | StockPipeline":
    """The model, ready to answer.

    Raises:
        UsageError: the device can't be used, or the folder holds no model for token classification that can
            be loaded.
    """
    if settings.backend == ONNX:
        model, tokenizer = load_onnx(folder)
    else:
        model, tokenizer = load(folder, DTYPES[settings.precision])
    if settings.decoding == PIPELINE:
        return StockPipeline(model, tokenizer, settings)
    return Annotator(
        model,
        tokenizer,
        device=settings.device,
        batch_tokens=settings.batch_tokens,
        min_score=settings.min_score,
    )


def with_min_score(settings: Settings, folder: Path) -> Settings:
    """The settings with the min_score that is applied: the model's own if none is given."""
    if settings.min_score is not None:
        return settings
    known = None if settings.decoding == PIPELINE else min_score_of(load_config(folder))
    return dataclasses.replace(settings, min_score=known or 0.0)


def load_config(folder: Path) -> PreTrainedConfig:
    with model_errors(str(folder), FLAG):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def entity_labels(folder: Path) -> list[str]:
    """The labels of the entities that a model finds."""
    names = load_config(folder).id2label.values()
    return sorted({name.removeprefix("B-").removeprefix("I-") for name in names} - {"O"})


def check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device: '{device}' can't be used ({reason}); expected such as cpu") from None


def load_onnx(folder: Path) -> tuple[OnnxModel, PreTrainedTokenizerBase]:
    """A model that export.py has checked."""
    with model_errors(str(folder), FLAG):
        return OnnxModel(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, which fit each other."""
    if (folder / MODEL).is_file() and not next(folder.glob("*.safetensors"), None):
        raise UsageError(
            f"{FLAG}: {folder} holds a model that was exported to ONNX; add --backend onnx, or name the "
            "model from which it was exported"
        )
    transformers.utils.logging.disable_progress_bar()  # the loader's, which would break up ours
    return load_trained(folder, dtype, FLAG)


def refuse_long_stride(stride: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an overlap of more than half a chunk, with which the pipeline slows down and then fails."""
    most = (tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()) // 2
    if stride > most:
        raise UsageError(
            f"--stride: found {stride}; expected at most {most}, half of what the model takes at once"
        )


class StockPipeline:
    """What `pipeline("ner", aggregation_strategy=..., stride=...)` answers, with the Annotator's keys."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Settings):
        require_fast(tokenizer)
        longest = longest_text(tokenizer, model.config.name_or_path)
        stride = serving_stride(longest) if settings.stride is None else settings.stride
        self.tokenizer, self.min_score = tokenizer, settings.min_score
        refuse_long_stride(stride, tokenizer)
        tokens = settings.batch_tokens or default_batch_tokens(torch.device(settings.device))
        self.batch_size = max(1, tokens // SUBTOKENS)
        self.ner = pipeline(
            "ner",
            model=model,
            tokenizer=tokenizer,
            device=settings.device,
            aggregation_strategy=settings.aggregation_strategy,
            stride=stride,
        )

    def annotate_chunks(self, chunks: Iterable[Sequence[str]]) -> Iterator[list[list[dict]]]:
        """The entities of the texts of each chunk."""
        for texts in chunks:
            # Texts of like length need less padding.
            order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
            answers: list[list[dict]] = [[] for _ in texts]
            found = self.ner((texts[number] for number in order), batch_size=self.batch_size)
            for number, groups in zip(order, found, strict=True):
                answers[number] = [
                    {
                        "start": group["start"],
                        "end": group["end"],
                        "label": group["entity_group"],
                        "text": texts[number][group["start"] : group["end"]],
                        "score": float(group["score"]),
                    }
                    for group in groups
                    if group["score"] >= self.min_score
                ]
            yield answers
