// Attention over long rows of tokens on x86-64: softmax(Q K^T / sqrt(D)) V, exact up to the rounding of its inputs.
//
// Keys and values of a head are packed once, so that the instruction that multiplies and adds (bf16 pairs, or bytes by
// fours) reads 16 keys, or 16 dimensions, with one aligned load. Queries are then taken SUPER at a time; for each chunk of
// keys that fits into the first-level cache, ROWS of them meet TILE keys in registers, the scores become probabilities
// there, and the probabilities meet the values.
//
// The softmax needs no running maximum. Keys are centred first, which changes no probability. The mean score of a row is
// then 0, so its largest is not below 0, and it is at most |q| max|k| (Cauchy-Schwarz). In f32 and bf16, whose exponents
// have 8 bits, exponentials between these bounds are safe as they are or after one constant is subtracted; only rows
// beyond that (FAR) look for their largest score first.
//
// Plain C with intrinsics; knows neither Python nor OpenVINO. Versions for other instructions are chosen at run time by
// `pochade_attention_path`.
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define VERSION 4

// What this processor can do, as bits: products in bf16; with queries and keys as bytes; in f32 on 16 or on 8 lanes.
// Matrix tiles (AMX) are only told of.
enum { PATH_NONE = 0, PATH_BF16 = 1, PATH_BYTES = 2, PATH_F32_WIDE = 4, PATH_F32 = 8, PATH_AMX = 16, PATH_INTEL = 32 };
enum { NUMBERS_F32 = 0, NUMBERS_BF16 = 1 };  // of inputs and result
enum { IN_BF16 = 0, IN_BYTES = 1, IN_F32 = 2 };  // how products are computed

int pochade_attention_version(void) { return VERSION; }

#if defined(__x86_64__) && defined(__linux__) && !defined(POCHADE_NO_INTRINSICS)

#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")))
#define INLINE static inline __attribute__((always_inline))

#define ROWS 6           // queries in registers at a time
#define TILE 64          // keys in registers at a time
#define SUPER 48         // queries that share a chunk of keys in the first-level cache
#define CHUNK 128        // keys of such a chunk, for heads up to 64 wide; half of it for wider ones
#define MOST_THREADS 256
#define WIDEST 256       // dimensions of a head
#define FEW 90.0f        // log2 of the largest exponential that is summed
#define FAR 190.0f       // from here on, FEW below the bound could vanish beside the largest score
#define LOG2E 1.4426950408889634f

// What is kept of each head before its packed keys and values.
typedef struct {
  float norm;  // of its longest key, once centred
  float step;  // of keys as bytes
  float pad[14];
  float smoothing[WIDEST];  // of each dimension: keys are divided by it, queries multiplied
} Head;

typedef struct {
  const void *query, *key, *value;  // (batch, tokens, heads * dim)
  void *result;
  int numbers, products, bytes, wide;
  long batch, heads, queries, keys, dim;
  float scale;  // to powers of two
  char *scratch;
  size_t head_bytes;
  atomic_long next_head, next_block;
  pthread_mutex_t turn;
  pthread_cond_t all_packed;
  long packed;  // heads
} Job;

INLINE long rounded_up(long n, long to) { return (n + to - 1) / to * to; }
INLINE long pairs_of(long dim) { return (dim + 1) / 2; }
INLINE long fours_of(long dim) { return (dim + 3) / 4; }
// Values: as many vectors of 16 dimensions as are full, and half a vector for 8 or fewer that remain.
INLINE long full_of(long dim) { return dim / 16 + (dim % 16 > 8); }
INLINE long half_of(long dim) { return dim % 16 > 0 && dim % 16 <= 8; }
INLINE size_t keys_bytes(long keys, long dim) { return (size_t)rounded_up(keys, TILE) * pairs_of(dim) * 4; }
INLINE size_t values_bytes(long keys, long dim) {
  return (size_t)rounded_up(keys, TILE) * (full_of(dim) * 32 + half_of(dim) * 16);
}
INLINE size_t head_bytes(long keys, long dim) { return sizeof(Head) + keys_bytes(keys, dim) + values_bytes(keys, dim); }

int pochade_attention_path(void) {
  __builtin_cpu_init();
  int path = PATH_NONE;
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1)) path |= PATH_AMX;  // its bf16 part
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) path |= PATH_F32;
  if (__builtin_cpu_is("intel")) path |= PATH_INTEL;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")))
    return path;
  path |= PATH_F32_WIDE;
  if (!__builtin_cpu_supports("avx512bf16")) return path;
  return path | PATH_BF16 | (__builtin_cpu_supports("avx512vnni") ? PATH_BYTES : 0);
}

// --- packing ---------------------------------------------------------------------------------------------------------

INLINE __mmask16 lanes(long n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

TARGET INLINE __m512 load16(const Job *job, const void *from, long offset, __mmask16 which) {
  if (job->numbers == NUMBERS_F32) return _mm512_maskz_loadu_ps(which, (const float *)from + offset);
  __m256i narrow = _mm256_maskz_loadu_epi16(which, (const uint16_t *)from + offset);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}

TARGET INLINE __m256i to_bf16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

// Dimension i of four keys or queries goes into one lane: row[16][width] to TILE lanes side by side.
INLINE void interleave(uint32_t *packed, const uint32_t *row, long width, long first, long count) {
  uint32_t *to = packed + first / TILE * TILE * count + first % TILE;
  for (long p = 0; p < count; p++)
    for (long i = 0; i < 16; i++) to[p * TILE + i] = row[i * width + p];
}

TARGET static void pack_keys(const Job *job, long origin, const float *mean, Head *head, uint32_t *packed) {
  long dim = job->dim, width = job->heads * dim, keys = job->keys, count = pairs_of(dim);
  uint32_t row[16][WIDEST / 2 + 8];
  float longest = 0;
  for (long first = 0; first < rounded_up(keys, TILE); first += 16) {
    memset(row, 0, sizeof row);
    for (long i = 0; i < 16 && first + i < keys; i++) {
      __m512 sum = _mm512_setzero_ps();
      for (long d = 0; d < dim; d += 16) {
        __mmask16 which = lanes(dim - d);
        __m512 x = load16(job, job->key, origin + (first + i) * width + d, which);
        x = _mm512_maskz_sub_ps(which, x, _mm512_load_ps(mean + d));
        sum = _mm512_fmadd_ps(x, x, sum);
        _mm256_storeu_si256((__m256i *)(row[i] + d / 2), to_bf16(x));
      }
      float square = _mm512_reduce_add_ps(sum);
      if (!(square <= longest)) longest = square;  // what is not a number stays
    }
    if (!job->bytes) interleave(packed, row[0], WIDEST / 2 + 8, first, count);
  }
  head->norm = sqrtf(longest);
}

// (k - mean) / smoothing / step + 128. The offset adds a constant to all scores of a query, which the softmax forgets.
TARGET static void pack_keys_as_bytes(const Job *job, long origin, long queries, const float *mean, Head *head,
                                      uint32_t *packed) {
  long dim = job->dim, width = job->heads * dim, keys = job->keys, count = fours_of(dim);
  float most_k[WIDEST] __attribute__((aligned(64))) = {0}, most_q[WIDEST] __attribute__((aligned(64))) = {0};
  float inverse[WIDEST] __attribute__((aligned(64))) = {0};
  for (long t = 0; t < keys; t++)
    for (long d = 0; d < dim; d += 16) {
      __m512 x = _mm512_sub_ps(load16(job, job->key, origin + t * width + d, lanes(dim - d)), _mm512_load_ps(mean + d));
      _mm512_store_ps(most_k + d, _mm512_max_ps(_mm512_load_ps(most_k + d), _mm512_abs_ps(x)));
    }
  for (long t = 0; t < job->queries; t++)
    for (long d = 0; d < dim; d += 16) {
      __m512 x = load16(job, job->query, queries + t * width + d, lanes(dim - d));
      _mm512_store_ps(most_q + d, _mm512_max_ps(_mm512_load_ps(most_q + d), _mm512_abs_ps(x)));
    }
  float largest = 0;
  for (long d = 0; d < dim; d++) {
    head->smoothing[d] = most_k[d] > 0 && most_q[d] > 0 ? sqrtf(most_k[d] / most_q[d]) : 1;
    largest = fmaxf(largest, most_k[d] / head->smoothing[d]);
  }
  head->step = largest > 0 ? largest / 127 : 1;
  if (!(head->norm < INFINITY)) head->step = NAN;  // then no result is a number either
  for (long d = 0; d < dim; d++) inverse[d] = 1 / (head->smoothing[d] * head->step);
  uint32_t row[16][WIDEST / 4 + 4];
  for (long first = 0; first < rounded_up(keys, TILE); first += 16) {
    memset(row, 128, sizeof row);
    for (long i = 0; i < 16 && first + i < keys; i++)
      for (long d = 0; d < dim; d += 16) {
        __mmask16 which = lanes(dim - d);
        __m512 x = load16(job, job->key, origin + (first + i) * width + d, which);
        x = _mm512_maskz_sub_ps(which, x, _mm512_load_ps(mean + d));
        __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_load_ps(inverse + d)));
        n = _mm512_max_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(128)), _mm512_setzero_si512());
        _mm_storeu_si128((__m128i *)(row[i] + d / 4), _mm512_cvtusepi32_epi8(n));
      }
    interleave(packed, row[0], WIDEST / 4 + 4, first, count);
  }
}

// Four keys at a time: for each vector of 16 dimensions the pairs (0, 1) and (2, 3); then 8 dimensions of both pairs.
TARGET static void pack_values(const Job *job, long origin, uint16_t *packed) {
  long dim = job->dim, width = job->heads * dim, keys = job->keys, full = full_of(dim), half = half_of(dim);
  for (long t = 0; t < rounded_up(keys, TILE); t += 4) {
    uint16_t *to = packed + t * (full * 16 + half * 8);
    for (long c = 0; c < full + half; c++) {
      uint16_t part[4][16] __attribute__((aligned(64)));
      for (long i = 0; i < 4; i++) {
        __mmask16 which = t + i < keys ? lanes(dim - 16 * c) : 0;
        __m512 x = load16(job, job->value, origin + (t + i) * width + 16 * c, which);
        _mm256_store_si256((__m256i *)part[i], to_bf16(x));
      }
      if (c < full) {
        for (long p = 0; p < 2; p++) {
          __m512i even = _mm512_cvtepu16_epi32(_mm256_load_si256((__m256i *)part[2 * p]));
          __m512i odd = _mm512_cvtepu16_epi32(_mm256_load_si256((__m256i *)part[2 * p + 1]));
          _mm512_store_si512(to + (2 * c + p) * 32, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
      } else {
        for (long d = 0; d < 8; d++)
          for (long i = 0; i < 4; i++) to[full * 64 + 4 * d + i] = part[i][d];
      }
    }
  }
}

TARGET static void pack_head(const Job *job, long number) {
  long batch = number / job->heads, dim = job->dim, width = job->heads * dim, keys = job->keys;
  long column = number % job->heads * dim, origin = batch * keys * width + column;
  Head *head = (Head *)(job->scratch + number * job->head_bytes);
  uint32_t *packed = (uint32_t *)(head + 1);
  float mean[WIDEST] __attribute__((aligned(64))) = {0};
  for (long t = 0; t < keys; t++)
    for (long d = 0; d < dim; d += 16) {
      __m512 x = load16(job, job->key, origin + t * width + d, lanes(dim - d));
      _mm512_store_ps(mean + d, _mm512_add_ps(_mm512_load_ps(mean + d), x));
    }
  for (long d = 0; d < dim; d++) mean[d] /= keys;
  pack_keys(job, origin, mean, head, packed);
  if (job->bytes) pack_keys_as_bytes(job, origin, batch * job->queries * width + column, mean, head, packed);
  pack_values(job, origin, (uint16_t *)((char *)packed + keys_bytes(keys, dim)));
}

// --- queries ---------------------------------------------------------------------------------------------------------

// SUPER queries as they meet the keys, and what turns their scores into powers of two: factor * score + shift.
typedef struct {
  uint32_t packed[SUPER * WIDEST / 2] __attribute__((aligned(64)));
  float factor[SUPER], shift[SUPER];
  int shifted, far;
} Queries;

TARGET static void pack_queries(const Job *job, long origin, long rows, const Head *head, Queries *to) {
  long dim = job->dim, width = job->heads * dim, pairs = pairs_of(dim), fours = fours_of(dim);
  to->shifted = to->far = 0;
  for (long r = 0; r < SUPER; r++) {
    uint16_t row[WIDEST + 16];
    int8_t bytes[WIDEST + 16];
    __m512 sum = _mm512_setzero_ps(), most = _mm512_setzero_ps();
    for (long d = 0; d < dim; d += 16) {
      __mmask16 which = r < rows ? lanes(dim - d) : 0;
      __m512 x = load16(job, job->query, origin + r * width + d, which);
      x = _mm512_mul_ps(x, _mm512_set1_ps(job->scale));
      sum = _mm512_fmadd_ps(x, x, sum);
      _mm256_storeu_si256((__m256i *)(row + d), to_bf16(x));
      most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_mul_ps(x, _mm512_maskz_loadu_ps(which, head->smoothing + d))));
    }
    float bound = sqrtf(_mm512_reduce_add_ps(sum)) * head->norm;
    to->shift[r] = bound > FEW ? FEW - bound : 0;
    to->factor[r] = 1;
    to->shifted |= bound > FEW;
    to->far |= bound > FAR;
    if (!job->bytes) {
      memcpy(to->packed + r * pairs, row, pairs * 4);
      continue;
    }
    float largest = _mm512_reduce_max_ps(most), inverse = largest > 0 ? 127 / largest : 0;
    if (!(bound < INFINITY)) inverse = NAN;
    __m512i total = _mm512_setzero_si512();
    for (long d = 0; d < dim; d += 16) {
      __mmask16 which = r < rows ? lanes(dim - d) : 0;
      __m512 x = load16(job, job->query, origin + r * width + d, which);
      __m512 by = _mm512_mul_ps(_mm512_maskz_loadu_ps(which, head->smoothing + d), _mm512_set1_ps(job->scale * inverse));
      __m512i n = _mm512_maskz_cvtps_epi32(which, _mm512_mul_ps(x, by));
      total = _mm512_add_epi32(total, n);
      _mm_storeu_si128((__m128i *)(bytes + d), _mm512_cvtsepi32_epi8(n));
    }
    memcpy(to->packed + r * fours, bytes, fours * 4);
    to->factor[r] = inverse == 0 ? 0 : head->step / inverse;
    to->shift[r] -= 128.0f * _mm512_reduce_add_epi32(total) * to->factor[r];
  }
}

// --- ROWS queries and TILE keys in registers ---------------------------------------------------------------------------
// As variables with names of their own: compilers keep arrays of vectors in memory.

#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)

// 2^y for 16 numbers: y = n + f with -1/2 <= f <= 1/2; the polynomial is within 1e-4 of 2^f, bf16 within 4e-3.
TARGET INLINE __m512 power(__m512 y) {
  __m512 n = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT), f = _mm512_sub_ps(y, n);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.0558282853f), f, _mm512_set1_ps(0.2401397f));
  p = _mm512_fmadd_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6931367f)), f, _mm512_set1_ps(0.99996144f));
  return _mm512_scalef_ps(p, n);
}

// One row of scores becomes probabilities: their sum is added to `total`, they are stored as bf16.
TARGET INLINE void finish_row(__m512 a, __m512 b, __m512 c, __m512 d, long missing, uint16_t *to, __m512 *total) {
  a = power(a), b = power(b), c = power(c), d = power(d);
  if (missing > 0) {  // keys that only fill the last tile
    a = _mm512_maskz_mov_ps(lanes(TILE - missing), a), b = _mm512_maskz_mov_ps(lanes(TILE - missing - 16), b);
    c = _mm512_maskz_mov_ps(lanes(TILE - missing - 32), c), d = _mm512_maskz_mov_ps(lanes(TILE - missing - 48), d);
  }
  *total = _mm512_add_ps(*total, _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
  _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  _mm512_store_si512(to + 32, (__m512i)_mm512_cvtne2ps_pbh(d, c));
}

// The largest score so far of one row.
TARGET INLINE void largest_of_row(__m512 a, __m512 b, __m512 c, __m512 d, long missing, __m512 *total) {
  __m512 low = _mm512_set1_ps(-INFINITY);
  if (missing > 0) {
    a = _mm512_mask_mov_ps(low, lanes(TILE - missing), a), b = _mm512_mask_mov_ps(low, lanes(TILE - missing - 16), b);
    c = _mm512_mask_mov_ps(low, lanes(TILE - missing - 32), c), d = _mm512_mask_mov_ps(low, lanes(TILE - missing - 48), d);
  }
  *total = _mm512_max_ps(*total, _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
}

#define LOAD_KEYS                                                                                                      \
  __m512i k0 = _mm512_load_si512(keys), k1 = _mm512_load_si512(keys + 16), k2 = _mm512_load_si512(keys + 32),          \
          k3 = _mm512_load_si512(keys + 48);

#define ROW_ZERO(r) __m512 s##r##0 = zero, s##r##1 = zero, s##r##2 = zero, s##r##3 = zero;
#define ROW_DOT(r)                                                                                                     \
  {                                                                                                                    \
    __m512bh q = (__m512bh)_mm512_set1_epi32(queries[r * count + p]);                                                  \
    s##r##0 = _mm512_dpbf16_ps(s##r##0, q, (__m512bh)k0), s##r##1 = _mm512_dpbf16_ps(s##r##1, q, (__m512bh)k1);        \
    s##r##2 = _mm512_dpbf16_ps(s##r##2, q, (__m512bh)k2), s##r##3 = _mm512_dpbf16_ps(s##r##3, q, (__m512bh)k3);        \
  }
#define ROW_SHIFT(r)                                                                                                   \
  {                                                                                                                    \
    __m512 by = _mm512_set1_ps(shift[r]);                                                                              \
    s##r##0 = _mm512_add_ps(s##r##0, by), s##r##1 = _mm512_add_ps(s##r##1, by);                                        \
    s##r##2 = _mm512_add_ps(s##r##2, by), s##r##3 = _mm512_add_ps(s##r##3, by);                                        \
  }
#define ROW_FINISH(r)                                                                                                  \
  if (to) finish_row(s##r##0, s##r##1, s##r##2, s##r##3, missing, to + r * CHUNK, total + r);                          \
  else largest_of_row(s##r##0, s##r##1, s##r##2, s##r##3, missing, total + r);

// to: where probabilities go; NULL: only the largest scores are wanted, in total.
TARGET INLINE void tile(const uint32_t *queries, long count, const uint32_t *keys, const float *shift, int shifted,
                        long missing, uint16_t *to, __m512 *total) {
  __m512 zero = _mm512_setzero_ps();
  EACH_ROW(ROW_ZERO)
  for (long p = 0; p < count; p++, keys += TILE) {
    LOAD_KEYS
    EACH_ROW(ROW_DOT)
  }
  if (shifted) { EACH_ROW(ROW_SHIFT) }
  EACH_ROW(ROW_FINISH)
}

#define ROW_BYTES_ZERO(r) __m512i n##r##0 = zero, n##r##1 = zero, n##r##2 = zero, n##r##3 = zero;
#define ROW_BYTES_DOT(r)                                                                                               \
  {                                                                                                                    \
    __m512i q = _mm512_set1_epi32(queries[r * count + p]);                                                             \
    n##r##0 = _mm512_dpbusd_epi32(n##r##0, k0, q), n##r##1 = _mm512_dpbusd_epi32(n##r##1, k1, q);                      \
    n##r##2 = _mm512_dpbusd_epi32(n##r##2, k2, q), n##r##3 = _mm512_dpbusd_epi32(n##r##3, k3, q);                      \
  }
#define ROW_BYTES_FINISH(r)                                                                                            \
  {                                                                                                                    \
    /* Without this GCC computes a part of what follows within the loop, and spills. */                               \
    __asm__("" : "+v"(n##r##0), "+v"(n##r##1), "+v"(n##r##2), "+v"(n##r##3));                                          \
    __m512 a = _mm512_set1_ps(factor[r]), b = _mm512_set1_ps(shift[r]);                                                \
    __m512 s##r##0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n##r##0), a, b);                                               \
    __m512 s##r##1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n##r##1), a, b);                                               \
    __m512 s##r##2 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n##r##2), a, b);                                               \
    __m512 s##r##3 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n##r##3), a, b);                                               \
    ROW_FINISH(r)                                                                                                      \
  }

TARGET INLINE void tile_of_bytes(const uint32_t *queries, long count, const uint32_t *keys, const float *factor,
                                 const float *shift, long missing, uint16_t *to, __m512 *total) {
  __m512i zero = _mm512_setzero_si512();
  EACH_ROW(ROW_BYTES_ZERO)
  for (long p = 0; p < count; p++, keys += TILE) {
    LOAD_KEYS
    EACH_ROW(ROW_BYTES_DOT)
  }
  EACH_ROW(ROW_BYTES_FINISH)
}

// --- probabilities and values ------------------------------------------------------------------------------------------

#define ROW_LOAD(r)                                                                                                    \
  __m512 o##r##0 = _mm512_load_ps(sums + r * stride), o##r##1 = zero, o##r##2 = zero, o##r##3 = zero;                  \
  if (columns > 1) o##r##1 = _mm512_load_ps(sums + r * stride + 16);                                                   \
  if (columns > 2) o##r##2 = _mm512_load_ps(sums + r * stride + 32);                                                   \
  if (columns > 3) o##r##3 = _mm512_load_ps(sums + r * stride + 48);
#define ROW_STORE(r)                                                                                                   \
  _mm512_store_ps(sums + r * stride, o##r##0);                                                                         \
  if (columns > 1) _mm512_store_ps(sums + r * stride + 16, o##r##1);                                                   \
  if (columns > 2) _mm512_store_ps(sums + r * stride + 32, o##r##2);                                                   \
  if (columns > 3) _mm512_store_ps(sums + r * stride + 48, o##r##3);
#define ROW_PAIR(r)                                                                                                    \
  {                                                                                                                    \
    __m512bh p = (__m512bh)_mm512_set1_epi32(*(const int *)(row + r * CHUNK + pair));                                  \
    if (full > 0) o##r##0 = _mm512_dpbf16_ps(o##r##0, p, (__m512bh)v0);                                                \
    if (full > 1) o##r##1 = _mm512_dpbf16_ps(o##r##1, p, (__m512bh)v1);                                                \
    if (full > 2) o##r##2 = _mm512_dpbf16_ps(o##r##2, p, (__m512bh)v2);                                                \
    if (full > 3) o##r##3 = _mm512_dpbf16_ps(o##r##3, p, (__m512bh)v3);                                                \
  }
// Lane 2d sums the first pair of keys for dimension d, lane 2d + 1 the second.
#define ROW_HALF(r)                                                                                                    \
  {                                                                                                                    \
    __m512bh p = (__m512bh)_mm512_set1_epi64(*(const long long *)(row + r * CHUNK));                                   \
    if (full == 0) o##r##0 = _mm512_dpbf16_ps(o##r##0, p, (__m512bh)v0);                                               \
    if (full == 1) o##r##1 = _mm512_dpbf16_ps(o##r##1, p, (__m512bh)v0);                                               \
    if (full == 2) o##r##2 = _mm512_dpbf16_ps(o##r##2, p, (__m512bh)v0);                                               \
    if (full == 3) o##r##3 = _mm512_dpbf16_ps(o##r##3, p, (__m512bh)v0);                                               \
  }
#define LOAD_VALUES(first, step)                                                                                       \
  v0 = _mm512_load_si512(first);                                                                                       \
  if (full > 1) v1 = _mm512_load_si512((first) + (step));                                                              \
  if (full > 2) v2 = _mm512_load_si512((first) + 2 * (step));                                                          \
  if (full > 3) v3 = _mm512_load_si512((first) + 3 * (step));

// sums (ROWS, stride): += probabilities (ROWS, keys) @ values, for `full` vectors of dimensions and perhaps half a one.
TARGET INLINE void weigh(const uint16_t *row, const uint16_t *values, long step, long keys, float *sums, long stride,
                         const int full, const int half) {
  const int columns = full + half;
  __m512 zero = _mm512_setzero_ps();
  __m512i v0, v1, v2, v3;
  v1 = v2 = v3 = _mm512_setzero_si512();
  EACH_ROW(ROW_LOAD)
  for (long t = 0; t < keys; t += 4, values += step, row += 4) {
    if (full > 0) {
      _Pragma("GCC unroll 2") for (int pair = 0; pair < 4; pair += 2) {
        LOAD_VALUES(values + 16 * pair, 64)
        EACH_ROW(ROW_PAIR)
      }
    }
    if (half) {
      v0 = _mm512_load_si512(values + full * 64);
      EACH_ROW(ROW_HALF)
    }
  }
  EACH_ROW(ROW_STORE)
}

TARGET static void weigh_all(const uint16_t *row, const uint16_t *values, long step, long keys, float *sums, long stride,
                             long full, long half) {
  for (; full >= 4 + 2 || (full == 4 && !half); full -= 4, values += 256, sums += 64)
    weigh(row, values, step, keys, sums, stride, 4, 0);
  for (; full >= 3; full -= 3, values += 192, sums += 48) {
    if (full == 3 && half) {
      weigh(row, values, step, keys, sums, stride, 3, 1);
      return;
    }
    weigh(row, values, step, keys, sums, stride, 3, 0);
  }
  if (full == 2 && half) weigh(row, values, step, keys, sums, stride, 2, 1);
  else if (full == 2) weigh(row, values, step, keys, sums, stride, 2, 0);
  else if (full == 1 && half) weigh(row, values, step, keys, sums, stride, 1, 1);
  else if (full == 1) weigh(row, values, step, keys, sums, stride, 1, 0);
  else if (half) weigh(row, values, step, keys, sums, stride, 0, 1);
}

// --- a block of queries ------------------------------------------------------------------------------------------------

// The scores' real maximum in place of its bound.
TARGET static void shift_by_largest(const Job *job, Queries *queries, long first, const uint32_t *keys) {
  long count = job->bytes ? fours_of(job->dim) : pairs_of(job->dim);
  __m512 largest[ROWS];
  for (int r = 0; r < ROWS; r++) largest[r] = _mm512_set1_ps(-INFINITY);
  const uint32_t *rows = queries->packed + first * count;
  for (long t = 0; t < job->keys; t += TILE) {
    long missing = t + TILE - job->keys;
    const float *shift = queries->shift + first;
    if (job->bytes) tile_of_bytes(rows, count, keys + t * count, queries->factor + first, shift, missing, 0, largest);
    else tile(rows, count, keys + t * count, shift, 1, missing, 0, largest);
  }
  for (int r = 0; r < ROWS; r++) queries->shift[first + r] -= _mm512_reduce_max_ps(largest[r]);
}

TARGET static void draw_block(const Job *job, long number, long first) {
  long batch = number / job->heads, dim = job->dim, width = job->heads * dim, keys = job->keys;
  long origin = (batch * job->queries + first) * width + number % job->heads * dim;
  long rows = job->queries - first < SUPER ? job->queries - first : SUPER;
  long full = full_of(dim), half = half_of(dim), stride = 16 * (full + half), step = full * 64 + half * 32;
  long count = job->bytes ? fours_of(dim) : pairs_of(dim), chunk = dim > 64 ? CHUNK / 2 : CHUNK;
  const Head *head = (const Head *)(job->scratch + number * job->head_bytes);
  const uint32_t *packed = (const uint32_t *)(head + 1);
  const uint16_t *values = (const uint16_t *)((const char *)packed + keys_bytes(keys, dim));

  Queries queries;
  float sums[SUPER * WIDEST] __attribute__((aligned(64)));
  __m512 total[SUPER];
  uint16_t probabilities[ROWS * CHUNK] __attribute__((aligned(64)));
  pack_queries(job, origin, rows, head, &queries);
  memset(sums, 0, SUPER * stride * sizeof *sums);
  for (long r = 0; r < SUPER; r++) total[r] = _mm512_setzero_ps();
  if (queries.far)
    for (long r = 0; r < rows; r += ROWS) shift_by_largest(job, &queries, r, packed);

  for (long t = 0; t < keys; t += chunk) {
    long some = rounded_up(keys - t < chunk ? keys - t : chunk, TILE);
    for (long r = 0; r < rows; r += ROWS) {
      for (long u = 0; u < some; u += TILE) {
        const uint32_t *these = packed + (t + u) * count, *asking = queries.packed + r * count;
        long missing = t + u + TILE - keys;
        if (job->bytes)
          tile_of_bytes(asking, count, these, queries.factor + r, queries.shift + r, missing, probabilities + u, total + r);
        else
          tile(asking, count, these, queries.shift + r, queries.shifted, missing, probabilities + u, total + r);
      }
      weigh_all(probabilities, values + t / 4 * step, step, some, sums + r * stride, stride, full, half);
    }
  }
  for (long r = 0; r < rows; r++) {
    __m512 by = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total[r]));
    for (long c = 0; c < full + half; c++) {
      __m512 x = _mm512_load_ps(sums + r * stride + 16 * c);
      if (c == full) x = _mm512_maskz_compress_ps(0x5555, _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1)));
      x = _mm512_mul_ps(x, by);
      long offset = origin + r * width + 16 * c;
      if (job->numbers == NUMBERS_F32) _mm512_mask_storeu_ps((float *)job->result + offset, lanes(dim - 16 * c), x);
      else _mm256_mask_storeu_epi16((uint16_t *)job->result + offset, lanes(dim - 16 * c), to_bf16(x));
    }
  }
}

// --- in f32 ---------------------------------------------------------------------------------------------------------

#define W 16
#define INSTRUCTIONS "avx512f,avx512bw,avx512vl,avx512dq,fma"
#include "attention_f32.h"
#define W 8
#define INSTRUCTIONS "avx2,fma"
#include "attention_f32.h"

// --- threads -----------------------------------------------------------------------------------------------------------

// OpenVINO pins the thread that calls to one core, and its children would stay there. They may run wherever this process
// might when the library was loaded, which is before OpenVINO pins anything.
static cpu_set_t allowed;
static int allowed_known;

__attribute__((constructor)) static void remember_processors(void) {
  allowed_known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
}

static void pack(const Job *job, long number) {
  if (job->products != IN_F32) pack_head(job, number);
  else if (job->wide) pack_head_f32x16(job, number);
  else pack_head_f32x8(job, number);
}

static void draw(const Job *job, long number, long first) {
  if (job->products != IN_F32) draw_block(job, number, first);
  else if (job->wide) draw_block_f32x16(job, number, first);
  else draw_block_f32x8(job, number, first);
}

static void *work(void *given) {
  Job *job = given;
  long heads = job->batch * job->heads, blocks = (job->queries + SUPER - 1) / SUPER;
  for (long i; (i = atomic_fetch_add(&job->next_head, 1)) < heads;) {
    pack(job, i);
    pthread_mutex_lock(&job->turn);
    if (++job->packed == heads) pthread_cond_broadcast(&job->all_packed);
    pthread_mutex_unlock(&job->turn);
  }
  pthread_mutex_lock(&job->turn);
  while (job->packed < heads) pthread_cond_wait(&job->all_packed, &job->turn);
  pthread_mutex_unlock(&job->turn);
  for (long i; (i = atomic_fetch_add(&job->next_block, 1)) < heads * blocks;)
    draw(job, i / blocks, i % blocks * SUPER);
  return NULL;
}

static size_t bytes_of_head(int products, long keys, long dim) {
  size_t f32 = head_bytes_f32x16(keys, dim), other = head_bytes(keys, dim);
  if (products != IN_F32) return other;
  return f32 > head_bytes_f32x8(keys, dim) ? f32 : head_bytes_f32x8(keys, dim);
}

size_t pochade_attention_scratch(int products, long batch, long heads, long keys, long dim) {
  return (size_t)batch * heads * bytes_of_head(products, keys, dim) + 64;
}

// query, result: (batch, queries, heads * dim); key, value: (batch, keys, heads * dim); in C order, of one type (NUMBERS_...).
// products: IN_...; in f32 the numbers are f32 too. scratch: pochade_attention_scratch bytes. threads: this one among them;
// fewer do the work where the system gives no more. narrow: 8 lanes even where there are 16 (for tests).
// Returns 0; 1 if this processor or these sizes are not served.
int pochade_attention(const void *query, const void *key, const void *value, void *result, int numbers, int products,
                      long batch, long heads, long queries, long keys, long dim, void *scratch, int threads, int narrow) {
  int path = pochade_attention_path(), needed[] = {PATH_BF16, PATH_BYTES, PATH_F32};
  if (products < IN_BF16 || products > IN_F32 || !(path & needed[products])) return 1;
  if (dim < 1 || dim > WIDEST || keys < 1 || (products == IN_F32 && numbers != NUMBERS_F32)) return 1;
  Job job = {.query = query, .key = key, .value = value, .result = result, .numbers = numbers, .products = products,
             .bytes = products == IN_BYTES, .wide = (path & PATH_F32_WIDE) && !narrow,
             .batch = batch, .heads = heads, .queries = queries, .keys = keys, .dim = dim,
             .scale = LOG2E / sqrtf((float)dim), .head_bytes = bytes_of_head(products, keys, dim)};
  job.scratch = (char *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
  pthread_mutex_init(&job.turn, NULL);
  pthread_cond_init(&job.all_packed, NULL);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (allowed_known) pthread_attr_setaffinity_np(&attributes, sizeof allowed, &allowed);
  pthread_t started[MOST_THREADS];
  int count = 0;
  while (count < threads - 1 && count < MOST_THREADS && pthread_create(&started[count], &attributes, work, &job) == 0) count++;
  work(&job);
  while (count > 0) pthread_join(started[--count], NULL);
  pthread_attr_destroy(&attributes);
  pthread_cond_destroy(&job.all_packed);
  pthread_mutex_destroy(&job.turn);
  return 0;
}

#else

size_t pochade_attention_scratch(int products, long batch, long heads, long keys, long dim) {
  return (size_t)(products + batch + heads + keys + dim) * 0;
}
int pochade_attention_path(void) { return PATH_NONE; }
int pochade_attention(const void *query, const void *key, const void *value, void *result, int numbers, int products,
                      long batch, long heads, long queries, long keys, long dim, void *scratch, int threads, int narrow) {
  (void)query, (void)key, (void)value, (void)result, (void)numbers, (void)products, (void)batch, (void)heads, (void)queries;
  (void)keys, (void)dim, (void)scratch, (void)threads, (void)narrow;
  return 1;
}

#endif
