// Working memory that is kept from call to call, so that a training step allocates nothing after the first.
#pragma once

#include <cstddef>
#include <vector>

namespace elman {

// Blocks are taken in an order that each call repeats: the n-th block of a call is the n-th of the one before, made
// larger where it has to be. What a block holds when it is taken is undefined. Not for several threads at once.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  // At least so many bytes on a cache line of their own. Throws std::bad_alloc.
  void *take(size_t bytes);
  size_t mark() const { return next_; }
  // What was taken after the mark is free again.
  void release(size_t mark) { next_ = mark; }
  size_t bytes() const;

 private:
  struct Block {
    void *memory = nullptr;
    size_t bytes = 0;
  };

  std::vector<Block> blocks_;
  size_t next_ = 0;
};

}  // namespace elman
