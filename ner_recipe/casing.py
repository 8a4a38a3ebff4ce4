"""Case for an encoder that was trained on lower-cased text.

    tokenizer = cased_tokenizer(tokenizer)          # --cased_vocabulary
    tell_forms_apart(model, tokenizer.get_vocab())

Names of genes and cells differ from words by their capitals ("CAT", "Jak", "T"), which a lower-casing
tokenizer hides. Here each piece of the vocabulary gets two more forms, with a capital first letter and in
capitals. In training the embedding of a form is that of the piece and a vector for its kind, which starts at
zero: the model starts as it was, and a form that the corpus does not have learns from the others. The saved
model is a plain one, with a row for each form in its table of embeddings.
"""

import torch
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ner_recipe.launch import UsageError

FLAG = "--cased_vocabulary"
CONTINUED = "##"  # begins a piece inside of a word
KINDS = 6  # a capital first letter, capitals, a single capital; at the start of a word, inside of one


def cased_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that keeps case, with all forms in its vocabulary; as it is, if it is such a one.

    Raises:
        UsageError: not a BERT tokenizer that lower-cases.
    """
    if not isinstance(tokenizer, BertTokenizer):
        raise UsageError(
            f"{FLAG}: found a {type(tokenizer).__name__}; expected a BERT tokenizer that lower-cases "
            "(set the flag to false)"
        )
    vocabulary = with_forms(tokenizer.get_vocab())
    if not tokenizer.do_lower_case:
        if len(vocabulary) > len(tokenizer):
            raise UsageError(f"{FLAG}: the tokenizer keeps case already; set the flag to false")
        return tokenizer
    options = {
        "vocab": vocabulary,
        "do_lower_case": False,
        "strip_accents": tokenizer.strip_accents is not False,
    }
    return type(tokenizer)(**{**tokenizer.init_kwargs, **options})


def with_forms(vocabulary: dict[str, int]) -> dict[str, int]:
    """The vocabulary, and after it the forms that it lacks."""
    extended = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
    for piece in list(extended):
        word = piece.removeprefix(CONTINUED)
        if word.startswith("["):  # a special or unused token
            continue
        for form in (word[:1].upper() + word[1:], word.upper()):
            if len(form) == len(word) and form.lower() == word:
                extended.setdefault(piece.removesuffix(word) + form, len(extended))
    return extended


def forms(vocabulary: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token of an extended vocabulary: its piece, and the kind of its form, 0 for a piece itself."""
    pieces, kinds = torch.arange(len(vocabulary)), torch.zeros(len(vocabulary), dtype=torch.int64)
    for token, number in vocabulary.items():
        piece = token.lower()
        if piece != token and piece in vocabulary:
            word = token.removeprefix(CONTINUED)
            kind = 3 if len(word) == 1 else 2 if word == word.upper() else 1
            pieces[number], kinds[number] = vocabulary[piece], kind + 3 * token.startswith(CONTINUED)
    return pieces, kinds


class CasedEmbedding(torch.nn.Module):
    """A table of pieces and a table of kinds, which is saved and loaded as one table of all tokens.

    The vectors of the kinds are the last rows of that table, after those of the vocabulary, so that a resumed
    training has them exactly.
    """

    def __init__(self, table: torch.Tensor, pieces: torch.Tensor, kinds: torch.Tensor):
        super().__init__()
        self.register_buffer("piece_of", pieces, persistent=False)  # (tokens of the vocabulary,)
        self.register_buffer("kind_of", kinds, persistent=False)
        self.pieces = torch.nn.Parameter(table[: kinds.eq(0).sum()].clone())
        known = len(table) == len(pieces) + KINDS  # a model of an earlier training
        self.kinds = torch.nn.Parameter(
            table[-KINDS:].clone() if known else table.new_zeros(KINDS, table.shape[1])
        )
        self.num_embeddings, self.embedding_dim = len(pieces) + KINDS, table.shape[1]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) -> (batch, tokens, width)."""
        kinds = torch.nn.functional.pad(self.kinds, (0, 0, 1, 0))  # none for the piece itself
        embed = torch.nn.functional.embedding
        return embed(self.piece_of[tokens], self.pieces) + embed(self.kind_of[tokens], kinds)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        with torch.no_grad():
            rows = self.forward(torch.arange(len(self.piece_of), device=self.pieces.device))
            destination[f"{prefix}weight"] = torch.cat([rows, self.kinds])

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments) -> None:
        table = state_dict.pop(f"{prefix}weight")
        state_dict[f"{prefix}pieces"], state_dict[f"{prefix}kinds"] = (
            table[: len(self.pieces)],
            table[-KINDS:],
        )
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def tell_forms_apart(model: PreTrainedModel, vocabulary: dict[str, int]) -> None:
    """Give a model that is to be trained the embedding of an extended vocabulary."""
    table = model.get_input_embeddings().weight.detach()
    embedding = CasedEmbedding(table, *forms(vocabulary))
    model.set_input_embeddings(embedding)
    model.config.vocab_size = embedding.num_embeddings
