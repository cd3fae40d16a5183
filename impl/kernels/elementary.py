"""exp, log, sin, cos and the normal distribution in float64, from + - * / and bit shifts alone.

libm's differ from build to build in the last bit and are one slow call an element. These give the same bits
everywhere, and LLVM turns a loop over them into vector code because they have no branches. The errors in ulps
are tested against mpmath (tests/test_impl_elementary.py).

Reduction: Cody & Waite 1980. `_ROUND` holds a float64 whose last mantissa bit is worth 1: adding and subtracting
it rounds to the nearest integer, and the low bits of the sum are that integer.
"""

import math

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from impl.kernels.compile import inlined
from impl.kernels.fma import fma

_ROUND = 1.5 * 2.0**52
_ROUND_BITS = 0x4338000000000000
_ONE_BITS = 0x3FF0000000000000

_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 33 bits: n * _LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")

_TWO_OVER_PI = 2.0 / math.pi
_PI2_HIGH = float.fromhex("0x1.921fb54400000p+0")
_PI2_MIDDLE = float.fromhex("0x1.0b4611a600000p-34")
_PI2_LOW = float.fromhex("0x1.3198a2e037073p-69")

_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)

# (1 + 2z) exp(z^2) erfc(z) as a polynomial in y = (z - 3.75) / (z + 3.75), z >= 0: the form of Shepherd &
# Laframboise 1981, here the Chebyshev interpolant of degree 23 computed at 60 digits; lowest power first.
_ERFCX = (
    1.2375126308378275,
    -0.14024059858554697,
    0.0035854154854790257,
    0.0822767384901452,
    -0.10880393014244462,
    0.09230432116037748,
    -0.05869339857664934,
    0.028362277418956406,
    -0.009746579683265262,
    0.0017556258528952954,
    0.000293714378044958,
    -0.0002901540805408417,
    5.164652974177416e-05,
    2.238423915508223e-05,
    -1.1438048033346894e-05,
    -9.73559896736775e-07,
    1.7419821586224816e-06,
    -5.7218230603224086e-08,
    -2.4857126248016745e-07,
    2.3263508708859124e-08,
    3.197926671666804e-08,
    -3.744210080962018e-09,
    -2.623107347133476e-09,
    3.1114333809799254e-10,
)
_EXP = tuple(1.0 / math.factorial(k) for k in range(14))
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(11))
_SIN = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(10))


@intrinsic
def _bits(typingctx, x):
    """The 64 bits of a float64 as an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _from_bits(typingctx, x):
    """The float64 with the bits of an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@inlined
def _polynomial(x, coefficients):
    """Value at x; `coefficients` is a tuple, lowest power first. Even and odd powers are two Horner chains."""
    x2 = x * x
    last = len(coefficients) - 1
    first, second = coefficients[last], coefficients[last - 1]
    for k in range(last - 2, -1, -2):
        first = fma(first, x2, coefficients[k])
    for k in range(last - 3, -1, -2):
        second = fma(second, x2, coefficients[k])
    return fma(first, x, second) if last % 2 else fma(second, x, first)


@inlined
def exp(x):
    """e^x: 0 below -746, infinity above 710, NaN for NaN."""
    clamped = min(max(x, -746.0), 710.0)
    shifted = clamped * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (clamped - n * _LN2_HIGH) - n * _LN2_LOW
    exponent = _bits(shifted) - _ROUND_BITS
    half = exponent >> 1  # two factors, so that results below 2^-1022 round once, gradually
    value = 1.0 + fma(r * r, _polynomial(r, _EXP[2:]), r)
    value *= _from_bits((half + 1023) << 52)
    value *= _from_bits((exponent - half + 1023) << 52)
    return value if x == x else x


@inlined
def log(x):
    """Natural logarithm of a positive, normal, finite float64."""
    exponent = (_bits(x) - _bits(_SQRT_HALF)) >> 52
    m = _from_bits(_bits(x) - (exponent << 52))  # in [sqrt(1/2), sqrt(2))
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    f = m - 1.0
    correction = s * (fma(2.0 * s2, _polynomial(s2, _ATANH[1:]), -f)) + exponent * _LN2_LOW  # log m - f
    return exponent * _LN2_HIGH + (f + correction)


@inlined
def sin_cos(x):
    """(sin x, cos x) for |x| < 10^5 radians."""
    shifted = x * _TWO_OVER_PI + _ROUND
    n = shifted - _ROUND
    r = ((x - n * _PI2_HIGH) - n * _PI2_MIDDLE) - n * _PI2_LOW
    r2 = r * r
    sine = fma(r * r2, _polynomial(r2, _SIN[1:]), r)
    cosine = fma(r2, _polynomial(r2, _COS[1:]), 1.0)
    quadrant = (_bits(shifted) - _ROUND_BITS) & 3
    if quadrant == 0:
        return sine, cosine
    if quadrant == 1:
        return cosine, -sine
    if quadrant == 2:
        return -sine, -cosine
    return -cosine, sine


@inlined
def normal_cdf_pdf(x):
    """(Phi(x), phi(x)) of the standard normal distribution; Phi = (1 + erf(x / sqrt 2)) / 2."""
    bounded = min(abs(x), 64.0)  # beyond it both functions are 0 or 1; an infinity would become NaN
    z = bounded * _SQRT_HALF
    square = bounded * bounded
    gauss = exp(-0.5 * square)
    gauss -= gauss * 0.5 * fma(bounded, bounded, -square)  # what rounding the square left out
    y = (z - 3.75) / (z + 3.75)
    upper = 0.5 * gauss * _polynomial(y, _ERFCX) / (1.0 + 2.0 * z)
    return (upper if x < 0.0 else 1.0 - upper), gauss * _INV_SQRT_2PI
