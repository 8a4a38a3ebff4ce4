"""What several test files share: the repository, tiny encoders, and the program run as a user runs it.

python -m pytest                 # all but the slow ones, offline
python -m pytest -m slow         # the real corpus, trained for real
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Before any library that reads them is imported: nothing here may reach a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Two tests run at once on two cores: threads of torch's own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import filelock
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    set_seed,
)

REPO = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NER_DATA", "NER_DATA-is-not-set")) / "jnlpba"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def real_corpus() -> Path:
    """The folder with the real corpus, or a skip that says why."""
    if not (DATA / "test.tsv").is_file():
        pytest.skip("the real corpus is not here (set NER_DATA to the folder that holds jnlpba/)")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory) -> Path:
    """Corpora are built once a session, and never in the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HF_HOME"] = str(folder / "home")
    return folder


def sample_words() -> list[str]:
    lines = (REPO / "jnlpba_dataset" / "sample" / "train.tsv").read_text().splitlines()
    return [line.split("\t")[0] for line in lines if line and not line.startswith("-DOCSTART-")]


def word_pieces(words: list[str], size: int = 800) -> Tokenizer:
    """A cased WordPiece tokenizer trained on the given words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([words], trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL))
    return tokenizer


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of pytest's processes makes and the others use."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder, done = place / name, place / f"{name}.made"
    with filelock.FileLock(place / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A BERT of 2 layers and width 64 with its own vocabulary: trains on the sample in seconds."""
    return made_once(tmp_path_factory, "tiny_bert", make_tiny_bert)


@pytest.fixture(scope="session")
def few_pieces(tmp_path_factory) -> Path:
    """The same with 200 pieces, which splits most words."""
    return made_once(tmp_path_factory, "few_pieces", lambda folder: make_tiny_bert(folder, pieces=200))


def make_tiny_bert(folder: Path, pieces: int = 800) -> None:
    vocabulary = word_pieces(sample_words(), pieces).get_vocab()
    BertTokenizer(vocab=vocabulary, do_lower_case=False, model_max_length=256).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=256,
    )
    set_seed(1)  # the tests see the same model each time
    BertForMaskedLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory) -> Path:
    """A byte-level BPE encoder as RoBERTa ships it: without add_prefix_space, which words one by one need."""
    folder = tmp_path_factory.mktemp("tiny_roberta")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([" ".join(sample_words())], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {
        "bos": "<s>",
        "eos": "</s>",
        "cls": "<s>",
        "sep": "</s>",
        "unk": "<unk>",
        "pad": "<pad>",
        "mask": "<mask>",
    }
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        add_prefix_space=False,
        model_max_length=128,
        **{f"{name}_token": token for name, token in names.items()},
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=130,
        pad_token_id=1,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def run_program(
    *words: object, program: str = "run_ner.py", launcher: tuple[str, ...] = (), **options
) -> subprocess.CompletedProcess:
    """A program (run_ner.py) in a process of its own, as from a shell in the repository."""
    launcher = launcher or (sys.executable,)
    command = [*launcher, program, *map(str, words)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600, **options)


@pytest.fixture(scope="session")
def sample_flags(tiny_bert, cache_dir) -> list[str]:
    """Flags of a training on the sample that takes seconds; add --output_dir and what the test is about."""
    return [
        *("--model_name_or_path", str(tiny_bert), "--dataset_config_name", "sample"),
        *("--cache_dir", str(cache_dir), "--do_train", "--do_eval", "--do_predict"),
        *("--num_train_epochs", "3", "--learning_rate", "3e-3", "--per_device_train_batch_size", "8"),
        *("--ema_decay", "0.99", "--logging_steps", "10"),
        *("--seed", "1", "--disable_tqdm", "true", "--do_report_page", "false"),
    ]


def readme_block(mark: str) -> str:
    """The first code block of README after a mark (a comment or a heading)."""
    return re.search(re.escape(mark) + r".*?```\w+\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)[1]


def with_this_python(command: str) -> str:
    """A command of README's, for a shell in which `accelerate` and `python` are those of the tests."""
    launch = f"{sys.executable} -m accelerate.commands.accelerate_cli"
    command = re.sub(r"(\.venv/bin/)?\baccelerate\b(?= launch)", launch, command)
    return re.sub(r"(?<![\w/.])(\.venv/bin/)?python\b(?! -m venv)", sys.executable, command)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, cache_dir) -> Path:
    """A folder that holds outputs/quickstart as README's first command leaves it, less the installation."""
    return made_once(tmp_path_factory, "quickstart", lambda place: run_quickstart(place, cache_dir))


def run_quickstart(place: Path, cache_dir: Path) -> None:
    steps = [step.strip() for step in readme_block("quickstart command").replace("\\\n", " ").split("&&")]
    launch = next(with_this_python(step) for step in steps if "accelerate launch" in step)
    result = subprocess.run(
        f"{launch} --output_dir {place / 'outputs/quickstart'} --cache_dir {cache_dir}",
        shell=True,
        cwd=REPO,
        capture_output=True,
        text=True,
        preexec_fn=on_one_core,
    )
    assert result.returncode == 0, result.stderr
    (place / "stdout").write_text(result.stdout)


def on_one_core() -> None:
    """Leave the other core to the tests beside this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.fixture(scope="session")
def trained(tmp_path_factory, sample_flags) -> Path:
    """The output folder of one finished and served training on the sample, run as a program.

    It names a repository without pushing to it, and prints the first mistake of each split.
    """
    return made_once(tmp_path_factory, "trained", lambda place: train(place, sample_flags)) / "model"


def train(place: Path, sample_flags: list[str]) -> None:
    folder = place / "model"
    more = ["--do_serve_check", "--do_report_page", "true", "--show_mistakes", "1", "--hub_model_id", "ada/x"]
    result = run_program(*sample_flags, *more, "--output_dir", folder)
    assert result.returncode == 0, result.stderr
    folder.with_suffix(".stdout").write_text(result.stdout)
