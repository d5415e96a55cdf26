// What Python gives, checked before a pointer into it is followed: a size that is wrong would be the memory of others.
#pragma once

#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Python's InputError.
struct Refusal : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

constexpr size_t kMost = size_t(1) << 30;  // of what an int counts, with room to round up
constexpr int kMostThreads = 1024;

inline void demand(bool holds, const char *what) {
  if (!holds) throw Refusal(std::string("the native kernel needs ") + what);
}

inline void check_threads(int threads) { demand(threads >= 1 && threads <= kMostThreads, "from 1 to 1024 threads"); }

inline size_t check_count(const char *what, size_t count) {
  if (count < 1 || count > kMost)
    throw Refusal(std::string("the native kernel takes 1 to 2^30 ") + what + ", not " + std::to_string(count));
  return count;
}

// Raises IndexError, as NumPy does.
inline void check_ids(const int64_t *ids, size_t count, int64_t least, int64_t end) {
  for (size_t i = 0; i < count; ++i)
    if (ids[i] < least || ids[i] >= end) throw nanobind::index_error("an id is outside the vocabulary");
}

using Shape = std::vector<size_t>;

inline std::string shown(const Shape &shape) {
  std::string text;
  for (size_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text.empty() ? "()" : text + ")";
}

template <class A>
Shape shape_of(const A &array) {
  return Shape(array.shape_ptr(), array.shape_ptr() + array.ndim());
}

// The sizes of an array of so many dimensions: counts, each of them.
template <class A>
Shape sizes_of(const char *name, const A &array, size_t dimensions) {
  const Shape shape = shape_of(array);
  if (shape.size() != dimensions)
    throw Refusal(std::string(name) + " must have " + std::to_string(dimensions) + " dimensions, not the shape " + shown(shape));
  for (size_t size : shape) check_count(name, size);
  return shape;
}

// The arrays of one call.
class Arguments {
 public:
  Arguments() { spans_.reserve(16); }

  template <class A>
  void reads(const char *name, const A &array, const Shape &shape) {
    take(name, array, shape, false);
  }
  template <class A>
  void writes(const char *name, const A &array, const Shape &shape) {
    take(name, array, shape, true);
  }
  // Those that must be there where they are needed, and nowhere else.
  template <class A>
  void reads(const char *name, const std::optional<A> &array, const Shape &shape, bool needed) {
    if (has(name, array, needed)) take(name, *array, shape, false);
  }
  template <class A>
  void writes(const char *name, const std::optional<A> &array, const Shape &shape, bool needed) {
    if (has(name, array, needed)) take(name, *array, shape, true);
  }

  // What is written shares no memory with anything else here, nor anything with what is written of those that are held.
  void check_apart(const Arguments &held = {}) {
    std::sort(spans_.begin(), spans_.end(), [](const Span &a, const Span &b) { return a.first < b.first; });
    uintptr_t end = 0, end_of_written = 0;
    for (const Span &span : spans_) {
      bool shared = span.first < (span.written ? end : end_of_written);
      for (const Span &other : held.spans_)
        shared |= span.first < other.last && other.first < span.last && (span.written || other.written);
      if (shared) throw Refusal(std::string(span.name) + " shares memory with another array");
      end = std::max(end, span.last);
      if (span.written) end_of_written = std::max(end_of_written, span.last);
    }
  }

 private:
  struct Span {
    uintptr_t first, last;  // addresses: of its first byte, and of what follows its last
    const char *name;
    bool written;
  };

  template <class A>
  static bool has(const char *name, const std::optional<A> &array, bool needed) {
    if (array.has_value() != needed) throw Refusal(std::string(name) + (needed ? " is missing" : " is of no use here"));
    return needed;
  }

  template <class A>
  void take(const char *name, const A &array, const Shape &shape, bool written) {
    if (!std::equal(shape.begin(), shape.end(), array.shape_ptr(), array.shape_ptr() + array.ndim()))
      throw Refusal(std::string(name) + " must have the shape " + shown(shape) + ", not " + shown(shape_of(array)));
    const auto data = reinterpret_cast<uintptr_t>(array.data());
    if (data % array.itemsize()) throw Refusal(std::string(name) + " is not aligned in memory; copy it first");
    ptrdiff_t before = 0, after = 1;  // the entries that its strides reach
    for (size_t i = 0; i < array.ndim(); ++i) {
      const ptrdiff_t reach = (ptrdiff_t(array.shape(i)) - 1) * array.stride(i);
      (reach < 0 ? before : after) += reach;
    }
    const auto itemsize = ptrdiff_t(array.itemsize());
    spans_.push_back({data + before * itemsize, data + after * itemsize, name, written});
  }

  std::vector<Span> spans_;
};

}  // namespace
