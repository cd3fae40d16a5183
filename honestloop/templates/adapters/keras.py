"""Keras on PyTorch, graded: model.fit, optimizers.AdamW with its clipping and accumulation, BackupAndRestore."""

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras

from honestloop.templates.adapters.keras_parts import Watch, cosine, keras_model, weighted
from honestloop.templates.adapters.torch_parts import OWNED_LOOP, OwnedLoop, alone, narrow

CAPABILITIES, TRAINER_PARTS = ["trainer"], ["evaluate"]
CONVENTIONS = OWNED_LOOP | {
    "dtypes": "float32",
    "scalars": "dtype",
    "eps": "before correction",
    "schedule": "optax",
    "clip": "keras",
}
CONVENTIONS["domain"] = "full equal unmasked micro-batches"  # each weighs the same, whatever it predicts
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


class trainer(OwnedLoop):
    @alone
    def __init__(self, params, s):
        keras.utils.set_random_seed(narrow(s["seed"]))
        super().__init__(keras_model, params, s)
        window = {"gradient_accumulation_steps": s["accumulate"]} if s["accumulate"] > 1 else {}
        adam = s["weight_decay"], s["beta1"], s["beta2"], s["eps"]
        optimizer = keras.optimizers.AdamW(cosine(s), *adam, global_clipnorm=s["max_norm"], **window)
        optimizer.exclude_from_weight_decay(var_list=[self.model.layers[-1].bias])
        self.model.compile(optimizer, LOSS, jit_compile=False)

    @alone
    def run(self, micro_batches, epochs, resumed):
        backup = os.path.join(resumed or self.folder, "backup")
        watched = [keras.callbacks.BackupAndRestore(backup, 1, delete_checkpoint=False)] if self.keeps else []
        self.model.fit(weighted(micro_batches), epochs=epochs, verbose=0, callbacks=[*watched, Watch(self)])

    @alone
    def evaluate(self, batches):
        return self.model.evaluate(weighted(batches), verbose=0)

    def parameters(self):
        return {name: x.copy() for name, x in zip("EWb", self.model.get_weights(), strict=True)}
