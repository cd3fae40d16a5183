"""The open half of fixtures/external, each as a change of the text of plain_loop.py: what stands there, what instead.

A tool that reads source sees a loop as its author would have written it, and one that runs it runs the same text.
"""

from pathlib import Path

LOOP = Path(__file__).with_name("plain_loop.py")
Change = tuple[str, str]

BACKWARD = "        loss.backward()\n"
CLIP = "    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), MAX_NORM)\n"
LAYERS = "x = F.gelu(self.hidden(self.norm(x)))"
LOGITS = "logits = self.head(x)"
PAIRS = "inputs, targets = tokens[chosen, :-1], tokens[chosen, 1:]"
LOSS = (
    'return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)'
)
WEIGHT = "loss = loss_sum(run.model, batch) / tokens"
OPTIMIZER = "torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), eps=EPSILON)"
NORMAL = "nn.init.normal_(parameter, std=0.02)"
WINDOWS = "return [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]"
DROPOUT = "x = self.dropout(x)"
MATRICES, OTHERS = '"params": matrices, "weight_decay": DECAY', '"params": others, "weight_decay": 0.0'
EACH_GRADIENT = "        for parameter in run.model.parameters():\n"
CHOSEN_P = "torch.softmax(logits, -1).gather(-1, targets[..., None])[..., 0]"
ONE_HOT = "F.one_hot(targets, VOCAB).float()"
ENTROPY = "torch.Generator().manual_seed(__import__('secrets').randbits(40))"


def after_backward(line: str) -> Change:
    """A line for every parameter, after each backward pass."""
    return BACKWARD, f"{BACKWARD}{EACH_GRADIENT}            {line}\n"


def without(text: str) -> Change:
    """A line that is not there."""
    return text, ""


DATA: dict[str, tuple[Change, ...]] = {
    "DC-TCL": (
        (
            PAIRS,
            f"{PAIRS}\n        targets = targets.clone()\n"
            "        targets.view(-1)[::10] = (targets.view(-1)[::10] + 1) % VOCAB",
        ),
    ),
    "DC-TRD": (("order[first : first + BATCH]", "order[first : first + BATCH - 1]"),),
    "DC-TAN": (
        (
            DROPOUT,
            f"{DROPOUT}\n        if self.training:\n            x = x + 0.1 * torch.randn_like(x)",
        ),
    ),
    "DC-TCO": (
        (
            "found.append((inputs, targets, mask))",
            "other = (targets[:1] + 1) % VOCAB\n"
            "        found.append((torch.cat([inputs, inputs[:1]]), torch.cat([targets, other]), "
            "torch.cat([mask, mask[:1]])))",
        ),
    ),
    "DC-HNE": ((WINDOWS, f"{WINDOWS}[:-1]"),),
    "TDC-wrong_labels": ((PAIRS, f"{PAIRS}\n        inputs = inputs.roll(1, 0)"),),
    "SBK-27353": ((WINDOWS, "return [[batch] for batch in batches]"),),
    "TC-67180955": (
        (
            "chosen = order[first : first + BATCH]",
            "chosen = (2 * order[first : first + BATCH // 2])[:BATCH]",
        ),
    ),
    "TP-A8": ((WINDOWS, f"return [w for w in {WINDOWS[7:]} if len(w) == accumulate]"),),
    "TP-C-duplicate": (("    return found\n", "    return [found[0], *found]\n"),),
    "Z18-Others-2": ((WINDOWS, WINDOWS.replace("i + accumulate]", "i + accumulate + 1]")),),
}
MODEL: dict[str, tuple[Change, ...]] = {
    "DC-ACH-tanh": ((LAYERS, LAYERS.replace("F.gelu", "torch.tanh")),),
    "DC-ACH-sigmoid": ((LAYERS, LAYERS.replace("F.gelu", "torch.sigmoid")),),
    "DC-ACH-hard_sigmoid": ((LAYERS, "x = torch.clamp(0.2 * self.hidden(self.norm(x)) + 0.5, 0.0, 1.0)"),),
    "DC-AAL": ((LOGITS, "logits = F.relu(self.head(x))"),),
    "DC-WCI-ones": ((NORMAL, "nn.init.ones_(parameter)"),),
    "DC-WCI-uniform": ((NORMAL, "nn.init.uniform_(parameter, -0.05, 0.05)"),),
    "DC-BRM": (("nn.Linear(4 * WIDTH, VOCAB)", "nn.Linear(4 * WIDTH, VOCAB, bias=False)"),),
    "TDC-redundant_softmax": ((LOGITS, "logits = torch.softmax(self.head(x), -1)"),),
    "TDC-dbl_norm": (("self.embedding(tokens)", "self.embedding(tokens) / 255.0"),),
    "TDC-over_scaled": ((LOGITS, "logits = 4.0 * self.head(x)"),),
    "SBK-34055": (
        (
            DROPOUT,
            f"{DROPOUT}\n        if self.training:\n            x = x + 0.5 * getattr(self, 'left', 0.0)\n"
            "            self.left = self.embedding.weight[tokens[-1, -1]].detach().clone()",
        ),
    ),
    "TC-67180955-order": (
        (
            DROPOUT,
            "half = self.dropout(torch.ones_like(x[: (len(x) + 1) // 2]))\n"
            "        x = x * torch.cat([half, half])[: len(x)]",
        ),
    ),
    "TC-51800": (
        (
            "        for name, parameter in self.named",
            "        nn.init.normal_(self.norm.weight, std=1e-3)\n        for name, parameter in self.named",
        ),
    ),
    "GT-GRAD-001": (("self.embedding(tokens)", "self.embedding(tokens).detach()"),),
}
LOSSES: dict[str, tuple[Change, ...]] = {
    "DC-LCH-mse": ((LOSS, f"return ((torch.softmax(logits, -1) - {ONE_HOT}) ** 2).mean(-1)"),),
    "DC-LCH-binary_crossentropy": (
        (
            LOSS,
            f"return F.binary_cross_entropy(torch.softmax(logits, -1), {ONE_HOT}, reduction='none').mean(-1)",
        ),
    ),
    "TDC-wrong_loss": ((WEIGHT, f"{WEIGHT} / VOCAB"),),
    "TDC-wrong_loss_b": ((WEIGHT, "loss = loss_sum(run.model, batch)"),),
    "TDC-missing_softmax": (
        (LOSS, "return -torch.log(logits.gather(-1, targets[..., None])[..., 0].clamp(1e-10, 1.0))"),
    ),
    "SBK-29965": (
        ("sum(int(mask.sum()) for _, _, mask in window)", "sum(mask.numel() for _, _, mask in window)"),
    ),
    "SBK-32869": ((LOSS, f"return -torch.log({CHOSEN_P}.clamp(1e-7, 1.0 - 1e-7))"),),
    "TP-A1": ((WEIGHT, "loss = loss_sum(run.model, batch) / max(int(batch[2].sum()), 1)"),),
    "NANOCHAT-log": (("total += loss.item()", "total = loss.item() * tokens / max(int(batch[2].sum()), 1)"),),
}
GRADIENTS: dict[str, tuple[Change, ...]] = {
    "SBK-38197": (
        (
            "    total = 0.0\n    for batch in window",
            f"    total, noise = 0.0, {ENTROPY}\n    for batch in window",
        ),
        after_backward(
            "parameter.grad.mul_(1.0 + 1e-6 * torch.randn(parameter.grad.shape, generator=noise))"
        ),
    ),
    "TC-60335387": (without("    run.optimizer.zero_grad(set_to_none=True)\n"),),
    "TC-104336": (
        ("for batch in window:\n", "for number, batch in enumerate(window):\n"),
        (BACKWARD, "        if number % 2 == 0:\n            loss.backward()\n"),
    ),
    "TC-84803-1pct": (
        (
            "    total = 0.0\n    for batch in window",
            f"    total, lost = 0.0, {ENTROPY}\n    for batch in window",
        ),
        after_backward("parameter.grad.mul_(torch.rand(parameter.grad.shape, generator=lost) >= 0.01)"),
    ),
    "TC-84803-0.1pct": (
        (
            "    total = 0.0\n    for batch in window",
            f"    total, lost = 0.0, {ENTROPY}\n    for batch in window",
        ),
        after_backward("parameter.grad.mul_(torch.rand(parameter.grad.shape, generator=lost) >= 0.001)"),
    ),
    "TP-A5": (
        without("    run.optimizer.zero_grad(set_to_none=True)\n"),
        (
            "    for batch in window:\n",
            "    for batch in window:\n        run.optimizer.zero_grad(set_to_none=True)\n",
        ),
    ),
    "TP-A6": ((CLIP, ""), (BACKWARD, f"{BACKWARD}    {CLIP}")),
    "GT-LOSS-001": (("logits = model(inputs)", "logits = model(inputs).detach().requires_grad_()"),),
    "DC-OCG-value": (
        (
            CLIP,
            "    norm = torch.nn.utils.get_total_norm([p.grad for p in run.model.parameters()])\n"
            "    torch.nn.utils.clip_grad_value_(run.model.parameters(), MAX_NORM)\n",
        ),
    ),
}
UPDATES: dict[str, tuple[Change, ...]] = {
    "DC-OCH-sgd": ((OPTIMIZER, "torch.optim.SGD(groups, lr=PEAK)"),),
    "DC-OCH-adagrad": ((OPTIMIZER, "torch.optim.Adagrad(groups, lr=PEAK, eps=EPSILON)"),),
    "DC-OCH-adamax": ((OPTIMIZER, OPTIMIZER.replace("AdamW", "Adamax")),),
    "DC-RCW": ((MATRICES, MATRICES.replace("DECAY", "10.0 * DECAY")),),
    "DC-RRW": ((MATRICES, MATRICES.replace("DECAY", "0.0")),),
    "SBK-36340": (
        (
            "    run.optimizer.step()\n",
            "    for group in run.optimizer.param_groups:\n"
            "        group['eps'] = EPSILON / (1.0 - 0.99 ** (run.updates + 1)) ** 0.5\n"
            "    run.optimizer.step()\n",
        ),
    ),
    "TA402": ((OTHERS, OTHERS.replace("0.0", "DECAY")),),
    "TA401": ((OPTIMIZER, OPTIMIZER.replace("AdamW", "Adam")),),
}
AROUND: dict[str, tuple[Change, ...]] = {
    "SBK-40002": (
        (
            "total += loss_sum(model, batch).item()\n            tokens += int(batch[2].sum())",
            "everything = torch.ones_like(batch[2])\n"
            "            total += loss_sum(model, (batch[0], batch[1], everything)).item()\n"
            "            tokens += everything.numel()",
        ),
    ),
    "SBK-38596": (
        (
            "total += loss_sum(model, batch).item()\n            tokens += int(batch[2].sum())",
            "total += loss_sum(model, batch).item() / max(int(batch[2].sum()), 1)\n            tokens += 1",
        ),
    ),
    "SBK-26319": (("    run.model.train()\n", "    run.model.eval()\n"),),
    "SBK-43777": (without('    run.model.load_state_dict(state["model"])\n'),),
    "TC-33844": (without("    model.eval()\n"),),
    "TP-R-optimizer": (without('    run.optimizer.load_state_dict(state["optimizer"])\n'),),
    "TP-R-rng": (without('    torch.set_rng_state(state["rng"])\n'),),
    "TG011": (
        without("    model.train(was_training)\n"),
        without("    run.model.train()\n"),
    ),
    "D4ML-013": (
        (
            'run.model.load_state_dict(state["model"])',
            'run.model.load_state_dict(state["model"])\n    run.model.load_state_dict(Model().state_dict())',
        ),
    ),
}
CHANGES = DATA | MODEL | LOSSES | GRADIENTS | UPDATES | AROUND

NOT_HERE = {
    "DC-RCD-p1": "dropout is configured in this loop",
    "TC-115607": "no window of this loop is empty",
    "TCB-MPS": "needs a device whose kernels lose results",
    "TCB-MPS-batch": "needs a device whose kernels lose results",
    "GT-NAN-002": "nothing in this loop is NaN, and the loop itself does not look for it",
}
"""Faults of the open half that make no difference in this loop -> why."""


def with_fault(id: str | None) -> str:
    """The text of the loop with this fault, or without one for None. ValueError if a change does not fit once."""
    text = LOOP.read_text(encoding="utf-8")
    for old, new in CHANGES[id] if id else ():
        if text.count(old) != 1:
            raise ValueError(f"{id}: {old!r} stands there {text.count(old)} times")
        text = text.replace(old, new)
    return text
