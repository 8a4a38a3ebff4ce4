"""A model's name -> a tokenizer and a model that fit each other, labels and windows; or one clear error.

    tokenizer, model = load_tokenizer(model_args), load_model(model_args, labels, fine_tune=True)
    fit_together(data_args, tokenizer, model)

Weights as safetensors only; code that a model brings along is never run. Imports arguments.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from arguments import LONGEST_WINDOW, DataArguments, ModelArguments, UsageError

PACKAGE_SCHEME = "package:"


def resolve_model(name: str) -> str:
    """A Hub id or folder as it is; package:NAME/PATH as the folder inside the installed package."""
    if not name.startswith(PACKAGE_SCHEME):
        return name
    package, _, path = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"--model_name_or_path: found no installed package '{package}'; install it, or name a folder"
        )
    folder = Path(spec.submodule_search_locations[0], path)
    if not (folder / "config.json").is_file():
        raise UsageError(f"--model_name_or_path: found no config.json in {folder}; expected a model folder")
    return str(folder)


@contextlib.contextmanager
def model_errors(name: str):
    """Turn what the loaders raise for a wrong name, a broken file or a missing network into one message."""
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--model_name_or_path: '{name}' can't be loaded: {type(error).__name__}: {reason}\n  Expected "
            "a Hub id (with network; weights as safetensors, see --model_revision), a model folder, or "
            "package:NAME/PATH"
        ) from error


def loading_options(model_args: ModelArguments) -> dict:
    """Options of each from_pretrained; code that a model brings along is never run, nor asked about."""
    return {
        "cache_dir": model_args.cache_dir,
        "revision": model_args.model_revision,
        "trust_remote_code": False,
    }


def load_tokenizer(model_args: ModelArguments) -> PreTrainedTokenizerBase:
    """A fast tokenizer that cuts words given one by one as it cuts them in running text."""
    folder = resolve_model(model_args.model_name_or_path)
    options = loading_options(model_args)
    if model_args.do_lower_case is not None:
        options["do_lower_case"] = model_args.do_lower_case
    with model_errors(model_args.model_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if tokenizer.is_fast and not words_keep_their_space(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(folder, **options, add_prefix_space=True)
            add_prefix_space(tokenizer)
            if not words_keep_their_space(tokenizer):
                raise UsageError(
                    f"--model_name_or_path: the tokenizer of '{model_args.model_name_or_path}' cuts "
                    "separate words otherwise than running text, even with add_prefix_space; expected "
                    "one that agrees"
                )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(
            f"--model_name_or_path: '{model_args.model_name_or_path}' has no vocabulary; expected "
            "tokenizer files"
        )
    for trace in ("is_local", "local_files_only"):  # how it was loaded here is nothing to save
        tokenizer.init_kwargs.pop(trace, None)
    tokenizer.padding_side = "right"  # the places of words in a window count from its left
    return tokenizer


def add_prefix_space(tokenizer: PreTrainedTokenizerBase) -> None:
    """Switch add_prefix_space on in the tokenizer itself: not each class does when it is loaded with it."""
    backend = tokenizer.backend_tokenizer
    state = backend.to_str().replace('"add_prefix_space":false', '"add_prefix_space":true')
    changed = type(backend).from_str(state)
    backend.pre_tokenizer, backend.post_processor = changed.pre_tokenizer, changed.post_processor


def words_keep_their_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words given one by one carry the mark of the space before them (byte-level BPE may drop it)."""
    words = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    return words[-1] == text[-1]


def load_model(model_args: ModelArguments, labels: Sequence[str], fine_tune: bool) -> PreTrainedModel:
    """The encoder with a head for `labels`; a model that is only evaluated must have that head already.

    Raises:
        UsageError: no such model, weights that are not safetensors, or other labels than the data's.
    """
    folder = resolve_model(model_args.model_name_or_path)
    options = loading_options(model_args)
    dropout = {
        name: getattr(model_args, name)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if getattr(model_args, name) is not None
    }
    with model_errors(model_args.model_name_or_path):
        config = AutoConfig.from_pretrained(folder, **options)
        unknown = [name for name in dropout if not hasattr(config, name)]
        if unknown:
            raise UsageError(
                f"--{unknown[0]}: a {config.model_type} model has no such setting; leave the flag out"
            )
        if not fine_tune:
            check_labels(config.id2label, labels, model_args.model_name_or_path)
        config.update(dropout)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        with quiet_transformers():
            model, loading = AutoModelForTokenClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=fine_tune,
                output_loading_info=True,
                **options,
            )
        check_weights(model, loading, fine_tune)
        return model


def check_weights(model: PreTrainedModel, loading: dict, fine_tune: bool) -> None:
    """Refuse a model part of which would be random: all but the head in training, anything in scoring."""
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in loading["mismatched_keys"]]
    new = sorted({*loading["missing_keys"], *mismatched})
    if fine_tune:
        new = [name for name in new if name.startswith(f"{model.base_model_prefix}.")]
    if new:
        raise UsageError(
            f"--model_name_or_path: {len(new)} weights are missing or of another size than the configuration "
            f"says, {new[0]} among them; expected a model whose weights and config.json belong together"
        )


@contextlib.contextmanager
def quiet_transformers():
    """Without the loading report: that a classification head is new is what fine-tuning means."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def check_labels(id2label: dict[int, str], labels: Sequence[str], name: str) -> None:
    """Refuse to score a model by labels that are not its own."""
    found = [id2label[number] for number in sorted(id2label)]
    if found != list(labels):
        raise UsageError(
            f"--model_name_or_path: '{name}' has the labels\n    {', '.join(found)}\n  where the data has\n"
            f"    {', '.join(labels)}\n  in this order; expected the same, or --do_train to fit a new head"
        )


def fit_together(
    data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Settle the length of a window, which the saved tokenizer then carries; refuse a pair that does not fit.

    What is longer than the windows of the training is cut by `pipeline` as it was in training.
    """
    longest = min(position_limit(model), tokenizer.model_max_length)
    if data_args.max_seq_length is None:
        data_args.max_seq_length = min(longest, LONGEST_WINDOW)
    if data_args.max_seq_length > longest:
        raise UsageError(
            f"--max_seq_length: found {data_args.max_seq_length}; expected at most {longest}, the model's "
            "own limit"
        )
    tokenizer.model_max_length = data_args.max_seq_length
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UsageError(
            f"--model_name_or_path: the tokenizer has {len(tokenizer)} entries, the model embeds "
            f"{model.get_input_embeddings().num_embeddings}; expected a pair that belongs together"
        )


def position_limit(model: PreTrainedModel) -> int:
    """Subtokens that a model has positions for; those of RoBERTa's kind count from after the padding's."""
    positions = getattr(model.config, "max_position_embeddings", 0)
    if positions <= 0:
        return sys.maxsize
    tables = [
        module for name, module in model.named_modules() if name.endswith("embeddings.position_embeddings")
    ]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    return positions if padding is None else positions - padding - 1
