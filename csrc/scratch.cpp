#include "scratch.h"

#include <cstdlib>
#include <new>

namespace elman {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kKept = false;  // a block of its own for every call, so that AddressSanitizer knows where it ends
#else
constexpr bool kKept = true;
#endif

}  // namespace

Scratch::Scratch() = default;

Scratch::~Scratch() {
  for (Block &block : blocks_) std::free(block.memory);
}

void *Scratch::take(size_t bytes) {
  if (next_ == blocks_.size()) blocks_.emplace_back();
  Block &block = blocks_[next_++];
  if (!kKept || block.bytes < bytes || !block.memory) {
    std::free(block.memory);
    block = {};
    // Not rounded up, so that AddressSanitizer sees the first byte beyond the end.
    if (posix_memalign(&block.memory, 64, bytes ? bytes : 1)) {
      block.memory = nullptr;
      throw std::bad_alloc();
    }
    block.bytes = bytes;
  }
  return block.memory;
}

size_t Scratch::bytes() const {
  size_t sum = 0;
  for (const Block &block : blocks_) sum += block.bytes;
  return sum;
}

}  // namespace elman
