"""The laws of evaluation and of reports, on numbers that a hand can check."""

import math

import numpy as np
import pytest

from fixtures.strategies import model_parameters
from reference import bits_per_byte, centred_accuracy, decoding, flops, model, sampling, speed

PLAIN = sampling.OFF


def test_four_tokens_of_two_bytes_at_two_nats_are_1_4427_bits_per_byte():
    nll, targets = np.full((1, 4), 2.0), np.ones((1, 4), int)
    assert bits_per_byte.bits_per_byte([(nll, targets)], np.array([0, 2])) == pytest.approx(
        1.442695, abs=1e-6
    )


def test_bits_per_byte_of_nothing():
    nothing = [(np.ones((1, 2)), np.full((1, 2), -1))]
    assert bits_per_byte.bits_per_byte(nothing, np.array([1])) == math.inf
    assert math.isnan(bits_per_byte.bits_per_byte(nothing, np.array([1]), empty="nan"))
    with pytest.raises(ValueError, match="no bytes"):
        bits_per_byte.bits_per_byte(nothing, np.array([1]), empty="raises")


def test_a_part_of_a_character_has_its_own_bytes():
    assert bits_per_byte.token_bytes([b"\xe4", b"\xbd\xa0", "ä".encode(), b"<s>"], [3]) == [1, 2, 2, 0]


@pytest.mark.parametrize(("budget", "read"), [(0, 0), (5, 0), (6, 1), (11, 1), (12, 2), (None, 3)])
def test_a_budget_is_of_tokens(budget, read):
    batches = [(np.ones((2, 3)), np.ones((2, 3), int))] * 3
    assert len(list(bits_per_byte.within_budget(batches, budget))) == read


def test_equal_logits_at_the_top():
    logits = np.array([2.0, 2.0, 1.0])
    greedy = [1.0, 0.0, 0.0]
    assert sampling.token_probabilities(logits, temperature=0.0).tolist() == greedy
    assert sampling.token_probabilities(logits, top_k=1).tolist() == greedy
    assert sampling.token_probabilities(logits, top_k=1, ties="kept").tolist() == [0.5, 0.5, 0.0]
    assert np.count_nonzero(sampling.token_probabilities(np.array([3.0, 1.0, 1.0, 0.0]), top_k=2)) == 3
    assert (
        np.count_nonzero(sampling.token_probabilities(np.array([3.0, 1.0, 1.0]), top_k=2, ties="first")) == 2
    )


@pytest.mark.parametrize(("p", "left"), [(1.0, 3), (0.81, 3), (0.6, 2), (0.49, 1), (0.0, 1)])
def test_a_nucleus_of_half_a_third_and_a_fifth(p, left):
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    assert np.count_nonzero(sampling.token_probabilities(logits, top_p=p)) == left


def test_filters_follow_each_other():
    """Of 0.5, 0.3, 0.2 the two largest have 0.625 and 0.375: a nucleus of 0.6 is then one token."""
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    assert sampling.token_probabilities(logits, top_k=2, top_p=0.6).tolist() == [1.0, 0.0, 0.0]
    assert np.count_nonzero(sampling.token_probabilities(logits, min_p=0.5)) == 2


def test_a_token_without_a_chance_keeps_none():
    p = sampling.token_probabilities(np.array([0.0, -np.inf, 0.0]))
    assert p.tolist() == [0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match="temperature"):
        sampling.token_probabilities(np.zeros(2), temperature=-1.0)


def test_draws_are_those_of_the_seed():
    logits = np.zeros(5)
    first = sampling.sample_token(logits, 100, 3, **PLAIN)
    assert sampling.sample_token(logits, 50, 3, **PLAIN).tolist() == first[:50].tolist()
    assert set(first.tolist()) == set(range(5))


def test_decoding_stops_at_the_context():
    config = {**model.DEFAULT_CONFIG, "d_model": 8, "n_heads": 1, "d_ff": 8, "vocab_size": 5, "context": 4}
    params = model_parameters(np.random.default_rng(0), config, 0.2)
    ids, logits = decoding.generate(params, [1, 2], 3, config)
    assert ids.shape == (3,) and logits.shape == (3, 5)
    for prompt, count in (([1, 2], 4), ([], 1)):
        with pytest.raises(ValueError, match="the context is 4"):
            decoding.generate(params, prompt, count, config)


def test_centred_accuracy_is_0_for_a_guesser_and_1_for_the_best():
    tasks = [([True, False, False, False], 25.0), ([True, True], 50.0), ([False], 50.0)]
    centred, mean = centred_accuracy.centered_accuracy(tasks)
    assert centred == [0.0, 1.0, -1.0] and mean == 0.0
    tasks_wrong: list[list[tuple[list[bool], float]]] = [[], [([], 25.0)], [([True], 100.0)]]
    for wrong in tasks_wrong:
        with pytest.raises(ValueError, match="baseline below 100"):
            centred_accuracy.centered_accuracy(wrong)


def test_the_mean_and_the_sum_choose_differently():
    losses = [[0.5, 0.5], [0.25] * 8]
    assert centred_accuracy.choose_option(losses) == 1
    assert centred_accuracy.choose_option(losses, normalise=False) == 0
    assert centred_accuracy.choose_option([[1.0], [1.0, 1.0]]) == 0


@pytest.mark.parametrize(("n", "shown"), [(1, 0), (2, 1), (11, 10), (30, 10)])
def test_no_more_examples_than_there_are(n, shown):
    assert len(centred_accuracy.few_shot(n, 0, 10, 1234)) == shown


class Counted(np.ndarray):
    """An array whose matrix products are counted, in multiplications."""

    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(x) for x in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            Counted.total += result.size * plain[0].shape[-1]
        return np.asarray(result).view(Counted)

    def __array_function__(self, func, types, args, kwargs):
        result = super().__array_function__(func, types, args, kwargs)
        return result.view(Counted) if isinstance(result, np.ndarray) else result


@pytest.mark.parametrize(("heads", "layers", "context"), [(1, 1, 4), (2, 3, 8), (4, 2, 32)])
def test_a_counter_of_multiplications_confirms_the_formula(heads, layers, context):
    """The oracle's model, forward: two operations a multiplication, and three passes."""
    sizes = {"d_model": 8, "n_heads": heads, "n_layers": layers, "d_ff": 20, "vocab_size": 11}
    config = {**model.DEFAULT_CONFIG, **sizes, "context": context}
    params = model_parameters(np.random.default_rng(0), config, 0.1)
    Counted.total = 0
    counted = {name: x.view(Counted) for name, x in params.items()}
    tokens = np.zeros((3, context), int)
    model.forward(counted, tokens, np.ones(tokens.shape, bool), config)
    assert 6 * Counted.total == flops.flops_per_token(config) * tokens.size


def test_a_window_of_two_of_eight_keys():
    """One layer, 2 heads of 4 features: 12 * 2 * 4 * 2 = 192, or 288 if the query's own key is one more."""
    sizes = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 8, "vocab_size": 2, "context": 8}
    config = {**model.DEFAULT_CONFIG, **sizes}
    whole = flops.flops_per_token(config)
    windowed = [flops.flops_per_token(config | {"windows": [2]}, window=w) for w in ("w", "w + 1")]
    matrices = whole - 12 * 8 * 8
    assert [x - matrices for x in windowed] == [192, 288]


def test_three_formulas_of_the_locked_model():
    found = [
        flops.flops_per_token(model.DEFAULT_CONFIG, name) for name in ("matrices", "parameters", "causal")
    ]
    assert found == [663_552, 671_232, 646_656]
    assert flops.mfu(10**9, 1000, 2.0, 1e12, 1) == 50.0
    assert flops.mfu(1, 1, 1.0, None, 1) is None


def test_a_run_that_was_resumed_at_800_has_160_seconds_left():
    steps = [(0.1 * k, 0.1 * k + 0.1, 5) for k in range(10)]
    found, left = speed.tokens_per_second(steps, excluded=0, done=800, total=2400)
    assert found == pytest.approx(50.0) and left == pytest.approx(159.0)
    assert speed.tokens_per_second(steps, excluded=10, done=0, total=20) == (None, None)


def test_an_evaluation_of_nine_seconds_is_no_training():
    steps = [(10.0 * k + 0.0, 10.0 * k + 1.0, 100) for k in range(10)]
    assert speed.tokens_per_second(steps, excluded=2, done=0, total=10) == (100.0, 0.0)


def test_a_third_of_an_hour_is_billed_as_declared():
    assert speed.cost([1188.0], price=1.2, devices=1) == pytest.approx(0.396)
    assert speed.cost([1188.0], price=1.2, devices=1, billed="hour") == 1.2
    assert speed.cost([], price=1.2, devices=8) == 0.0


def test_shares_of_a_step_of_ten_seconds():
    spans = [("data", 0, 8.0, 11.0), ("forward", 0, 12.0, 15.0), ("data", 1, 12.0, 19.0)]
    assert speed.step_profile(spans, 10.0, 20.0) == {"data": 0.1, "forward": 0.3, "idle": 0.6}
