"""The coefficients of src/export/onnx/normal.rs, and how far they are off. Needs mpmath.

erfc(x) = t exp(-x^2 + P(2t - 1)), t = 2 / (2 + x), for x >= 0. P is smooth on [-1, 1]; it is interpolated in Chebyshev's nodes.
"""

from mpmath import cos, erfc, exp, log, mp, mpf, pi, sqrt

mp.dps = 60
DEGREE = 23


def wanted(y):
    t = (y + 1) / 2
    x = 2 / t - 2
    if x < 2000:
        return log(erfc(x) * exp(x * x) / t)
    term, total = mpf(1), mpf(0)
    for k in range(30):
        total += term
        term *= -(2 * k + 1) / (2 * x * x)
    return log(total / (x * sqrt(pi)) / t)


def coefficients(count):
    nodes = [cos(pi * (k + mpf(1) / 2) / count) for k in range(count)]
    values = [wanted(y) for y in nodes]
    # In Chebyshev's polynomials, then in powers.
    powers = [mpf(0)] * count
    before, polynomial = None, [mpf(1)]
    for j in range(count):
        weight = sum(v * cos(pi * j * (k + mpf(1) / 2) / count) for k, v in enumerate(values)) * 2 / count
        for power, c in enumerate(polynomial):
            powers[power] += weight * c / (2 if j == 0 else 1)
        after = [mpf(0)] + [c * (1 if j == 0 else 2) for c in polynomial]
        for power, c in enumerate(before or []):
            after[power] -= c
        before, polynomial = polynomial, after
    return [float(c) for c in powers]


def main():
    found = coefficients(DEGREE + 1)
    for c in found:
        print(f"    {c!r},")
    worst = 0
    for k in range(1, 2001):
        y = mpf(k) / 1000 - 1
        worst = max(worst, abs(sum(c * y**power for power, c in enumerate(found)) - wanted(y)))
    print(f"// off by {float(worst):.1e} at most")


main()
