"""Matrix products under autocast: operands of 16 bits, sums in single precision, and nothing kept from before."""

import numpy as np
from hypothesis import strategies as st

from fixtures.loop_strategies import LAYOUTS, laid_out
from fixtures.strategies import generators, log_uniform
from properties.assertions import holds, same_bytes, within
from properties.checks import checks
from reference import autocast, bounds
from reference.arithmetic import SINGLE
from reference.mixed_precision import holds_numbers_of
from reference.running_error import RunningErrorArray
from reference.training_bounds import bounded

LONG = 300, 4097
"""So many ones: their sum is 256 in bfloat16, 2048 in float16."""


def forms(subject):
    """The 16-bit types of the subject's autocast."""
    return tuple(subject.conventions.autocast.split())


def whole_numbers(rng, shape):
    """Numbers of 12 bits: three too many for either type, and sums of four products are exact in float32."""
    return rng.integers(-(2**12), 2**12, shape).astype(np.float32) * np.float32(2.0 ** rng.integers(-8, 0))


def expected(subject, oracle, *arguments):
    """What the oracle gives, exactly, for numbers that are small enough."""
    found = oracle(*arguments, product=subject.conventions.product)
    many = found if isinstance(found, tuple) else (found,)
    return [np.asarray(x, np.float32) for x in many]


def same_products(rule, subject, a, b, form, dout=None):
    """The product, and with dout its gradients, bit for bit."""
    got = [subject.autocast_matmul(a, b, form)]
    wanted = expected(subject, autocast.autocast_matmul, a, b, form)
    if dout is not None:
        got += subject.autocast_matmul_backward(a, b, form, dout)
        wanted += expected(subject, autocast.autocast_matmul_backward, a, b, form, dout)
    for x, y, name in zip(got, wanted, ("a b", "the gradient of a", "the gradient of b"), strict=False):
        same_bytes(rule, np.asarray(x) + np.float32(0), y + np.float32(0), f"{name} in {form}")


@checks("AUTO-01", rng=generators, m=st.integers(1, 5), k=st.integers(1, 4), n=st.integers(1, 5))
def test_operands_are_rounded_and_the_product_too(subject, rng, m, k, n):
    for form in forms(subject):
        bits = 2.0**-4 if form == "float16" else 1.0
        a, b = whole_numbers(rng, (m, k)) * np.float32(bits), whole_numbers(rng, (k, n)) * np.float32(bits)
        same_products("AUTO-01", subject, a, b, form)


@checks("AUTO-02")
def test_products_of_arrays_of_every_layout(subject):
    rng = np.random.default_rng(2)
    form = forms(subject)[0]
    for layout in LAYOUTS:
        given = [whole_numbers(rng, shape) * np.float32(2.0**-5) for shape in ((3, 2), (2, 4), (3, 4))]
        a, b, dout = (laid_out(x, layout) for x in given)
        same_products("AUTO-02", subject, a, b, form, dout)


@checks("AUTO-01")
def test_a_product_beyond_the_type_is_infinite(subject):
    for form in forms(subject):
        for factor in (300.0, 255.0, 256.0):
            x = np.full((1, 1), factor, np.float32)
            same_products("AUTO-01", subject, x, x, form)


@checks("AUTO-02", rng=generators, m=st.integers(1, 4), k=st.integers(1, 4), n=st.integers(1, 4))
def test_gradients_are_products_under_autocast_as_well(subject, rng, m, k, n):
    """After a product of the same arrays, as an evaluation is: its rounded copies have no gradient."""
    for form in forms(subject):
        bits = np.float32(2.0**-5 if form == "float16" else 1.0)
        a, b, dout = (whole_numbers(rng, shape) * bits for shape in ((m, k), (k, n), (m, n)))
        same_products("AUTO-02", subject, a, b, form, dout)


@checks("AUTO-03")
def test_many_products_are_summed_in_single_precision(subject):
    for form in forms(subject):
        for length in LONG:
            one, column = np.ones((1, length), np.float32), np.ones((length, 1), np.float32)
            same_products("AUTO-03", subject, one, column, form)
            same_products("AUTO-03", subject, column, np.ones((1, 1), np.float32), form, column)


@checks("AUTO-03", rng=generators, k=st.integers(1, 40))
def test_products_are_within_the_bound_of_single_precision(subject, rng, k):
    for form in forms(subject):
        shapes = (3, k), (k, 2), (3, 2)
        given = [log_uniform(rng, shape, -2.0, 0.5).astype(np.float32) for shape in shapes]
        a, b, dout = given
        got = subject.autocast_matmul(a, b, form), *subject.autocast_matmul_backward(a, b, form, dout)
        x, y, dy = bounds.traced(given, RunningErrorArray, SINGLE)
        how = {"product": subject.conventions.product}
        product = autocast.autocast_matmul(x, y, form, **how)
        wanted = product, *autocast.autocast_matmul_backward(x, y, form, dy, **how)
        within("AUTO-03", [np.asarray(z) for z in got], [bounded(z) for z in wanted], np.float32)
        if subject.conventions.product == "rounded":
            for z in got:
                holds("AUTO-03", holds_numbers_of(z, form), f"a result does not hold {form} numbers")


@checks("AUTO-04", rng=generators)
def test_nothing_is_kept_of_weights_that_have_changed(subject, rng):
    """Of one array that is changed in place, as an optimizer changes weights."""
    form = forms(subject)[0]
    a, b = whole_numbers(rng, (2, 2)) * np.float32(2.0**-4), whole_numbers(rng, (2, 3)) * np.float32(2.0**-4)
    same_products("AUTO-04", subject, a, b, form)
    b += np.float32(1.0)
    same_products("AUTO-04", subject, a, b, form)
    b[0] = 0.0
    same_products("AUTO-04", subject, a, b, form, np.ones((2, 3), np.float32))
