"""A model's name -> a tokenizer and a model that fit each other, or one clear error.

    tokenizer, model = load_tokenizer(model_args), load_model(model_args, labels, fine_tune=True)
    fit_together(data_args, tokenizer, model)

Only safetensors weights are loaded. Code that comes with a model is never run.
"""

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ner_recipe.arguments import DataArguments, ModelArguments, is_probability
from ner_recipe.attention import CPU_ATTENTION
from ner_recipe.corpora.schemes import is_iob2
from ner_recipe.dropout import use_cheap_dropout
from ner_recipe.launch import UsageError
from ner_recipe.vocabulary import embed_words

FLAG = "--model_name_or_path"
PACKAGE_SCHEME = "package:"
LONGEST_WINDOW = 512  # subtokens, unless --max_seq_length says otherwise
VERY_LONG = 1 << 30  # what a tokenizer without model_max_length says is longer
# What transformers raises for files that are not those of a model, such as a config.json without heads, and
# the Hub's client for a broken connection.
LOADING_ERRORS = (
    *(OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError),
    *(ImportError, SafetensorError, StrictDataclassError, httpx.HTTPError),
)


def resolve_model(name: str, flag: str = FLAG) -> str:
    """A Hub id or folder as it is; for package:NAME/PATH the folder inside the installed package.

    `flag` is what errors name, here and below.
    """
    if os.path.isfile(name):
        raise UsageError(
            f"{flag}: {name} is a file; expected the folder of a model, such as its folder, "
            f"{Path(name).parent}"
        )
    if not name.startswith(PACKAGE_SCHEME):
        return name
    package, _, path = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{flag}: the package '{package}' is not installed; install it, or name a folder")
    folder = Path(spec.submodule_search_locations[0], path)
    if not os.path.isfile(folder / "config.json"):
        raise UsageError(f"{flag}: found no config.json in {folder}; expected a model folder")
    return str(folder)


@contextlib.contextmanager
def model_errors(name: str, flag: str = FLAG):
    """Turn the loaders' errors for a wrong name, a broken file or a missing network into one message."""
    try:
        yield
    except UsageError:
        raise
    except LOADING_ERRORS as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"{flag}: '{name}' can't be loaded: {type(error).__name__}: {reason}\n  Expected "
            "a Hub id (needs network, and weights as safetensors; see --model_revision), a model folder, or "
            "package:NAME/PATH"
        ) from error


def loading_options(model_args: ModelArguments) -> dict:
    """Options for each from_pretrained. Code that comes with a model is never run."""
    return {
        "cache_dir": model_args.cache_dir,
        "revision": model_args.model_revision,
        "trust_remote_code": False,
    }


def load_tokenizer(model_args: ModelArguments) -> PreTrainedTokenizerBase:
    """A fast tokenizer that splits single words exactly as it splits running text."""
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
                    f"--model_name_or_path: the tokenizer of '{model_args.model_name_or_path}' splits single "
                    "words differently from running text, even with add_prefix_space; choose another model"
                )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(
            f"--model_name_or_path: '{model_args.model_name_or_path}' has no vocabulary; expected "
            "tokenizer files"
        )
    for trace in ("is_local", "local_files_only"):  # local details that must not be saved
        tokenizer.init_kwargs.pop(trace, None)
    tokenizer.padding_side = "right"  # the positions of words count from the left
    return tokenizer


def add_prefix_space(tokenizer: PreTrainedTokenizerBase) -> None:
    """Switch on add_prefix_space in the tokenizer itself. Not every class does so when loaded with it."""
    backend = tokenizer.backend_tokenizer
    state = backend.to_str().replace('"add_prefix_space":false', '"add_prefix_space":true')
    changed = type(backend).from_str(state)
    backend.pre_tokenizer, backend.post_processor = changed.pre_tokenizer, changed.post_processor


def words_keep_their_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether single words keep the mark of the space before them. Byte-level BPE may drop it."""
    words = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    return words[-1] == text[-1]


def agreed_labels(model_args: ModelArguments, labels: Sequence[str], fine_tune: bool) -> list[str]:
    """The labels in the order of the model, if it was trained on them; otherwise as they are.

    A model that is only evaluated may have more types than the data.

    Raises:
        UsageError: it has labels that are no IOB2, which can't be scored.
    """
    with model_errors(model_args.model_name_or_path):
        folder = resolve_model(model_args.model_name_or_path)
        config = AutoConfig.from_pretrained(folder, **loading_options(model_args))
    known = [config.id2label[number] for number in sorted(config.id2label)]
    if fine_tune:
        return known if sorted(labels) == sorted(known) else list(labels)
    if not set(labels) <= set(known):
        return list(labels)  # `check_labels` refuses them
    if not is_iob2(known):
        raise UsageError(
            f"{FLAG}: '{model_args.model_name_or_path}' has the labels {', '.join(known)}; expected O, and "
            "B-TYPE and I-TYPE for each type; choose a model trained with IOB2 tags, or give --do_train"
        )
    return known


def load_model(
    model_args: ModelArguments,
    labels: Sequence[str],
    fine_tune: bool,
    cpu_attention: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PreTrainedModel:
    """The encoder with a head for `labels`. A model that is only evaluated must have that head already.

    With `cpu_attention` a model that would use sdpa uses that of attention.py. The saved model is the same.
    With --add_tokens_min_count a model to be trained gets the words that `tokenizer` has and its own lacks.

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
                f"--{unknown[0]}: {config.model_type} models have no such setting; leave the flag out"
            )
        if not fine_tune:
            check_labels(config.id2label, labels, model_args.model_name_or_path)
        config.update(dropout)
        if fine_tune:
            config.min_score = None  # that of the model to begin with says nothing about the new one
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
                attn_implementation=model_args.attn_implementation,
                **options,
            )
        check_weights(model, loading, fine_tune)
        if cpu_attention and attention_name(model) == "sdpa" and not model_args.attn_implementation:
            model.set_attn_implementation(CPU_ATTENTION)
        if fine_tune:
            use_cheap_dropout(model)
    if fine_tune and model_args.add_tokens_min_count and tokenizer is not None:
        own = load_tokenizer(model_args)
        check_vocabulary(own, model)
        embed_words(model, own, tokenizer)
    return model


def load_trained(
    name: str | Path, dtype: torch.dtype, flag: str = FLAG, cache_dir: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model that was trained for this task and its tokenizer, which fit each other.

    Raises:
        UsageError: naming `flag`: no such model, missing or broken weights, or a tokenizer of another model.
    """
    options = {"cache_dir": cache_dir, "trust_remote_code": False}
    with model_errors(str(name), flag), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model, loading = AutoModelForTokenClassification.from_pretrained(
            name, use_safetensors=True, dtype=dtype, output_loading_info=True, **options
        )
        check_weights(model, loading, fine_tune=False, flag=flag)
    longest = position_limit(model)
    if longest < tokenizer.model_max_length < VERY_LONG:
        raise UsageError(
            f"{flag}: the tokenizer of {name} lets {tokenizer.model_max_length} subtokens pass, the model "
            f"has {longest} positions; correct model_max_length in tokenizer_config.json"
        )
    check_vocabulary(tokenizer, model, flag)
    return model, tokenizer


def min_score_of(config: PreTrainedConfig) -> float | None:
    """The score below which joint decoding leaves out entities, as config.json says; None: it does not.

    Raises:
        UsageError: it is not a probability.
    """
    found = getattr(config, "min_score", None)
    if found is None or is_probability(found):
        return found
    raise UsageError(
        f"config.json of {config.name_or_path}: found min_score {found!r}; expected a probability from 0 to "
        "1; correct it there"
    )


def reads_all_tokens(config: PreTrainedConfig) -> bool:
    """Whether joint decoding reads every subtoken of a word, as the model was trained, or only the first.

    Raises:
        UsageError: config.json says neither.
    """
    found = getattr(config, "label_all_tokens", True)
    if isinstance(found, bool):
        return found
    raise UsageError(
        f"config.json of {config.name_or_path}: found label_all_tokens {found!r}; expected true or false; "
        "correct it there"
    )


def attention_name(model: PreTrainedModel) -> str:
    """The attention that a model uses, as transformers names it."""
    return model.config._attn_implementation


def check_weights(model: PreTrainedModel, loading: dict, fine_tune: bool, flag: str = FLAG) -> None:
    """Refuse NaN, and a partly random model: any missing weight to score, any but the head's to train."""
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in loading["mismatched_keys"]]
    new = sorted({*loading["missing_keys"], *mismatched})
    if fine_tune:
        new = [name for name in new if name.startswith(f"{model.base_model_prefix}.")]
    if new:
        raise UsageError(
            f"{flag}: {len(new)} weights are missing or differ in size from config.json, such "
            f"as {new[0]}; expected weights that belong to the configuration"
        )
    left = [name for name in loading["unexpected_keys"] if re.search(r"\.layers?\.\d+\.", name)]
    if left:
        raise UsageError(
            f"{flag}: {len(left)} weights are of layers that config.json does not have, such "
            f"as {sorted(left)[0]}; expected weights that belong to the configuration"
        )
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise UsageError(
            f"{flag}: {len(broken)} weights hold NaN or infinity, such as {broken[0]}; "
            "expected a model whose training did not diverge"
        )


@contextlib.contextmanager
def quiet_transformers():
    """Hide the loading report. In fine-tuning the classification head is always new."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def check_labels(id2label: dict[int, str], labels: Sequence[str], name: str) -> None:
    """Refuse to score a model with labels that are not its own."""
    found = [id2label[number] for number in sorted(id2label)]
    if found != list(labels):
        raise UsageError(
            f"--model_name_or_path: '{name}' has the labels\n    {', '.join(found)}\n  and the data has\n"
            f"    {', '.join(labels)}\n  Expected a model that has all labels of the data; --do_train "
            "fits a new head"
        )


def fit_together(
    data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Set the length of a window, in data_args and in the tokenizer; refuse a pair that does not fit.

    The saved tokenizer keeps it as model_max_length, so `pipeline` splits long text as in training.
    """
    longest = min(position_limit(model), tokenizer.model_max_length)
    if data_args.max_seq_length is None:
        data_args.max_seq_length = min(longest, LONGEST_WINDOW)
    if data_args.max_seq_length > longest:
        raise UsageError(
            f"--max_seq_length: found {data_args.max_seq_length}; expected at most {longest}, the model's "
            "limit"
        )
    tokenizer.model_max_length = data_args.max_seq_length
    check_vocabulary(tokenizer, model)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, flag: str = FLAG) -> None:
    """Refuse a tokenizer whose ids the model does not embed."""
    highest, embedded = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if highest >= embedded:
        raise UsageError(
            f"{flag}: the tokenizer has ids up to {highest}, and the model embeds {embedded}, "
            f"from 0 to {embedded - 1}; expected a tokenizer that belongs to the model"
        )


def position_limit(model: PreTrainedModel) -> int:
    """Subtokens that a model has positions for. RoBERTa's positions start after the padding index."""
    positions = getattr(model.config, "max_position_embeddings", 0)
    if positions <= 0:
        return sys.maxsize
    tables = [
        module for name, module in model.named_modules() if name.endswith("embeddings.position_embeddings")
    ]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    return positions if padding is None else positions - padding - 1
