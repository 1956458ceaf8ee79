// Attention in f32, included by attention.c once for each width of vectors: W floats, compiled for INSTRUCTIONS.
// The same steps as in bf16, without pairs: ROWS queries meet two vectors of keys, and two vectors of dimensions.

#define PASTED(a, b) a##b
#define NAMED(a, b) PASTED(a, b)
#define NAME(x) NAMED(x##_f32x, W)
#define HERE __attribute__((target(INSTRUCTIONS)))

typedef float NAME(vector) __attribute__((vector_size(4 * W)));
typedef float NAME(loose) __attribute__((vector_size(4 * W), aligned(4)));  // at any address
typedef int32_t NAME(ints) __attribute__((vector_size(4 * W)));
#define V NAME(vector)
#define LOAD(from) (*(const NAME(loose) *)(from))
#define STORE(to, x) (*(NAME(loose) *)(to) = (x))

INLINE long NAME(padded)(long dim) { return rounded_up(dim, W); }

// Keys: tiles of 2 W side by side, dimension after dimension. Values: as they are, padded to whole vectors.
static size_t NAME(keys_bytes)(long keys, long dim) { return (size_t)rounded_up(keys, TILE) * dim * 4; }
static size_t NAME(head_bytes)(long keys, long dim) {
  return sizeof(Head) + NAME(keys_bytes)(keys, dim) + (size_t)rounded_up(keys, TILE) * NAME(padded)(dim) * 4;
}

HERE static void NAME(pack_head)(const Job *job, long number) {
  long batch = number / job->heads, dim = job->dim, width = job->heads * dim, keys = job->keys;
  long origin = batch * keys * width + number % job->heads * dim, padded = NAME(padded)(dim);
  Head *head = (Head *)(job->scratch + number * job->head_bytes);
  float *packed = (float *)(head + 1), *values = (float *)((char *)packed + NAME(keys_bytes)(keys, dim));
  const float *key = (const float *)job->key + origin, *value = (const float *)job->value + origin;
  double mean[WIDEST] = {0};
  for (long t = 0; t < keys; t++)
    for (long d = 0; d < dim; d++) mean[d] += key[t * width + d];
  for (long d = 0; d < dim; d++) mean[d] /= keys;
  float longest = 0;
  for (long first = 0; first < rounded_up(keys, TILE); first += 2 * W) {
    float *to = packed + first * dim;
    for (long i = 0; i < 2 * W; i++) {
      float square = 0;
      for (long d = 0; d < dim; d++) {
        float x = first + i < keys ? key[(first + i) * width + d] - (float)mean[d] : 0;
        square += x * x;
        to[d * 2 * W + i] = x;
      }
      if (!(square <= longest)) longest = square;
    }
  }
  head->norm = sqrtf(longest);
  for (long t = 0; t < rounded_up(keys, TILE); t++)
    for (long d = 0; d < padded; d++) values[t * padded + d] = t < keys && d < dim ? value[t * width + d] : 0;
}

// 2^y within 2e-7: y = n + f, and the series of 2^f to the sixth power. NaN stays NaN.
HERE INLINE V NAME(power)(V y) {
  NAME(ints) low = y < -126.0f;
  y = (V)(((NAME(ints))y & ~low) | ((NAME(ints))(V){} & low)) + (V)((NAME(ints))((V){} - 126.0f) & low);
  V t = y + 12582912.0f, f = y - (t - 12582912.0f);  // 1.5 * 2^23: the last bits of t are n
  V p = f * 1.5403530e-4f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  return p * (V)(((NAME(ints))t + 127) << 23);
}

#define F32_ZERO(r) V s##r##0 = {}, s##r##1 = {};
#define F32_DOT(r)                                                                                                     \
  {                                                                                                                    \
    V q = (V){} + queries[r * dim + d];                                                                                \
    s##r##0 += q * k0, s##r##1 += q * k1;                                                                              \
  }
#define F32_FINISH(r)                                                                                                  \
  {                                                                                                                    \
    s##r##0 += shift[r], s##r##1 += shift[r];                                                                          \
    if (to) {                                                                                                          \
      s##r##0 = NAME(power)(s##r##0), s##r##1 = NAME(power)(s##r##1);                                                  \
      STORE(to + r * CHUNK, s##r##0);                                                                                  \
      STORE(to + r * CHUNK + W, s##r##1);                                                                              \
      for (long i = W * 2 - missing < 0 ? 0 : W * 2 - missing; i < W * 2; i++) to[r * CHUNK + i] = 0;                  \
      if (missing > 0) s##r##0 = LOAD(to + r * CHUNK), s##r##1 = LOAD(to + r * CHUNK + W);                             \
      total[r] += s##r##0 + s##r##1;                                                                                   \
    } else {                                                                                                           \
      for (long i = 0; i < W; i++) {                                                                                   \
        if (i < 2 * W - missing && !(s##r##0[i] <= total[r][0])) total[r][0] = s##r##0[i];                             \
        if (i + W < 2 * W - missing && !(s##r##1[i] <= total[r][0])) total[r][0] = s##r##1[i];                         \
      }                                                                                                                \
    }                                                                                                                  \
  }

// to: where probabilities go; NULL: only the largest scores are wanted, in the first numbers of total.
HERE INLINE void NAME(tile)(const float *queries, long dim, const float *keys, const float *shift, long missing, float *to,
                            V *total) {
  EACH_ROW(F32_ZERO)
  for (long d = 0; d < dim; d++) {
    V k0 = LOAD(keys + d * 2 * W), k1 = LOAD(keys + d * 2 * W + W);
    EACH_ROW(F32_DOT)
  }
  EACH_ROW(F32_FINISH)
}

#define F32_LOAD(r) V o##r##0 = LOAD(sums + r * stride), o##r##1 = columns > 1 ? LOAD(sums + r * stride + W) : (V){};
#define F32_STORE(r)                                                                                                   \
  STORE(sums + r * stride, o##r##0);                                                                                   \
  if (columns > 1) STORE(sums + r * stride + W, o##r##1);
#define F32_WEIGH(r)                                                                                                   \
  {                                                                                                                    \
    V p = (V){} + row[r * CHUNK + t];                                                                                  \
    o##r##0 += p * v0;                                                                                                 \
    if (columns > 1) o##r##1 += p * v1;                                                                                \
  }

HERE INLINE void NAME(weigh)(const float *row, const float *values, long keys, float *sums, long stride, const int columns) {
  EACH_ROW(F32_LOAD)
  for (long t = 0; t < keys; t++) {
    V v0 = LOAD(values + t * stride), v1 = columns > 1 ? LOAD(values + t * stride + W) : (V){};
    EACH_ROW(F32_WEIGH)
  }
  EACH_ROW(F32_STORE)
}

HERE static void NAME(draw_block)(const Job *job, long number, long first) {
  long batch = number / job->heads, dim = job->dim, width = job->heads * dim, keys = job->keys;
  long origin = (batch * job->queries + first) * width + number % job->heads * dim, stride = NAME(padded)(dim);
  long rows = job->queries - first < SUPER ? job->queries - first : SUPER, chunk = dim > 64 ? CHUNK / 4 : CHUNK / 2;
  const Head *head = (const Head *)(job->scratch + number * job->head_bytes);
  const float *packed = (const float *)(head + 1), *values = (const float *)((const char *)packed + NAME(keys_bytes)(keys, dim));
  const float *query = (const float *)job->query + origin;
  float *result = (float *)job->result + origin;

  float queries[SUPER * WIDEST], sums[SUPER * WIDEST], shift[SUPER], probabilities[ROWS * CHUNK];
  V total[SUPER];
  int far = 0;
  for (long r = 0; r < SUPER; r++) {
    float square = 0;
    for (long d = 0; d < dim; d++) {
      float x = r < rows ? query[r * width + d] * job->scale : 0;
      square += x * x;
      queries[r * dim + d] = x;
    }
    float bound = sqrtf(square) * head->norm;
    shift[r] = bound > FEW ? FEW - bound : 0;
    far |= bound > FAR;
    total[r] = (V){};
  }
  memset(sums, 0, SUPER * stride * sizeof *sums);
  if (far) {
    for (long r = 0; r < rows; r += ROWS) {
      for (long i = 0; i < ROWS; i++) total[r + i] = (V){} - INFINITY;
      for (long t = 0; t < keys; t += 2 * W)
        NAME(tile)(queries + r * dim, dim, packed + t * dim, shift + r, t + 2 * W - keys, NULL, total + r);
      for (long i = 0; i < ROWS; i++) shift[r + i] -= total[r + i][0], total[r + i] = (V){};
    }
  }
  for (long t = 0; t < keys; t += chunk) {
    long some = rounded_up(keys - t < chunk ? keys - t : chunk, 2 * W);
    for (long r = 0; r < rows; r += ROWS) {
      for (long u = 0; u < some; u += 2 * W)
        NAME(tile)(queries + r * dim, dim, packed + (t + u) * dim, shift + r, t + u + 2 * W - keys, probabilities + u, total + r);
      long c = 0;
      for (; c + 2 * W <= stride; c += 2 * W)
        NAME(weigh)(probabilities, values + t * stride + c, some, sums + r * stride + c, stride, 2);
      if (c < stride) NAME(weigh)(probabilities, values + t * stride + c, some, sums + r * stride + c, stride, 1);
    }
  }
  for (long r = 0; r < rows; r++) {
    float sum = 0;
    for (long i = 0; i < W; i++) sum += total[r][i];
    for (long d = 0; d < dim; d++) result[r * width + d] = sums[r * stride + d] / sum;
  }
}

#undef PASTED
#undef NAMED
#undef HERE
#undef V
#undef LOAD
#undef STORE
#undef F32_ZERO
#undef F32_DOT
#undef F32_FINISH
#undef F32_LOAD
#undef F32_STORE
#undef F32_WEIGH
#undef NAME
#undef W
#undef INSTRUCTIONS
