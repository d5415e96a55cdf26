// exp, tanh and the logistic function on vectors. Accuracy stands beside each; tests/test_kernels.py measures it.
#pragma once

#include "simd.h"

namespace {

// x cut to [least, most]; NaN stays NaN.
template <class T>
inline Vec<T> clamp(Vec<T> x, T least, T most) {
  const Vec<T> low = broadcast(least), high = broadcast(most);
  x = x < low ? low : x;
  return x > high ? high : x;
}

// What differs between float and double in exp: the rounding constant 1.5·2^(mantissa bits), the place and bias of the
// exponent, the range that does not overflow, ln 2 in two parts, and how many terms of the series are needed.
template <class T>
struct ExpOf;
template <>
struct ExpOf<float> {
  static constexpr float round = 12582912.f, least = -87.f, most = 88.f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr int mantissa = 23, bias = 127, terms = 7;
};
template <>
struct ExpOf<double> {
  static constexpr double round = 6755399441055744., least = -708., most = 709., ln2_high = 6.93145751953125e-1,
                          ln2_low = 1.42860682030941723212e-6;
  static constexpr int mantissa = 52, bias = 1023, terms = 13;
};

// exp(x) = 2^n · exp(r), |r| <= ln 2 / 2, by the Taylor series; relative error below 2 ulp, x cut to the finite range.
template <class T>
inline Vec<T> exp(Vec<T> x) {
  using P = ExpOf<T>;
  x = clamp<T>(x, P::least, P::most);
  const Vec<T> shifted = x * T(1.4426950408889634) + P::round;
  const Vec<T> n = shifted - P::round;
  Vec<T> r = x - n * P::ln2_high;
  r -= n * P::ln2_low;
  Vec<T> sum = broadcast(T(1));
#pragma GCC unroll 16
  for (int k = P::terms; k > 0; --k) sum = sum * (r * (T(1) / k)) + T(1);
  // The integer n stands in the low bits of `shifted`: move it into the exponent.
  const Ints<T> power = ((Ints<T>)shifted - (Ints<T>)broadcast(P::round) + P::bias) << P::mantissa;
  return sum * (Vec<T>)power;
}

// float: x·P(x²)/Q(x²), fitted for least relative error on [0, 9] (1.3e-9 before rounding), where tanh reaches 1.
inline Vec<float> tanh(Vec<float> x) {
  x = clamp<float>(x, -9.f, 9.f);
  const Vec<float> z = x * x;
  Vec<float> p = z * -1.2223659728216848e-11f + 3.061217639709738e-08f;
  p = p * z + 2.801873101341838e-05f;
  p = p * z + 0.0038688859731770557f;
  p = p * z + 0.13680360476895642f;
  p = p * z + 0.9999999987189353f;
  Vec<float> q = z * 1.2881547537049083e-06f + 0.0003939615606385743f;
  q = q * z + 0.027247881528318633f;
  q = q * z + 0.47013692557263687f;
  q = q * z + 1.f;
  return clamp<float>(x * p / q, -1.f, 1.f);
}

// double: (1 - e) / (1 + e) with e = exp(-2|x|); absolute error below 3e-16.
inline Vec<double> tanh(Vec<double> x) {
  const Vec<double> magnitude = x < 0. ? -x : x, e = exp<double>(magnitude * -2.);
  const Vec<double> y = (1. - e) / (1. + e);
  return x < 0. ? -y : y;
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  return tanh(x * T(0.5)) * T(0.5) + T(0.5);
}

}  // namespace
