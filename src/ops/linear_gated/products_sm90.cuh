// Products of Hopper's tensor cores with both factors in shared memory: 64 rows by COLUMNS columns, 16 values deep.
// Layouts: PTX ISA, "Asynchronous warpgroup level matrix multiply-accumulate".
#pragma once
#include "kernel.cuh"

// Registers of the sums in the text of the instruction, and as operands.
#define TEXT_0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define TEXT_1 "%8,%9,%10,%11,%12,%13,%14,%15"
#define TEXT_2 "%16,%17,%18,%19,%20,%21,%22,%23"
#define TEXT_3 "%24,%25,%26,%27,%28,%29,%30,%31"
#define TEXT_4 "%32,%33,%34,%35,%36,%37,%38,%39"
#define TEXT_5 "%40,%41,%42,%43,%44,%45,%46,%47"
#define TEXT_6 "%48,%49,%50,%51,%52,%53,%54,%55"
#define TEXT_7 "%56,%57,%58,%59,%60,%61,%62,%63"
#define TEXT_8 "%64,%65,%66,%67,%68,%69,%70,%71"
#define TEXT_9 "%72,%73,%74,%75,%76,%77,%78,%79"
#define TEXT_10 "%80,%81,%82,%83,%84,%85,%86,%87"
#define TEXT_11 "%88,%89,%90,%91,%92,%93,%94,%95"
#define TEXT_12 "%96,%97,%98,%99,%100,%101,%102,%103"
#define SUMS(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define SUMS_1 SUMS(0), SUMS(1)
#define SUMS_2 SUMS_1, SUMS(2), SUMS(3)
#define SUMS_3 SUMS_2, SUMS(4), SUMS(5)
#define SUMS_4 SUMS_3, SUMS(6), SUMS(7)
#define SUMS_5 SUMS_4, SUMS(8), SUMS(9)
#define SUMS_6 SUMS_5, SUMS(10), SUMS(11)
#define SUMS_7 SUMS_6, SUMS(12), SUMS(13)
#define SUMS_8 SUMS_7, SUMS(14), SUMS(15)
#define SUMS_9 SUMS_8, SUMS(16), SUMS(17)
#define SUMS_10 SUMS_9, SUMS(18), SUMS(19)
#define SUMS_11 SUMS_10, SUMS(20), SUMS(21)
#define SUMS_12 SUMS_11, SUMS(22), SUMS(23)
#define SUMS_13 SUMS_12, SUMS(24), SUMS(25)
#define MULTIPLY(N, TYPE, TEXT, RESULT, A, B, ADD)                                             \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %" ADD ", 0;\n"                                \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" TEXT "}, " \
               "%" A ", %" B ", p, 1, 1, 0, 0;}"                                             \
               : RESULT                                                                      \
               : "l"(a), "l"(b), "r"(add))

/**
 * d [64,COLUMNS] = a [64,16] b [16,COLUMNS], added to what d holds where `add`: element (8 j + lane % 4 * 2 + i % 2 of the columns,
 * warp * 16 + lane / 4 + i / 2 * 8 of the rows) in d[j][i]. Starts only: d is the tensor core's until the product has been waited for.
 */
template <int J> DEVICE void multiply(float (&d)[J][4], unsigned long long a, unsigned long long b, int add, const bf16 *);
template <int J> DEVICE void multiply(float (&d)[J][4], unsigned long long a, unsigned long long b, int add, const f16 *);
template <>
DEVICE void multiply(float (&d)[24][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  MULTIPLY(192, "bf16", TEXT_0 "," TEXT_1 "," TEXT_2 "," TEXT_3 "," TEXT_4 "," TEXT_5 "," TEXT_6 "," TEXT_7 "," TEXT_8 "," TEXT_9 "," TEXT_10 "," TEXT_11,
           SUMS_12, "96", "97", "98");
}
template <>
DEVICE void multiply(float (&d)[24][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  MULTIPLY(192, "f16", TEXT_0 "," TEXT_1 "," TEXT_2 "," TEXT_3 "," TEXT_4 "," TEXT_5 "," TEXT_6 "," TEXT_7 "," TEXT_8 "," TEXT_9 "," TEXT_10 "," TEXT_11,
           SUMS_12, "96", "97", "98");
}
template <>
DEVICE void multiply(float (&d)[26][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  MULTIPLY(208, "bf16", TEXT_0 "," TEXT_1 "," TEXT_2 "," TEXT_3 "," TEXT_4 "," TEXT_5 "," TEXT_6 "," TEXT_7 "," TEXT_8 "," TEXT_9 "," TEXT_10 "," TEXT_11 "," TEXT_12,
           SUMS_13, "104", "105", "106");
}
template <>
DEVICE void multiply(float (&d)[26][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  MULTIPLY(208, "f16", TEXT_0 "," TEXT_1 "," TEXT_2 "," TEXT_3 "," TEXT_4 "," TEXT_5 "," TEXT_6 "," TEXT_7 "," TEXT_8 "," TEXT_9 "," TEXT_10 "," TEXT_11 "," TEXT_12,
           SUMS_13, "104", "105", "106");
}
