"""The two trainings that speed.py compares the recipe with, on the same encoder and sentences.

    python benchmarks/baselines.py stock --data_dir FOLDER --model MODEL --output_dir out
    python benchmarks/baselines.py 2020 --data_dir FOLDER --model MODEL --output_dir out

stock: TrainingArguments' defaults (batches of 8 in random order, 5e-5, fp32) and the usual alignment: only
the first subtoken of a word has a label, and words beyond the longest window are dropped. The saved model
can be scored on all words with run_ner.py --do_eval --do_predict --model_name_or_path out.
2020: the same, with each sentence padded to 128 subtokens, batches of 8 x 4, and no weight decay (Adam).
"""

import argparse

import datasets
import numpy as np
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from jnlpba_dataset import LABELS, load_jnlpba
from jnlpba_dataset.alignment import IGNORED
from metrics import score
from ner_recipe.models import resolve_model

SETTINGS = {"stock": {}, "2020": {"gradient_accumulation_steps": 4, "weight_decay": 0.0}}
PADDED = 128  # subtokens of every sentence in the 2020 recipe


def tokenized(sentences: datasets.Dataset, tokenizer, padded: bool) -> datasets.Dataset:
    """Subtokens with a label on the first one of each word."""

    def encode(rows):
        options = {"padding": "max_length", "max_length": PADDED} if padded else {}
        batch = tokenizer(rows["tokens"], is_split_into_words=True, truncation=True, **options)
        batch["labels"] = []
        for number, tags in enumerate(rows["ner_tags"]):
            words = batch.word_ids(number)
            before = [None, *words]
            batch["labels"].append(
                [
                    IGNORED if word is None or word == last else tags[word]
                    for word, last in zip(words, before, strict=False)
                ]
            )
        return batch

    return sentences.map(encode, batched=True, remove_columns=sentences.column_names)


def micro_f1(output: EvalPrediction) -> dict[str, float]:
    """The F1 that the recipe reports, over the words that were kept."""
    kept = output.label_ids != IGNORED
    gold, predicted = (
        [[LABELS[tag] for tag in tags[row]] for tags, row in zip(side, kept, strict=True)]
        for side in (output.label_ids, np.argmax(output.predictions, axis=-1))
    )
    return {"f1": score(gold, predicted)["span"]["micro"]["f1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=SETTINGS)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--cache_dir")
    parser.add_argument("--max_train_samples", type=int)
    parser.add_argument("--max_eval_samples", type=int)
    parser.add_argument("--num_train_epochs", type=float, default=3)
    parser.add_argument("--seed", type=int, default=42)
    flags = parser.parse_args()
    set_seed(flags.seed)
    folder = resolve_model(flags.model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = min(tokenizer.model_max_length, 512)
    corpus = load_jnlpba(flags.data_dir, cache_dir=flags.cache_dir)
    parts = {"train": flags.max_train_samples, "validation": flags.max_eval_samples}
    splits = {
        name: tokenized(
            corpus[name].select(range(min(limit or len(corpus[name]), len(corpus[name])))),
            tokenizer,
            flags.recipe == "2020",
        )
        for name, limit in parts.items()
    }
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    training = Trainer(
        model=AutoModelForTokenClassification.from_pretrained(folder, **labels),
        args=TrainingArguments(
            output_dir=flags.output_dir,
            num_train_epochs=flags.num_train_epochs,
            seed=flags.seed,
            eval_strategy="epoch",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **SETTINGS[flags.recipe],
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=micro_f1,
    )
    training.train()
    training.save_model()


if __name__ == "__main__":
    main()
