"""The way to the Hub: the token is tried before a run begins, the folder goes up in one commit at its end.

Used by run_ner.py (`--push_to_hub`) and push_dataset.py; what fails here names the command that goes on.
`HF_TOKEN` or `hf auth login` give the token, `HF_ENDPOINT` another Hub. Imports nothing of ours.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

LEFT_AT_HOME = ("checkpoint-*", ".*", "*/.*", "*.part", "*.bin", "*.pt", "*.pkl")  # no state, no pickles
CORPUS_TEXT = ("predictions_*.tsv", "mistakes_*.txt")  # files that hold the sentences themselves


class PublishError(RuntimeError):
    """The Hub refused or was not reached; says what is safe and how to go on."""


def check_access(repo_id: str | None, folder: str | Path, token: str | None) -> str:
    """Ask the Hub whose token this is, before any work is done; returns the full USER/NAME.

    Args:
        repo_id: NAME, USER/NAME, or None for the name of `folder`.
        token: None for the one that `hf auth login` or HF_TOKEN gave.

    Raises:
        PublishError: no token, one that is refused or may only read, no Hub, a name that can't be.
    """
    repo_id = repo_id or Path(folder).resolve().name
    with hub_errors("Nothing was done"):
        who = HfApi(token=token).whoami()
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PublishError(
            "the Hub says that this token may only read; expected one that may write. Nothing was done"
        )
    full = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
    try:
        validate_repo_id(full)
    except HFValidationError as error:
        raise PublishError(f"--hub_model_id: found '{repo_id}'; {error}") from None
    return full


def publish_folder(
    folder: str | Path,
    repo_id: str,
    *,
    message: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    exclude: Sequence[str] = (),
    replaces: Sequence[str] = (),
) -> str:
    """Put a folder into a model repository (made if there is none) in one commit; returns the commit's URL.

    `upload_folder` would make several commits of a slow upload, and a reader could meet half a model.

    Args:
        exclude: patterns of files that stay at home.
        replaces: files that are removed from the repository if the folder has none of that name: an earlier
            model's reports have no place beside this one.

    Raises:
        PublishError: with the `hf upload` command that uploads the same later.
    """
    retry = retry_command(folder, repo_id, private, revision, exclude)
    with hub_errors(f"{folder} is whole; to try again: {retry}"):
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:  # which create_repo passes over
            raise PublishError(
                f"{repo_id} is there already and public, where --hub_private_repo asks for a private one; "
                f"make it private or choose another --hub_model_id. Nothing went up, {folder} is whole"
            )
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        names = list(filter_repo_objects(files_below(folder), ignore_patterns=[*LEFT_AT_HOME, *exclude]))
        stale = {*api.list_repo_files(repo_id, revision=revision)}.intersection(replaces).difference(names)
        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=Path(folder, name)) for name in names),
            *(CommitOperationDelete(path_in_repo=name) for name in sorted(stale)),
        ]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url


def files_below(folder: str | Path) -> list[str]:
    """Paths of all files under a folder, relative to it, in the Hub's notation."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return [path.relative_to(folder).as_posix() for path in paths]


def retry_command(
    folder: str | Path, repo_id: str, private: bool | None, revision: str | None, exclude: Sequence[str]
) -> str:
    words = ["hf", "upload", repo_id, str(folder), "."]
    words += ["--private"] if private else []
    words += ["--revision", revision] if revision else []
    for pattern in exclude:
        words += ["--exclude", pattern]
    return shlex.join(words)


@contextmanager
def hub_errors(consequence: str) -> Iterator[None]:
    """Turn what the Hub's client raises, of many classes, into one message without the request's headers."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # the client, its HTTP library and xet have error classes of their own
        raise PublishError(f"{reason(error)}. {consequence}") from error


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, LocalTokenNotFoundError):
        return "found no Hub token; expected HF_TOKEN or a login by `hf auth login`"
    first = error
    while not isinstance(first, HfHubHTTPError) and first.__cause__ is not None:
        first = first.__cause__  # the client wraps a failed upload in errors that do not say why
    if isinstance(first, HfHubHTTPError) and first.response.status_code in (401, 403):
        status = first.response.status_code
        return f"the Hub refused the token ({status}); expected one with the right to write to the repository"
    said = " ".join(str(first).split())[:300]
    return f"the Hub could not be used ({type(first).__name__}: {said})"
