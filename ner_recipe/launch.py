"""How a command starts and ends: precision, threads, exit codes.

sys.exit(run_command("run_ner.py", argv, parse, work, when_interrupted="..."))
"""

import contextlib
import datetime
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import TrainingArguments

from jnlpba_dataset import FULL, AlignmentError, CorpusError

CGROUP_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max", None),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)

TOO_LATE = re.compile(r"Timed out waiting \d+ms|Application timeout caused pair closure")  # gloo's words


class UsageError(ValueError):
    """Something the user can mend: a flag, a file, a model, a token. Shown as one message."""

    exit_code = 2


class MemoryShortError(UsageError):
    """A GPU or a computer with too little memory for a batch."""

    exit_code = 1


def run_command(
    program: str,
    argv: Sequence[str],
    parse: Callable[[Sequence[str]], tuple],
    work: Callable[..., None],
    when_interrupted: str,
) -> int:
    """Parse the command line and do the work; return the exit code.

    A foreseen error becomes one message. Any other exception passes through, so Python shows its traceback.
    Every process of a distributed run parses the same words and finds the same errors, so only the first one
    on each machine reports those. Errors in the work may differ: each process reports its own.
    """
    rank = int(os.environ.get("RANK", 0))
    speaks, who = int(os.environ.get("LOCAL_RANK", 0)) <= 0, ""
    try:
        refuse_other_encodings(argv)
        parsed = parse(argv)
        speaks, who = True, f"[rank {rank}] " if rank else ""
        work(*parsed)
    except (UsageError, CorpusError, AlignmentError) as error:
        message, code = f"error: {error}", getattr(error, "exit_code", 2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = error.filename or "a file of this run"
        message = (
            f"error: {place} can't be written ({error.strerror}); make room on that disk, then start again"
        )
        code = 1
    except RuntimeError as error:
        if (found := short_memory(error) or lost_process(error)) is None:
            raise
        message, code = f"error: {found}", 1
    except KeyboardInterrupt as error:
        message = f"interrupted; {error if str(error) else when_interrupted}"
        code = getattr(error, "exit_code", 130)
    else:
        return 0
    if speaks:
        # A message may quote a file or a model of unknown origin.
        print(f"{who}{program}:", "\n".join(map(visible, message.split("\n"))), file=sys.stderr)
    return code


def visible(word: str) -> str:
    """A word whose control characters, which a terminal would obey, are written as escapes."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf")
        else character
        for character in word
    )


def refuse_other_encodings(argv: Sequence[str]) -> None:
    """Refuse words that no report could hold, and no JSON."""
    if strange := [word for word in argv if not is_unicode(word)]:
        raise UsageError(
            f"found {ascii(strange[0])}, which is not UTF-8; write it in UTF-8, or rename the file or folder"
        )


def is_unicode(text: str) -> bool:
    """Whether a word or a file's name was UTF-8, so that it can be written again as text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short_memory(error: RuntimeError, lower: str = "the size of a batch") -> str | None:
    """What an error of torch's allocators means to a user; None for any other error."""
    # The second are accelerate's words when --auto_find_batch_size has tried a single row.
    if not should_reduce_batch_size(error) and "No executable batch size" not in str(error):
        return None
    said = " ".join(str(error).split())[:120]
    return f"the memory does not suffice ({said}); lower {lower}, or stop other programs that use it"


@contextlib.contextmanager
def enough_memory(lower: str, kind: type[Exception] = MemoryShortError) -> Iterator[None]:
    """Raise a `kind` that says which flags to lower if the memory does not suffice within the block."""
    try:
        yield
    except RuntimeError as error:
        if (found := short_memory(error, lower)) is None:
            raise
        raise kind(found) from error


def lost_process(error: RuntimeError) -> str | None:
    """What an error of gloo means to a user; None for any other error.

    Its class is that of any other error, so only its text tells. A note of the error says where it happened.
    """
    text, where = str(error), "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    if TOO_LATE.search(text):
        found = f"another process did not answer within --ddp_timeout seconds{where}; it hangs"
    elif "gloo/transport" in text and "enforce fail" not in text:  # which is a wrong setting or call
        found = f"the connection to another process was lost{where}; it was killed or has failed"
    else:
        return None
    return (
        f"{found}, or its machine has. See what it and the launcher print, then start the same command with "
        "--resume_from_checkpoint if a checkpoint was saved"
    )


def join_processes(timeout: float) -> None:
    """Connect the processes of a run on CPUs, which wait so many seconds for each other.

    transformers passes --ddp_timeout on only where it finds a GPU. It uses a connection that exists.

    Raises:
        UsageError: the other processes were not started, or can't be reached.
    """
    launched = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
    if launched and not torch.distributed.is_initialized():
        try:
            torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout))
        except RuntimeError as error:
            if lost_process(error):
                raise
            reason = str(error).partition("\n")[0][:300]
            raise UsageError(
                f"the processes of this run can't be connected ({reason}); start all of them within "
                "--ddp_timeout seconds, with the same MASTER_ADDR and MASTER_PORT"
            ) from error


def one_process_note(world_size: int) -> list[str]:
    """A hint for `accelerate launch --cpu --num_processes N`, which starts one process (N needs MPI)."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") and "MASTER_PORT" in os.environ
    if not asked or world_size > 1:
        return []
    return ["Processes: 1, because accelerate launch --cpu starts one; use torchrun --nproc_per_node N for N"]


def use_cores(device: torch.device) -> None:
    """Give this process its share of the cores that it may use, unless OMP_NUM_THREADS says otherwise.

    accelerate launch and torchrun set OMP_NUM_THREADS=1, which takes 1.5 times as long on two cores. torch by
    itself counts the machine's cores, also in a container that may use only a few of them.
    """
    by_launcher = not {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"}.isdisjoint(os.environ)
    launched = by_launcher and os.environ.get("OMP_NUM_THREADS") == "1"
    if device.type == "cpu" and (launched or "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def usable_cores() -> int:
    """Physical cores, limited by the affinity of this process and by the CPU quota of its cgroup."""
    counts = [torch.cpu.get_capabilities().get("num_physical_cores") or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):  # Linux
        counts.append(len(os.sched_getaffinity(0)))
    quota = cgroup_quota()
    return max(1, min([*counts, quota] if quota else counts))


def cgroup_quota() -> int | None:
    """Whole cores that the control group (version 2 or 1) of a container allows; None without a limit."""
    for quota_file, period_file in CGROUP_QUOTAS:
        try:
            words = Path(quota_file).read_text().split()
            words += Path(period_file).read_text().split() if period_file else []
            quota, period = map(int, words)
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
        if quota > 0 and period > 0:
            return max(1, quota // period)
    return None


def choose_precision(args: TrainingArguments) -> tuple[str, str]:
    """Fill in args.bf16 and args.fp16 where they were not given.

    Returns:
        The precision (bf16, fp16 or fp32), and the same with the reason in brackets.
    """
    given = [name for name in ("bf16", "fp16") if getattr(args, name) is not None]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if given:
        chosen = next((name for name in given if getattr(args, name)), "fp32")
        reason = "as the flags say"
    elif launched != "no":
        chosen, reason = launched, f"as accelerate launch says ({launched})"
    elif args.use_cpu:
        args.bf16 = cpu_has_bf16()
        chosen, verb = ("bf16", "has") if args.bf16 else ("fp32", "has no")
        reason = f"the CPU {verb} bf16 instructions"
    elif torch.cuda.is_available():
        args.bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        args.fp16 = not args.bf16
        chosen, verb = ("bf16", "has") if args.bf16 else ("fp16", "lacks")
        reason = f"{torch.cuda.get_device_name()} {verb} bf16"
    else:
        chosen, reason = "fp32", "no rule for this device"
    if args.use_cpu and chosen not in ("bf16", "fp32"):
        flag = f"--{chosen}" if given else f"accelerate launch --mixed_precision {chosen}"
        raise ValueError(f"{flag}: needs a GPU, and this run uses a CPU; use bf16, or leave it out")
    args.bf16, args.fp16 = bool(args.bf16), bool(args.fp16)
    return chosen, f"{chosen} ({reason})"


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16 matrix products, rather than converting each operand."""
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
