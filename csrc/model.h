// Where each parameter of a language model stands among its arrays (models/language_model.py, parameter_shapes).
#pragma once

#include "cells.h"
#include "kernel.h"

namespace {

template <class T>
class Weights {
 public:
  Weights(const elman::Spec& spec, T* const* arrays) : spec_(spec), arrays_(arrays) {}

  T* E() const { return arrays_[0]; }  // only with an embedding
  T* W_xh(int layer) const { return of(layer, 0); }
  T* W_hh(int layer) const { return of(layer, 1); }
  T* b_h(int layer) const { return of(layer, 2); }
  T* b_hn(int layer) const { return spec_.cell == kGru ? of(layer, 3) : nullptr; }
  T* W_hy() const { return spec_.tied ? E() : of(spec_.layers, 0); }
  T* b_y() const { return of(spec_.layers, spec_.tied ? 0 : 1); }

 private:
  T* of(int layer, int which) const {
    return arrays_[(spec_.embedding ? 1 : 0) + layer * (spec_.cell == kGru ? 4 : 3) + which];
  }

  const elman::Spec& spec_;
  T* const* arrays_;
};

}  // namespace
