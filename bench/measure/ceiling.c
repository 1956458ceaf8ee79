// The most that this processor multiplies and adds: independent chains in registers, no memory at all.
// Prints "NAME OPERATIONS_PER_SECOND" of one thread for what the compiler was allowed to use.
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CHAINS 12
#define TURNS 40000000L

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
#if defined(__AVX512F__)
#define KEPT "+v"
#elif defined(__x86_64__)
#define KEPT "+x"
#else
#define KEPT "+w"
#endif
typedef float vector __attribute__((vector_size(4 * LANES)));

static void f32(void) {
  vector sums[CHAINS], a, b;
  for (int i = 0; i < LANES; i++) a[i] = 1.0f - 1e-7f * i, b[i] = 1e-9f * i;
  for (int c = 0; c < CHAINS; c++) sums[c] = a * (float)c;
  double begin = now();
  for (long t = 0; t < TURNS; t++) {
    for (int c = 0; c < CHAINS; c++) {
      sums[c] = sums[c] * a + b;  // one fused multiply-add
      __asm__ volatile("" : KEPT(sums[c]));
    }
  }
  double seconds = now() - begin;
  float kept = 0;
  for (int c = 0; c < CHAINS; c++) kept += sums[c][0];
  fprintf(stderr, "%g\n", kept);  // so that nothing is optimised away
  printf("f32 %g\n", 2.0 * LANES * CHAINS * TURNS / seconds);
}

#if defined(__AVX512BF16__)
static void bf16(void) {
  __m512 sums[CHAINS];
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
  for (int c = 0; c < CHAINS; c++) sums[c] = _mm512_set1_ps((float)c);
  double begin = now();
  for (long t = 0; t < TURNS; t++) {
    for (int c = 0; c < CHAINS; c++) {
      sums[c] = _mm512_dpbf16_ps(sums[c], a, a);
      __asm__ volatile("" : "+v"(sums[c]));
    }
  }
  double seconds = now() - begin;
  printf("bf16 %g\n", 2.0 * 32 * CHAINS * TURNS / seconds);
}
#endif

#if defined(__AVX512VNNI__)
static void int8(void) {
  __m512i sums[CHAINS], a = _mm512_set1_epi8(3);
  for (int c = 0; c < CHAINS; c++) sums[c] = _mm512_set1_epi32(c);
  double begin = now();
  for (long t = 0; t < TURNS; t++) {
    for (int c = 0; c < CHAINS; c++) {
      sums[c] = _mm512_dpbusd_epi32(sums[c], a, a);
      __asm__ volatile("" : "+v"(sums[c]));
    }
  }
  double seconds = now() - begin;
  printf("int8 %g\n", 2.0 * 64 * CHAINS * TURNS / seconds);
}
#endif

int main(void) {
  f32();
#if defined(__AVX512BF16__)
  bf16();
#endif
#if defined(__AVX512VNNI__)
  int8();
#endif
  return 0;
}
