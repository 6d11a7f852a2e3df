// Ids that a thread appends to, without clearing what it grows by.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>

namespace tokenizer {

class IdBuffer {
public:
  size_t size() const { return used; }
  void clear() { used = 0; }
  int32_t *data() { return ids.get(); }
  int32_t &operator[](size_t i) { return ids[i]; }
  /** Room for `more` ids behind the last; commit(end) says where they ended. */
  int32_t *room(size_t more) {
    if (used + more > capacity) {
      capacity = (used + more) * 2;
      std::unique_ptr<int32_t[]> grown(new int32_t[capacity]);
      if (used > 0) memcpy(grown.get(), ids.get(), used * sizeof(int32_t));
      ids.swap(grown);
    }
    return ids.get() + used;
  }
  void commit(const int32_t *end) { used = size_t(end - ids.get()); }
  void push(int32_t id) {
    *room(1) = id;
    used++;
  }
  void append(const int32_t *from, size_t count) {
    memcpy(room(count), from, count * sizeof(int32_t));
    used += count;
  }
  /** Takes one id out. */
  void erase(size_t at) {
    memmove(ids.get() + at, ids.get() + at + 1, (used - at - 1) * sizeof(int32_t));
    used--;
  }

private:
  std::unique_ptr<int32_t[]> ids;
  size_t used = 0, capacity = 0;
};

} // namespace tokenizer
