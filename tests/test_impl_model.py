"""The model as a whole: NaN is never hidden; neither threads, splits of a batch nor errors change a gradient."""

import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

from impl.config import ModelConfig
from impl.data.iterator import Batch, make_batch
from impl.kernels.memory_layout import ModelShape, stores_transposes
from impl.kernels.runtime.thread_pool import ThreadPool
from impl.kernels.runtime.ticket_counters import FAILED, wait_until
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters, parameter_shapes
from impl.trainer import BigramTrainer

CONFIG = ModelConfig(d_model=8, n_heads=2, n_layers=1, d_ff=12, vocab_size=7, context=6)
BATCH = make_batch([[1, 5, 6, 2], [1, 4, 2]])


@pytest.mark.parametrize("name", sorted(parameter_shapes(CONFIG)))
def test_a_nan_in_a_parameter_makes_the_loss_nan(name):
    parameters = initial_parameters(0, CONFIG)
    parameters[name].reshape(-1)[:] = np.nan
    for dtype in ("float32", "float64"):
        assert np.isnan(MiniGPT(CONFIG, dtype, parameters).nll(BATCH)), dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_nan_among_the_logits_makes_the_loss_nan(dtype):
    params = {"E": np.ones((3, 2)), "W": np.zeros((2, 3)), "b": np.array([0.0, np.nan, 1.0])}
    settings = dict.fromkeys(("seed", "warmup"), 0) | {"dropout": 0.0, "peak": 0.1, "floor": 0.0, "total": 1}
    settings |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "max_norm": 1.0}
    trainer = BigramTrainer({name: x.astype(dtype) for name, x in params.items()}, settings)
    assert np.isnan(trainer.evaluate([(np.array([[0]]), np.array([[0]]), np.ones((1, 1), dtype=bool))]))


def test_a_pool_raises_the_error_of_a_helper():
    members, begun, counters = ThreadPool(2), threading.Event(), np.zeros(3, np.int64)

    def work(worker):
        if worker == 1:
            begun.set()
            raise KeyError("helper")
        begun.wait(10.0)
        raise RuntimeError("another thread failed")

    with pytest.raises(KeyError, match="helper"):
        members.run(work, 2, counters)
    assert counters[FAILED] == 1
    members.run(lambda worker: None, 2, counters)  # the error does not affect the next task


def test_what_follows_from_an_error_is_not_raised_in_its_place():
    """Ctrl-C interrupts the calling thread; the others then fail as a consequence."""
    members, counters = ThreadPool(2), np.zeros(3, np.int64)

    def work(worker):
        if worker == 0:
            raise KeyboardInterrupt
        wait_until(counters, 2, 1)

    with pytest.raises(KeyboardInterrupt):
        members.run(work, 2, counters)


def test_an_interrupt_while_helpers_are_called_stops_them():
    """One that has the task already may be at work; one that starts later must not."""
    members, begun, written = ThreadPool(2), threading.Event(), []

    def work(worker):
        begun.set()
        time.sleep(0.05)
        written.append(worker)

    class InterruptedOnce:
        interrupted = False

        def put(self, task):
            given.put(task)
            if not self.interrupted:
                self.interrupted = begun.wait(10.0)
                raise KeyboardInterrupt

    given = members._helpers[0].tasks
    vars(members._helpers[0])["tasks"] = InterruptedOnce()
    with pytest.raises(KeyboardInterrupt):
        members.run(work, 2, np.zeros(3, np.int64))
    assert written == [1]


def test_after_an_error_no_helper_goes_on():
    """It would add to the gradients of the next window."""
    members, running, finished = ThreadPool(3), threading.Barrier(3), []

    def work(worker):
        running.wait(10.0)
        if worker == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        finished.append(worker)

    with pytest.raises(KeyboardInterrupt):
        members.run(work, 3, np.zeros(3, np.int64))
    assert sorted(finished) == [1, 2]


def test_threads_end_with_their_pool_and_keep_no_model_alive():
    model = MiniGPT(CONFIG, "float64", initial_parameters(0, CONFIG), ThreadPool(3))
    batch = make_batch([[1, 5, 2]] * 40)
    model.nll(batch)
    threads = [helper.thread for helper in model._pool._helpers]
    gone = weakref.ref(model)
    del model
    for thread in threads:
        thread.join(10.0)
    assert gone() is None
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [([[1] * 7], "context is 6"), ([[1, 7]], "the model has 7"), ([[-1]], "the model has 7")],
)
def test_tokens_that_are_not_the_models_are_refused(tokens, reason):
    model, ids = MiniGPT(CONFIG, "float64", initial_parameters(0, CONFIG)), np.array(tokens)
    seen = np.ones(ids.shape, dtype=bool)
    for call in (lambda: model.forward(ids, seen), lambda: model.nll(Batch(ids, ids, seen, seen))):
        with pytest.raises(ValueError, match=reason):
            call()


def test_a_target_in_the_loss_mask_must_be_a_token_of_the_model():
    model = MiniGPT(CONFIG, "float64", initial_parameters(0, CONFIG))
    for foreign in (-1, 7):
        target = BATCH.target.copy()
        target[~BATCH.loss_mask] = foreign
        assert model.nll(replace(BATCH, target=target)) == model.nll(BATCH)
        target[0, 0] = foreign
        with pytest.raises(ValueError, match="the model has 7"):
            model.nll(replace(BATCH, target=target))


@pytest.mark.parametrize("name", ["input", "target", "loss_mask", "key_mask"])
def test_a_batch_of_different_shapes_is_refused(name):
    """A kernel would read and write what is not the batch's."""
    model = MiniGPT(CONFIG, "float64", initial_parameters(0, CONFIG))
    x = getattr(BATCH, name)
    for other in (x[:, :-1], x[:1], np.hstack([x, x])):
        with pytest.raises(ValueError, match="different shapes"):
            model.accumulate(replace(BATCH, **{name: other}), NO_DROPOUT, 4)


def test_a_wait_ends_if_another_thread_failed():
    """A worker that fails in the middle of a batch leaves counters that are never incremented."""
    with pytest.raises(RuntimeError, match="another thread failed"):
        wait_until(np.array([1, 0]), 1, 1)


def test_a_batch_without_targets_adds_nothing():
    empty = replace(BATCH, loss_mask=np.zeros_like(BATCH.loss_mask))
    model = MiniGPT(CONFIG, "float64", initial_parameters(0, CONFIG))
    assert model.accumulate(empty, NO_DROPOUT, 1, 0.5) == 0.5
    model.finish_gradients()
    assert not model.flat_gradients.any()


def test_a_window_begins_with_nothing_of_the_one_before():
    model, found = MiniGPT(CONFIG, "float32", initial_parameters(0, CONFIG)), set()
    for abandoned in (0, 0, 1, 0):
        for _ in range(abandoned + 1):
            model.zero_gradients()
            model.accumulate(BATCH, NO_DROPOUT, BATCH.tokens)
        model.finish_gradients()
        found.add(model.flat_gradients.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_helpers_that_come_late_or_early_change_nothing(threads):
    batches = [make_batch([[1, *range(2, 3 + (i * k) % 5), 2] for i in range(1, 40)]) for k in (1, 2, 3)]
    model, alone = (
        MiniGPT(CONFIG, "float32", initial_parameters(0, CONFIG), ThreadPool(n)) for n in (threads, 1)
    )
    for batch in batches * 20:
        losses = []
        for each in (model, alone):
            each.zero_gradients()
            losses.append(each.accumulate(batch, NO_DROPOUT, batch.tokens))
            each.finish_gradients()
        assert losses[0] == losses[1]
        assert np.array_equal(model.flat_gradients, alone.flat_gradients)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wide_model_has_the_same_bits_with_transposes_as_without(dtype):
    """Without, if its widths are multiples of 32; with, if it has one hidden unit more, here one that is always 0."""
    config = CONFIG.model_copy(update={"d_model": 256, "n_heads": 4, "d_ff": 64})
    more = config.model_copy(update={"d_ff": 65})
    kept = [stores_transposes(ModelShape(1, 4, 256, c.d_ff, 7, False)) for c in (config, more)]
    assert kept == [False, True]
    parameters = initial_parameters(0, config)
    idle = {name: np.zeros(shape) for name, shape in parameter_shapes(more).items()}
    for name, value in parameters.items():
        idle[name][tuple(slice(n) for n in value.shape)] = value
    found = []
    batch = make_batch([[1, *[3 + i % 4] * (i % 5), 2] for i in range(20)])  # three work items
    for each, start, threads in ((config, parameters, 3), (more, idle, 1)):
        model = MiniGPT(each, dtype, start, ThreadPool(threads))
        loss = model.accumulate(batch, NO_DROPOUT, batch.tokens)
        model.finish_gradients()
        of_both = {n: x[tuple(slice(k) for k in parameters[n].shape)] for n, x in model.gradients.items()}
        found.append((loss, {name: x.tobytes() for name, x in of_both.items()}))
    assert found[0] == found[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_every_split_into_micro_batches_gives_the_same_bits(threads):
    """Work items begin at fixed sequences of an update, wherever a micro-batch begins: some have none of its rows."""
    config = CONFIG.model_copy(update={"context": 24})  # so long that a work item is not a whole group
    batch = make_batch([[1, *[3 + i % 4] * (12 + i % 11), 2] for i in range(35)])
    model = MiniGPT(config, "float32", initial_parameters(0, config), ThreadPool(threads))
    found = set()
    for count in range(1, 36):
        model.zero_gradients()
        dropout, nll = Dropout(0.3, np.array([1, 2], np.uint32), 4), 0.0
        for part in batch.split(count):
            nll = model.accumulate(part, dropout, batch.tokens, nll)
            dropout = dropout.advance(len(part.input))
        model.finish_gradients()
        found.add((nll, model.flat_gradients.tobytes()))
    assert len(found) == 1


def test_a_path_may_be_saved_to_again(tmp_path):
    params = {"E": np.ones((3, 2)), "W": np.array([[0.5, -0.5, 0.1], [0.2, 0.3, -0.4]]), "b": np.zeros(3)}
    settings = {"seed": 1, "dropout": 0.0, "peak": 0.1, "floor": 0.01, "warmup": 1, "total": 9}
    settings |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "max_norm": 1.0}
    batch = np.array([[0], [2]]), np.array([[1], [0]]), np.ones((2, 1), dtype=bool)
    first, later = BigramTrainer(params, settings), BigramTrainer(params, settings)
    path = str(tmp_path / "checkpoint")
    first.save(path)
    first.train([batch, batch], 1)
    first.save(path)
    later.load(path)
    assert all(np.array_equal(x, first.parameters()[name]) for name, x in later.parameters().items())
    BigramTrainer(params, settings).save(path)  # an older state after a newer one
    later.load(path)
    assert all(np.array_equal(x, params[name]) for name, x in later.parameters().items())
