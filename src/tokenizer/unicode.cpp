#include "unicode.h"
#include "unicode_table.h"
#include <cstring>

namespace tokenizer {

ClassTable::ClassTable() {
  uint8_t current[256], now = OTHER;
  const uint32_t *change = CLASS_CHANGES, *last = CLASS_CHANGES + sizeof(CLASS_CHANGES) / sizeof(uint32_t);
  int used = 0;
  for (uint32_t high = 0; high < 0x1100; high++) {
    for (uint32_t low = 0; low < 256; low++) {
      if (change < last && *change >> 2 == (high << 8 | low)) now = *change++ & 3;
      current[low] = now;
    }
    int same = 0;
    while (same < used && memcmp(pages[same], current, 256) != 0) same++;
    if (same == used) memcpy(pages[used++], current, 256);
    page[high] = uint16_t(same);
  }
}

const ClassTable classes;

} // namespace tokenizer
