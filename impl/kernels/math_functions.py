"""exp, log, sin, cos and the normal distribution, from + - * / fma and bit shifts alone.

The functions of libm differ from build to build in the last bit and are one slow call for each element. These give
the same bits everywhere, and LLVM vectorises a loop over them because they have no branches. Their errors in ulps are
tested against mpmath. exp and the normal distribution have a float32 version too: a vector holds twice as many
elements, and the polynomials are shorter.

Argument reduction as in Cody & Waite 1980. The last mantissa bit of `_ROUND` is worth 1: adding `_ROUND` and
subtracting it rounds a number to the nearest integer, and the low bits of the sum are that integer.
"""

import math

import numpy as np
from llvmlite import ir
from numba.core import types

from impl.kernels.runtime.compile import by_precision, intrinsic_or_python, kernel, llvm_inlined
from impl.kernels.runtime.fma import fma

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


@intrinsic_or_python(lambda x: np.float64(x).view(np.int64))
def bits(typingctx, x):
    """The 64 bits of a float64 as an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic_or_python(lambda x: np.int64(x).view(np.float64))
def from_bits(typingctx, x):
    """The float64 with the bits of an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@llvm_inlined
def _polynomial(x, coefficients):
    """Value at x of a polynomial, coefficients from the lowest power up; Horner's rule for even and for odd powers."""
    x2 = x * x
    last = len(coefficients) - 1
    first, second = coefficients[last], coefficients[last - 1]
    for k in range(last - 2, -1, -2):
        first = fma(first, x2, coefficients[k])
    for k in range(last - 3, -1, -2):
        second = fma(second, x2, coefficients[k])
    return fma(first, x, second) if last % 2 else fma(second, x, first)


@llvm_inlined
def _exp_double(x):
    """e^x: 0 below -746, infinity above 710, NaN for NaN."""
    clamped = min(max(x, -746.0), 710.0)
    shifted = clamped * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (clamped - n * _LN2_HIGH) - n * _LN2_LOW
    exponent = bits(shifted) - _ROUND_BITS
    half = exponent >> 1  # two factors, so that a subnormal result is rounded once
    value = 1.0 + fma(r * r, _polynomial(r, _EXP[2:]), r)
    value *= from_bits((half + 1023) << 52)
    value *= from_bits((exponent - half + 1023) << 52)
    return value if x == x else x


@llvm_inlined
def log(x):
    """Natural logarithm of a positive, normal, finite float64."""
    exponent = (bits(x) - bits(_SQRT_HALF)) >> 52
    m = from_bits(bits(x) - (exponent << 52))  # in [sqrt(1/2), sqrt(2))
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    f = m - 1.0
    correction = s * (fma(2.0 * s2, _polynomial(s2, _ATANH[1:]), -f)) + exponent * _LN2_LOW  # log m - f
    return exponent * _LN2_HIGH + (f + correction)


@llvm_inlined
def sin_cos(x):
    """(sin x, cos x) for |x| < 10^5 radians."""
    shifted = x * _TWO_OVER_PI + _ROUND
    n = shifted - _ROUND
    r = ((x - n * _PI2_HIGH) - n * _PI2_MIDDLE) - n * _PI2_LOW
    r2 = r * r
    sine = fma(r * r2, _polynomial(r2, _SIN[1:]), r)
    cosine = fma(r2, _polynomial(r2, _COS[1:]), 1.0)
    quadrant = (bits(shifted) - _ROUND_BITS) & 3
    if quadrant == 0:
        return sine, cosine
    if quadrant == 1:
        return cosine, -sine
    if quadrant == 2:
        return -sine, -cosine
    return -cosine, sine


@llvm_inlined
def _normal_double(x):
    """`normal_cdf_pdf` of a float64."""
    bounded = min(abs(x), 64.0)  # beyond 64 Phi is 0 or 1 and phi is 0; an infinity would become NaN
    z = bounded * _SQRT_HALF
    square = bounded * bounded
    gauss = _exp_double(-0.5 * square)
    gauss -= gauss * 0.5 * fma(bounded, bounded, -square)  # corrects for the rounding error of the square
    y = (z - 3.75) / (z + 3.75)
    upper = 0.5 * gauss * _polynomial(y, _ERFCX) / (1.0 + 2.0 * z)
    return (upper if x < 0.0 else 1.0 - upper), gauss * _INV_SQRT_2PI


# ---- The same in float32. Every constant has that type: with a Python float, numba would compute in float64.

_ROUND_32 = np.float32(1.5 * 2.0**23)
_ROUND_BITS_32 = np.int32(0x4B400000)
_LOG2_E_32 = np.float32(_LOG2_E)
_LN2_HIGH_32 = np.float32(float.fromhex("0x1.62e4p-1"))  # 15 bits: n * _LN2_HIGH_32 is exact
_LN2_LOW_32 = np.float32(math.log(2.0) - float.fromhex("0x1.62e4p-1"))
_EXP_LOW_32, _EXP_HIGH_32 = np.float32(-87.33654), np.float32(88.72283)  # ln of smallest normal, largest
_INFINITE = np.float32(np.inf)
_ZERO, _HALF, _ONE, _TWO, _NORMAL_BOUND = (np.float32(x) for x in (0.0, 0.5, 1.0, 2.0, 15.0))
_SQRT_HALF_32, _INV_SQRT_2PI_32 = np.float32(_SQRT_HALF), np.float32(_INV_SQRT_2PI)
_MANTISSA_BITS_32 = np.int32(23)

# (e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2], relative error of e^r 0.16 u; and (1 + 2z) exp(z^2) erfc(z) in
# y = (z - 2) / (z + 2), 0 <= z <= 10, relative error 0.55 u: Chebyshev interpolants computed at 60 digits.
_EXP_32 = tuple(
    np.float32(x)
    for x in (
        0.5,
        0.16666577756404877,
        0.041666556149721146,
        0.008363173343241215,
        0.0013926175888627768,
    )
)
_ERFCX_32 = tuple(
    np.float32(x)
    for x in (
        1.2769783735275269,
        -0.09276395291090012,
        -0.1660304218530655,
        0.16405491530895233,
        -0.05421426519751549,
        -0.008060825057327747,
        0.008664255030453205,
        0.0013277903199195862,
        -0.0012641195207834244,
        -0.00042412252514623106,
    )
)


@intrinsic_or_python(lambda x: x.view(np.int32))
def bits_32(typingctx, x):
    """The 32 bits of a float32 as an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic_or_python(lambda x: x.view(np.float32))
def from_bits_32(typingctx, x):
    """The float32 with the bits of an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@llvm_inlined
def _exp_single(x):
    """e^x of a float32: 0 where e^x < 2^-126, infinity where it is above the largest float32, NaN for NaN."""
    clamped = min(max(x, _EXP_LOW_32), _EXP_HIGH_32)
    shifted = fma(clamped, _LOG2_E_32, _ROUND_32)
    n = shifted - _ROUND_32
    r = fma(-n, _LN2_LOW_32, fma(-n, _LN2_HIGH_32, clamped))
    value = _ONE + fma(r * r, _polynomial(r, _EXP_32), r)
    exponent = np.int32(np.int32(bits_32(shifted) - _ROUND_BITS_32) << _MANTISSA_BITS_32)
    value = from_bits_32(np.int32(bits_32(value) + exponent))  # a normal number: add n to its exponent
    value = _ZERO if x < _EXP_LOW_32 else value
    value = _INFINITE if x > _EXP_HIGH_32 else value
    return value if x == x else x


@llvm_inlined
def _normal_single(x):
    """`normal_cdf_pdf` of a float32."""
    bounded = min(abs(x), _NORMAL_BOUND)
    z = bounded * _SQRT_HALF_32
    square = bounded * bounded
    gauss = _exp_single(-_HALF * square)
    gauss -= gauss * (_HALF * fma(bounded, bounded, -square))
    divisor, factor = z + _TWO, _ONE + _TWO * z
    inverse = _ONE / (divisor * factor)
    upper = _HALF * gauss * _polynomial((z - _TWO) * factor * inverse, _ERFCX_32) * (divisor * inverse)
    return (upper if x < _ZERO else _ONE - upper), gauss * _INV_SQRT_2PI_32


exp = by_precision(_exp_single, _exp_double)
"""e^x, within 1 ulp of the argument's precision."""
normal_cdf_pdf = by_precision(_normal_single, _normal_double)
"""(Phi(x), phi(x)) of the standard normal distribution; Phi = (1 + erf(x / sqrt 2)) / 2."""


@kernel
def cosine(x):
    """cos x of a float64, |x| < 10^5; for Python code."""
    return sin_cos(x)[1]
