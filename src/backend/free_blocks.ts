/** Free memory: which addresses nobody uses. */

/** Free blocks: best fit first, and those that lie side by side are one. */
export class FreeBlocks {
  /** By address, no two of them adjacent. */
  private readonly blocks: { start: number; bytes: number }[] = [];

  /** The beginning of the smallest block that is large enough, which is taken away; 0 if there is none. */
  take(bytes: number): number {
    let best = -1;
    for (let i = 0; i < this.blocks.length; i++) {
      const block = this.blocks[i]!;
      if (block.bytes >= bytes && (best < 0 || block.bytes < this.blocks[best]!.bytes)) best = i;
      if (block.bytes === bytes) break;
    }
    if (best < 0) return 0;
    const block = this.blocks[best]!;
    const { start } = block;
    if (block.bytes === bytes) this.blocks.splice(best, 1);
    else {
      block.start += bytes;
      block.bytes -= bytes;
    }
    return start;
  }

  /** Takes these addresses away, if all of them are free. */
  takeAt(start: number, bytes: number): boolean {
    const at = this.after(start) - 1;
    const block = this.blocks[at];
    if (!block || block.start + block.bytes < start + bytes) return false;
    const rest = { start: start + bytes, bytes: block.start + block.bytes - start - bytes };
    block.bytes = start - block.start;
    this.blocks.splice(at, 1, ...[block, rest].filter((part) => part.bytes > 0));
    return true;
  }

  give(start: number, bytes: number): void {
    const { blocks } = this;
    const at = this.after(start);
    const [before, after] = [blocks[at - 1], blocks[at]];
    const joinsBefore = before !== undefined && before.start + before.bytes === start;
    const joinsAfter = after !== undefined && start + bytes === after.start;
    if (joinsBefore) {
      before.bytes += bytes + (joinsAfter ? after.bytes : 0);
      if (joinsAfter) blocks.splice(at, 1);
    } else if (joinsAfter) {
      after.start = start;
      after.bytes += bytes;
    } else blocks.splice(at, 0, { start, bytes });
  }

  /** Gives all of them to others. */
  moveTo(others: FreeBlocks): void {
    for (const { start, bytes } of this.blocks) others.give(start, bytes);
    this.clear();
  }

  /** Free bytes that end at an address, as many as there are. */
  before(end: number): number {
    const block = this.blocks[this.after(end) - 1];
    return block && block.start + block.bytes === end ? block.bytes : 0;
  }

  clear(): void {
    this.blocks.length = 0;
  }

  /** How many blocks begin at an address or before it. */
  private after(address: number): number {
    let low = 0;
    for (let high = this.blocks.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (this.blocks[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
