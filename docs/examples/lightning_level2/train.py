"""A small recurrent language model trained by Lightning; a callback records the run."""

import argparse
import logging
import warnings

import lightning
import torch
from torch import nn

from honestloop.recorder.lightning import RecorderCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
VOCAB = 31


class Batches:
    """Shuffled batches, another order each epoch. Its state is how many it has given: a resumed run reads on there.

    It has a length: Lightning reads one batch ahead of a loader that has none.
    """

    def __init__(self, seed, batch_size=8):
        generator = torch.Generator().manual_seed(0)
        start = torch.randint(VOCAB, (100, 1), generator=generator)
        self.rows = (start + 3 * torch.arange(17) + torch.randint(2, (100, 17), generator=generator)) % VOCAB
        self.seed, self.batch_size, self.given = seed, batch_size, 0

    def __len__(self):
        return len(self.rows) // self.batch_size

    def __iter__(self):
        epoch, first = divmod(self.given, len(self))
        order = torch.randperm(
            len(self.rows), generator=torch.Generator().manual_seed(1000 * self.seed + epoch)
        )
        for batch in range(first, len(self)):
            self.given += 1
            yield self.rows[order[batch * self.batch_size : (batch + 1) * self.batch_size]]

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 32)
        self.recurrent = nn.GRU(32, 32, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(32, VOCAB)

    def training_step(self, rows, index):
        logits = self.head(self.dropout(self.recurrent(self.embedding(rows[:, :-1]))[0]))
        return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 5))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--stop-after", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lightning.seed_everything(arguments.seed, verbose=False)
    callback = RecorderCallback(
        arguments.out,
        every=arguments.save_every,
        stop_after=arguments.stop_after,
        seed=arguments.seed,
        config={"batch_size": 8, "steps": arguments.steps},
        settings={"warmup_steps": 5, "schedule": "constant"},
    )
    trainer = lightning.Trainer(
        max_steps=arguments.steps,
        gradient_clip_val=1.0,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(), Batches(arguments.seed))


if __name__ == "__main__":
    main()
