"""A small GPT-2 trained by Hugging Face's Trainer, unchanged; a callback records the run."""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from honestloop.recorder.hf import RecorderCallback


class Sequences(torch.utils.data.Dataset):
    """Sequences in which each of 31 tokens has one successor, or two."""

    def __init__(self, rows):
        generator = torch.Generator().manual_seed(0)
        start = torch.randint(31, (rows, 1), generator=generator)
        self.tokens = (start + 3 * torch.arange(16) + torch.randint(2, (rows, 16), generator=generator)) % 31

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--stop-after", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    set_seed(arguments.seed)
    shape = {"vocab_size": 32, "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=31, eos_token_id=31))
    callback = RecorderCallback(arguments.out, every=arguments.save_every, stop_after=arguments.stop_after)
    settings = TrainingArguments(
        f"{arguments.out}-trainer",
        max_steps=arguments.steps,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        weight_decay=0.1,
        warmup_steps=5,
        seed=arguments.seed,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, settings, train_dataset=Sequences(100), callbacks=[callback])
    callback.train(trainer)


if __name__ == "__main__":
    main()
