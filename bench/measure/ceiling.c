// The most that this processor multiplies and adds: independent chains in registers, no memory at all.
// Prints "NAME OPERATIONS_PER_SECOND" of one thread for what the compiler was allowed to use.
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Twelve chains hide the latency of one. As single variables: an array would be kept in memory.
#define CHAINS 12
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
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
  vector a, b, kept = {0};
  for (int i = 0; i < LANES; i++) a[i] = 1.0f - 1e-7f * i, b[i] = 1e-9f * i;
#define START(n) vector s##n = a * (float)n;
#define STEP(n) s##n = s##n * a + b; __asm__ volatile("" : KEPT(s##n));
#define END(n) kept += s##n;
  EACH(START)
  double begin = now();
  for (long t = 0; t < TURNS; t++) { EACH(STEP) }
  double seconds = now() - begin;
  EACH(END)
#undef START
#undef STEP
#undef END
  fprintf(stderr, "%g\n", kept[0]);  // so that nothing is optimised away
  printf("f32 %g\n", 2.0 * LANES * CHAINS * TURNS / seconds);
}

#if defined(__AVX512BF16__)
static void bf16(void) {
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
#define START(n) __m512 s##n = _mm512_set1_ps((float)n);
#define STEP(n) s##n = _mm512_dpbf16_ps(s##n, a, a); __asm__ volatile("" : "+v"(s##n));
  EACH(START)
  double begin = now();
  for (long t = 0; t < TURNS; t++) { EACH(STEP) }
  double seconds = now() - begin;
#undef START
#undef STEP
  printf("bf16 %g\n", 2.0 * 32 * CHAINS * TURNS / seconds);
}
#endif

#if defined(__AVX512VNNI__)
#define INT8 64
static __m512i multiplied(__m512i s, __m512i a) { return _mm512_dpbusd_epi32(s, a, a); }
typedef __m512i bytes;
#define ALL(n) _mm512_set1_epi32(n)
#elif defined(__AVXVNNI__)
#define INT8 32
static __m256i multiplied(__m256i s, __m256i a) { return _mm256_dpbusd_avx_epi32(s, a, a); }
typedef __m256i bytes;
#define ALL(n) _mm256_set1_epi32(n)
#elif defined(__AVX2__)
#define INT8 32
// Without an instruction for it: pairs are added in 16 bits, these in 32.
static __m256i multiplied(__m256i s, __m256i a) {
  return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), _mm256_set1_epi16(1)));
}
typedef __m256i bytes;
#define ALL(n) _mm256_set1_epi32(n)
#endif

#if defined(INT8)
static void int8(void) {
  bytes a = ALL(0x03030303);
#define START(n) bytes s##n = ALL(n);
#define STEP(n) s##n = multiplied(s##n, a); __asm__ volatile("" : KEPT(s##n), KEPT(a));
  EACH(START)
  double begin = now();
  for (long t = 0; t < TURNS; t++) { EACH(STEP) }
  double seconds = now() - begin;
#undef START
#undef STEP
  printf("int8 %g\n", 2.0 * INT8 * CHAINS * TURNS / seconds);
}
#endif

int main(void) {
  f32();
#if defined(__AVX512BF16__)
  bf16();
#endif
#if defined(INT8)
  int8();
#endif
  return 0;
}
