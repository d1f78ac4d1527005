/* Matrix products on AMX tiles: C [16 weight rows][16 tokens] += A [16 rows][32 k] B [16 pairs of
 * k][16 tokens][2].
 *
 * bf16 weights are A as they lie in memory: a tile load takes a row stride. Activations are packed
 * once per segment into B tiles. An f32 value is the exact sum of three bf16 parts (8 bits each),
 * so that with f32 precision an activation counts in full: three products into the same tile. f32
 * and f16 weights are split on the way in three and two parts; products of parts below 2^-24 of the
 * whole are left out. With bf16 precision everything is one part, rounded to nearest.
 *
 * Packed layout: [ceil(rows / 16)] panels of [ceil(width / 32)] blocks of [3 or 1] tiles of [16
 * pairs][16 tokens][2]. A hidden panel comes out of the C tiles in this very layout: rows 2m and 2m
 * + 1 interleave to pair m. */
#include <immintrin.h>
#include <stdalign.h>
#include <stdbool.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/rows_internal.h"

enum {
    LANES = 16, /* tokens of a tile, and rows of one */
    BLOCK = 32, /* values of k in a tile */
    TILE_BYTES = 1024,
    PARTS_MAX = 3,
    SLAB_BLOCKS = 4, /* blocks converted at a time where they are used once */
    C_VALUES = MZ_PANEL * 2 * LANES
};

/* Constant, so that it is in memory as a whole: _tile_loadconfig of some gcc versions names only
 * its first 8 bytes as read, and stores to a local one could be dropped. All eight tiles have 16
 * rows of 64 bytes. */
static const alignas(64) uint8_t tile_config[64] = {
    [0] = 1,   [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64,
    [26] = 64, [28] = 64, [30] = 64, [48] = 16, [49] = 16, [50] = 16,
    [51] = 16, [52] = 16, [53] = 16, [54] = 16, [55] = 16,
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int x_parts_of(mz_precision precision) {
    return precision == MZ_PRECISION_BF16 ? 1 : PARTS_MAX;
}

static int w_parts_of(const mz_matrix *w) {
    if (w->precision == MZ_PRECISION_BF16 || w->dtype == MZ_DTYPE_BF16) {
        return 1;
    }
    return w->dtype == MZ_DTYPE_F16 ? 2 : PARTS_MAX;
}

/* ---- f32 to bf16 parts ---- */

/* The leading 8 bits of the significand, cut off rather than rounded: no finite value becomes
 * infinite, and what is left is exact. */
MZ_KERNEL_INLINE __m512 leading_part(__m512 x) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000u)));
}

/* The n_parts parts of 32 values, a is the first 16; each part 32 bf16 in order. */
MZ_KERNEL_INLINE void split(__m512 a, __m512 b, int n_parts, __m512i *parts) {
    for (int p = 0; p < n_parts - 1; p++) {
        const __m512 a_part = leading_part(a);
        const __m512 b_part = leading_part(b);
        parts[p] = (__m512i)_mm512_cvtne2ps_pbh(b_part, a_part);
        a = _mm512_sub_ps(a, a_part);
        b = _mm512_sub_ps(b, b_part);
    }
    parts[n_parts - 1] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

/* The parts of 16 pairs (even[i], odd[i]). */
MZ_KERNEL_INLINE void split_pairs(__m512 even, __m512 odd, int n_parts, __m512i *parts) {
    for (int p = 0; p < n_parts; p++) {
        const bool last = p == n_parts - 1;
        const __m512 even_part = last ? even : leading_part(even);
        const __m512 odd_part = last ? odd : leading_part(odd);
        const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even_part));
        const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd_part));
        parts[p] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
        even = _mm512_sub_ps(even, even_part);
        odd = _mm512_sub_ps(odd, odd_part);
    }
}

/* ---- Transposition ---- */

/* Columns 0..3 of a 16-row matrix of 4-byte values, each as a vector of its 16 rows. */
MZ_KERNEL_INLINE void transpose_4_columns(const uint8_t *src, size_t stride, __m512i columns[4]) {
    __m512i rows[4]; /* lane l of rows[i]: row i + 4 l */
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *p = src + i * stride;
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)p));
        v = _mm512_mask_broadcast_i32x4(
            v, 0x00f0, _mm_loadu_si128((const __m128i *)(const void *)(p + 4 * stride)));
        v = _mm512_mask_broadcast_i32x4(
            v, 0x0f00, _mm_loadu_si128((const __m128i *)(const void *)(p + 8 * stride)));
        rows[i] = _mm512_mask_broadcast_i32x4(
            v, 0xf000, _mm_loadu_si128((const __m128i *)(const void *)(p + 12 * stride)));
    }
    const __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]);
    const __m512i b = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const __m512i c = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const __m512i d = _mm512_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = _mm512_unpacklo_epi64(a, c);
    columns[1] = _mm512_unpackhi_epi64(a, c);
    columns[2] = _mm512_unpacklo_epi64(b, d);
    columns[3] = _mm512_unpackhi_epi64(b, d);
}

/* ---- Packing ---- */

static __mmask16 first_16(int64_t n) {
    return (__mmask16)(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}

static __mmask32 first_32(int64_t n) {
    return n >= 32 ? 0xffffffffu : n <= 0 ? 0u : (1u << n) - 1u;
}

/* One block of k of one panel. Rows that are NULL are zeros. */
MZ_KERNEL_INLINE void pack_block(uint8_t *tiles, const float *const *rows, int64_t k, int64_t n_k,
                                 int n_parts) {
    alignas(64) uint8_t by_row[PARTS_MAX][TILE_BYTES];
    const __mmask16 low = first_16(n_k);
    const __mmask16 high = first_16(n_k - LANES);
    for (int t = 0; t < LANES; t++) {
        __m512i parts[PARTS_MAX];
        const bool present = rows[t] != NULL;
        const __m512 a = present ? _mm512_maskz_loadu_ps(low, rows[t] + k) : _mm512_setzero_ps();
        const __m512 b =
            present ? _mm512_maskz_loadu_ps(high, rows[t] + k + LANES) : _mm512_setzero_ps();
        split(a, b, n_parts, parts);
        for (int p = 0; p < n_parts; p++) {
            _mm512_store_si512(by_row[p] + t * 64, parts[p]);
        }
    }
    for (int p = 0; p < n_parts; p++) {
        for (int c = 0; c < LANES; c += 4) {
            __m512i columns[4];
            transpose_4_columns(by_row[p] + c * 4, 64, columns);
            for (int i = 0; i < 4; i++) {
                _mm512_store_si512(tiles + p * TILE_BYTES + (c + i) * 64, columns[i]);
            }
        }
    }
}

/* The same of a transposed source, where two lines are the pairs of all tokens. */
MZ_KERNEL_INLINE void pack_lines(uint8_t *tiles, const mz_row_source *src, int64_t token,
                                 int64_t n_tokens, int64_t k, int64_t n_k, int n_parts) {
    const __mmask16 mask = first_16(n_tokens);
    for (int64_t m = 0; m < BLOCK / 2; m++) {
        __m512i parts[PARTS_MAX];
        __m512 pair[2];
        for (int64_t i = 0; i < 2; i++) {
            pair[i] = _mm512_setzero_ps();
            if (2 * m + i < n_k) {
                const float *line = mz_source_row(src, k + 2 * m + i);
                pair[i] = _mm512_maskz_loadu_ps(mask, line + src->column + token);
            }
        }
        split_pairs(pair[0], pair[1], n_parts, parts);
        for (int p = 0; p < n_parts; p++) {
            _mm512_store_si512(tiles + p * TILE_BYTES + m * 64, parts[p]);
        }
    }
}

MZ_KERNEL_INLINE void pack_panel(const mz_packed *dst, const mz_row_source *src, int64_t panel,
                                 int n_parts) {
    const float *rows[LANES];
    for (int64_t t = 0; t < LANES; t++) {
        const bool present = !src->transposed && panel * LANES + t < dst->n_rows;
        rows[t] = present ? mz_source_row(src, panel * LANES + t) : NULL;
    }
    const int64_t n_blocks = ceil_div(dst->width, BLOCK);
    uint8_t *tiles = dst->data + (size_t)(panel * n_blocks * n_parts) * TILE_BYTES;
    for (int64_t b = 0; b < n_blocks; b++) {
        uint8_t *out = tiles + (size_t)(b * n_parts) * TILE_BYTES;
        if (src->transposed) {
            pack_lines(out, src, panel * LANES, dst->n_rows - panel * LANES, b * BLOCK,
                       dst->width - b * BLOCK, n_parts);
        } else {
            pack_block(out, rows, b * BLOCK, dst->width - b * BLOCK, n_parts);
        }
    }
}

static void pack(const mz_packed *dst, const mz_row_source *src, int64_t begin, int64_t end) {
    for (int64_t panel = begin / LANES; panel * LANES < end; panel++) {
        if (dst->precision == MZ_PRECISION_BF16) {
            pack_panel(dst, src, panel, 1);
        } else {
            pack_panel(dst, src, panel, PARTS_MAX);
        }
    }
}

/* ---- Weights ---- */

/* Tiles of two times 16 weight rows. */
typedef struct weight_tiles {
    const uint8_t *base;
    size_t row_stride, tile_stride, part_stride, block_stride; /* bytes */
    int64_t n_blocks;
    const uint8_t *next;
    size_t next_bytes;
} weight_tiles;

/* 32 values of one weight row, of which n exist, as bf16 parts. */
MZ_KERNEL_INLINE void load_weights(const mz_matrix *w, const uint8_t *row, int64_t k, int64_t n,
                                   int n_parts, __m512i *parts) {
    if (w->dtype == MZ_DTYPE_F32) {
        const uint8_t *p = row + k * 4;
        const __m512 a = _mm512_maskz_loadu_ps(first_16(n), p);
        const __m512 b = _mm512_maskz_loadu_ps(first_16(n - LANES), p + 64);
        split(a, b, n_parts, parts);
        return;
    }
    const __m512i v = _mm512_maskz_loadu_epi16(first_32(n), row + k * 2);
    if (w->dtype == MZ_DTYPE_BF16) {
        parts[0] = v;
        return;
    }
    const __m512 a = _mm512_cvtph_ps(_mm512_castsi512_si256(v));
    const __m512 b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1));
    split(a, b, n_parts, parts);
}

/* 16 values of a line, of which n exist, as f32. */
MZ_KERNEL_INLINE __m512 load_line(mz_dtype dtype, const uint8_t *line, int64_t column, int64_t n) {
    if (dtype == MZ_DTYPE_F32) {
        return _mm512_maskz_loadu_ps(first_16(n), line + column * 4);
    }
    const __m256i v = _mm256_maskz_loadu_epi16(first_16(n), line + column * 2);
    return dtype == MZ_DTYPE_F16
               ? _mm512_cvtph_ps(v)
               : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

/* Values [k, k + BLOCK) of MZ_PANEL rows of a transposed matrix; zeros beyond it. */
static void gather_block(const mz_matrix *w, int64_t row, int64_t k, float *rows) {
    alignas(64) float lines[BLOCK * MZ_PANEL];
    for (int64_t i = 0; i < BLOCK; i++) {
        const uint8_t *line = k + i < w->d_in ? mz_matrix_line(w, k + i) : NULL;
        for (int64_t r = 0; r < MZ_PANEL; r += LANES) {
            _mm512_store_ps(lines + i * MZ_PANEL + r,
                            line != NULL ? load_line(w->dtype, line, row + r, w->d_out - row - r)
                                         : _mm512_setzero_ps());
        }
    }
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        for (int64_t r = 0; r < MZ_PANEL; r += 4) {
            __m512i columns[4];
            transpose_4_columns((const uint8_t *)(lines + i * MZ_PANEL + r),
                                MZ_PANEL * sizeof *lines, columns);
            for (int64_t j = 0; j < 4; j++) {
                _mm512_store_ps(rows + (r + j) * BLOCK + i, _mm512_castsi512_ps(columns[j]));
            }
        }
    }
}

MZ_KERNEL_INLINE void convert_lines(const mz_matrix *w, int64_t row, int64_t block,
                                    int64_t n_blocks, int n_parts, uint8_t *out) {
    alignas(64) float rows[MZ_PANEL * BLOCK];
    for (int64_t b = 0; b < n_blocks; b++) {
        gather_block(w, row, (block + b) * BLOCK, rows);
        for (int64_t i = 0; i < MZ_PANEL; i++) {
            __m512i parts[PARTS_MAX];
            split(_mm512_load_ps(rows + i * BLOCK), _mm512_load_ps(rows + i * BLOCK + LANES),
                  n_parts, parts);
            for (int p = 0; p < n_parts; p++) {
                _mm512_store_si512(
                    out + (size_t)(b * n_parts + p) * 2 * TILE_BYTES + (size_t)i * 64, parts[p]);
            }
        }
    }
}

MZ_KERNEL_INLINE void convert_blocks(const mz_matrix *w, int64_t row, int64_t block,
                                     int64_t n_blocks, int n_parts, uint8_t *out) {
    const int64_t n_rows = w->d_out - row < MZ_PANEL ? w->d_out - row : MZ_PANEL;
    const int64_t bytes = w->dtype == MZ_DTYPE_F32 ? 4 : 2;
    if (w->transposed) {
        convert_lines(w, row, block, n_blocks, n_parts, out);
        return;
    }
    for (int64_t i = 0; i < MZ_PANEL; i++) {
        const uint8_t *src = w->data + (row + i) * w->ld * bytes;
        for (int64_t b = 0; b < n_blocks; b++) {
            __m512i parts[PARTS_MAX] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                        _mm512_setzero_si512()};
            const int64_t k = (block + b) * BLOCK;
            if (i < n_rows) {
                load_weights(w, src, k, w->d_in - k, n_parts, parts);
            }
            for (int p = 0; p < n_parts; p++) {
                _mm512_store_si512(
                    out + (size_t)(b * n_parts + p) * 2 * TILE_BYTES + (size_t)i * 64, parts[p]);
            }
        }
    }
}

/* Converts blocks [block, block + n_blocks) of MZ_PANEL rows from `row` on to tiles
 * [block][part][2], zeros beyond the matrix. */
static weight_tiles convert(const mz_matrix *w, int64_t row, int64_t block, int64_t n_blocks,
                            uint8_t *out) {
    const int n_parts = w_parts_of(w);
    switch (n_parts) {
    case 1:
        convert_blocks(w, row, block, n_blocks, 1, out);
        break;
    case 2:
        convert_blocks(w, row, block, n_blocks, 2, out);
        break;
    default:
        convert_blocks(w, row, block, n_blocks, PARTS_MAX, out);
        break;
    }
    const size_t part_stride = 2 * TILE_BYTES;
    return (weight_tiles){.base = out,
                          .row_stride = 64,
                          .tile_stride = TILE_BYTES,
                          .part_stride = part_stride,
                          .block_stride = part_stride * (size_t)n_parts,
                          .n_blocks = n_blocks};
}

/* ---- Tiles ---- */

/* C tiles 0 (rows 0..15) and 1 (rows 16..31) of the panel at x0, and with `pair` 2 and 3 of the one
 * at x1, get the products with all blocks of w added. All products of one block come before the
 * next block's, whatever the shape of the call. */
MZ_KERNEL_INLINE void accumulate(const weight_tiles *w, int w_parts, const uint8_t *x0,
                                 const uint8_t *x1, int x_parts, bool pair) {
    const size_t x_stride = (size_t)x_parts * TILE_BYTES;
    const uint8_t *next = w->next;
    for (int64_t b = 0; b < w->n_blocks; b++) {
        if (w_parts == 1 && w->row_stride > 64) {
            const uint8_t *ahead = w->base + (size_t)(b + 1) * w->block_stride;
            for (size_t i = 0; i < MZ_PANEL; i++) {
                _mm_prefetch(ahead + i * w->row_stride, _MM_HINT_T0);
            }
        }
        for (size_t i = 0; i < w->next_bytes; i += 64) {
            _mm_prefetch(next + i, _MM_HINT_T1);
        }
        next += w->next_bytes;
        for (int wp = 0; wp < w_parts; wp++) {
            const uint8_t *a = w->base + (size_t)b * w->block_stride + (size_t)wp * w->part_stride;
            _tile_loadd(4, a, w->row_stride);
            _tile_loadd(5, a + w->tile_stride, w->row_stride);
            for (int xp = 0; xp < x_parts - wp; xp++) {
                const size_t at = (size_t)b * x_stride + (size_t)xp * TILE_BYTES;
                _tile_loadd(6, x0 + at, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 5, 6);
                if (pair) {
                    _tile_loadd(7, x1 + at, 64);
                    _tile_dpbf16ps(2, 4, 7);
                    _tile_dpbf16ps(3, 5, 7);
                }
            }
        }
    }
}

MZ_KERNEL_INLINE void accumulate_parts(const weight_tiles *w, int w_parts, const uint8_t *x0,
                                       const uint8_t *x1, int x_parts, bool pair) {
    if (x_parts == 1) {
        accumulate(w, 1, x0, x1, 1, pair);
    } else if (w_parts == 1) {
        accumulate(w, 1, x0, x1, PARTS_MAX, pair);
    } else if (w_parts == 2) {
        accumulate(w, 2, x0, x1, PARTS_MAX, pair);
    } else {
        accumulate(w, PARTS_MAX, x0, x1, PARTS_MAX, pair);
    }
}

/* One or two panels of packed rows. */
typedef struct token_pair {
    int64_t pair;
    const uint8_t *x0, *x1;
    bool both;
} token_pair;

static token_pair pair_at(const mz_packed *x, int64_t pair) {
    const int64_t n_panels = ceil_div(x->n_rows, LANES);
    const size_t panel_bytes =
        (size_t)(ceil_div(x->width, BLOCK) * x_parts_of(x->precision)) * TILE_BYTES;
    const uint8_t *x0 = x->data + (size_t)pair * 2 * panel_bytes;
    const bool both = 2 * pair + 1 < n_panels;
    return (token_pair){.pair = pair, .x0 = x0, .x1 = both ? x0 + panel_bytes : x0, .both = both};
}

static void add_blocks(const mz_matrix *w, const weight_tiles *tiles, const token_pair *t,
                       int64_t block, int x_parts) {
    const size_t at = (size_t)(block * x_parts) * TILE_BYTES;
    if (t->both) {
        accumulate_parts(tiles, w_parts_of(w), t->x0 + at, t->x1 + at, x_parts, true);
    } else {
        accumulate_parts(tiles, w_parts_of(w), t->x0 + at, t->x1 + at, x_parts, false);
    }
}

/* A panel of weights ready for use: whole blocks in place, the others converted. `lazy`: nothing is
 * converted yet, it happens block by block as they are used. */
typedef struct weight_panel {
    const mz_matrix *w;
    int64_t row;
    weight_tiles in_place, converted;
    bool lazy;
    uint8_t *scratch;
} weight_panel;

/* Conversion pays for itself when more than one pair of token panels reads it; otherwise it stays
 * in the first-level cache. */
static weight_panel open_panel(const mz_matrix *w, int64_t panel, int64_t n_pairs,
                               uint8_t *scratch) {
    weight_panel out = {.w = w, .row = panel * MZ_PANEL, .scratch = scratch};
    const int64_t n_blocks = ceil_div(w->d_in, BLOCK);
    if (w->dtype == MZ_DTYPE_BF16 && !w->transposed && out.row + MZ_PANEL <= w->d_out) {
        const size_t stride = (size_t)w->ld * 2;
        const bool last = (panel + 2) * MZ_PANEL > w->d_out;
        out.in_place = (weight_tiles){
            .next = w->data + (size_t)(out.row + MZ_PANEL) * stride,
            .next_bytes = last ? 0 : (size_t)ceil_div(MZ_PANEL * 64, n_pairs * 64) * 64,
            .base = w->data + (size_t)out.row * stride,
            .row_stride = stride,
            .tile_stride = stride * LANES,
            .block_stride = BLOCK * 2,
            .n_blocks = w->d_in / BLOCK};
    }
    out.lazy = n_pairs == 1 && out.in_place.n_blocks == 0;
    if (!out.lazy) {
        const int64_t first = out.in_place.n_blocks;
        out.converted = convert(w, out.row, first, n_blocks - first, scratch);
    }
    return out;
}

/* c [MZ_PANEL][32 or, without both panels, 16 tokens] = the panel times the tokens. */
static void multiply(const weight_panel *p, const token_pair *t, int x_parts, float *c) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (p->lazy) {
        const int64_t n_blocks = ceil_div(p->w->d_in, BLOCK);
        for (int64_t b = 0; b < n_blocks; b += SLAB_BLOCKS) {
            const int64_t n = n_blocks - b < SLAB_BLOCKS ? n_blocks - b : SLAB_BLOCKS;
            const weight_tiles tiles = convert(p->w, p->row, b, n, p->scratch);
            add_blocks(p->w, &tiles, t, b, x_parts);
        }
    } else {
        weight_tiles in_place = p->in_place;
        in_place.next += (size_t)t->pair * (size_t)in_place.n_blocks * in_place.next_bytes;
        add_blocks(p->w, &in_place, t, 0, x_parts);
        add_blocks(p->w, &p->converted, t, p->in_place.n_blocks, x_parts);
    }
    const size_t stride = (t->both ? 2 * LANES : LANES) * sizeof *c;
    _tile_stored(0, c, stride);
    _tile_stored(1, (uint8_t *)c + LANES * stride, stride);
    if (t->both) {
        _tile_stored(2, c + LANES, stride);
        _tile_stored(3, (uint8_t *)(c + LANES) + LANES * stride, stride);
    }
}

/* ---- Results ---- */

/* 16 of the panel's rows for one panel of tokens, transposed to y; n_rows and n_tokens of them
 * exist. */
static void store_rows(float *y, int64_t ld_y, const float *c, int64_t ld_c, int64_t n_rows,
                       int64_t n_tokens, const float *bias, bool accumulate) {
    const __mmask16 mask = first_16(n_rows);
    const __m512 add = bias != NULL ? _mm512_maskz_loadu_ps(mask, bias) : _mm512_setzero_ps();
    for (int64_t t = 0; t < n_tokens; t += 4) {
        __m512i columns[4];
        transpose_4_columns((const uint8_t *)(c + t), (size_t)ld_c * sizeof *c, columns);
        for (int64_t i = 0; i < 4 && t + i < n_tokens; i++) {
            __m512 v = _mm512_castsi512_ps(columns[i]);
            v = bias != NULL ? _mm512_add_ps(v, add) : v;
            float *out = y + (t + i) * ld_y;
            v = accumulate ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v) : v;
            _mm512_mask_storeu_ps(out, mask, v);
        }
    }
}

static void product(const mz_matrix *w, int64_t panel_begin, int64_t panel_end, const mz_packed *x,
                    float *y, int64_t ld_y, bool accumulate, void *scratch) {
    alignas(64) float c[C_VALUES];
    const int64_t n_pairs = ceil_div(x->n_rows, 2 * LANES);
    _tile_loadconfig(tile_config);
    for (int64_t panel = panel_begin; panel < panel_end; panel++) {
        const weight_panel p = open_panel(w, panel, n_pairs, scratch);
        for (int64_t pair = 0; pair < n_pairs; pair++) {
            const token_pair t = pair_at(x, pair);
            const int64_t ld_c = t.both ? 2 * LANES : LANES;
            multiply(&p, &t, x_parts_of(x->precision), c);
            for (int64_t tile = 0; tile < (t.both ? 4 : 2); tile++) {
                const int64_t row = p.row + tile % 2 * LANES;
                const int64_t token = pair * 2 * LANES + tile / 2 * LANES;
                const int64_t n_tokens = x->n_rows - token < LANES ? x->n_rows - token : LANES;
                if (row < w->d_out) {
                    store_rows(y + token * ld_y + row, ld_y,
                               c + tile % 2 * LANES * ld_c + tile / 2 * LANES, ld_c, w->d_out - row,
                               n_tokens, w->bias != NULL ? w->bias + row : NULL, accumulate);
                }
            }
        }
    }
    _tile_release();
}

static void add_bias(float *c, int64_t ld_c, const mz_matrix *w, int64_t row) {
    for (int64_t i = 0; w->bias != NULL && i < MZ_PANEL && row + i < w->d_out; i++) {
        for (int64_t t = 0; t < ld_c; t++) {
            c[i * ld_c + t] += w->bias[row + i];
        }
    }
}

/* A block of 32 hidden rows for one panel of tokens, packed. */
MZ_KERNEL_INLINE void pack_hidden(uint8_t *tiles, const float *c, int64_t ld_c, int n_parts) {
    for (int64_t m = 0; m < MZ_PANEL / 2; m++) {
        __m512i parts[PARTS_MAX];
        split_pairs(_mm512_load_ps(c + 2 * m * ld_c), _mm512_load_ps(c + (2 * m + 1) * ld_c),
                    n_parts, parts);
        for (int p = 0; p < n_parts; p++) {
            _mm512_store_si512(tiles + p * TILE_BYTES + m * 64, parts[p]);
        }
    }
}

static void store_hidden(const mz_packed *hidden, int64_t block, int64_t pair, bool both,
                         const float *c) {
    const int n_parts = x_parts_of(hidden->precision);
    const int64_t n_blocks = ceil_div(hidden->width, BLOCK);
    for (int64_t i = 0; i < (both ? 2 : 1); i++) {
        uint8_t *tiles =
            hidden->data + (size_t)(((pair * 2 + i) * n_blocks + block) * n_parts) * TILE_BYTES;
        if (n_parts == 1) {
            pack_hidden(tiles, c + i * LANES, both ? 2 * LANES : LANES, 1);
        } else {
            pack_hidden(tiles, c + i * LANES, both ? 2 * LANES : LANES, PARTS_MAX);
        }
    }
}

static size_t panel_scratch(int64_t d_in) {
    return (size_t)ceil_div(d_in, BLOCK) * PARTS_MAX * 2 * TILE_BYTES;
}

static void gate_up(const mz_matrix *gate, const mz_matrix *up, mz_activation activation,
                    int64_t panel_begin, int64_t panel_end, const mz_packed *x,
                    const mz_packed *hidden, void *scratch) {
    alignas(64) float g[C_VALUES];
    alignas(64) float u[C_VALUES];
    alignas(64) float h[C_VALUES];
    const int64_t n_pairs = ceil_div(x->n_rows, 2 * LANES);
    const int x_parts = x_parts_of(x->precision);
    _tile_loadconfig(tile_config);
    for (int64_t panel = panel_begin; panel < panel_end; panel++) {
        const weight_panel pg = open_panel(gate, panel, n_pairs, scratch);
        const weight_panel pu =
            open_panel(up, panel, n_pairs, (uint8_t *)scratch + panel_scratch(gate->d_in));
        for (int64_t pair = 0; pair < n_pairs; pair++) {
            const token_pair t = pair_at(x, pair);
            const int64_t ld_c = t.both ? 2 * LANES : LANES;
            multiply(&pg, &t, x_parts, g);
            multiply(&pu, &t, x_parts, u);
            add_bias(g, ld_c, gate, pg.row);
            add_bias(u, ld_c, up, pu.row);
            mz_row_kernels_avx512.activate(h, g, u, MZ_PANEL * ld_c, activation);
            store_hidden(hidden, panel, pair, t.both, h);
        }
    }
    _tile_release();
}

static size_t thread_bytes(int64_t d_in) {
    return 2 * panel_scratch(d_in);
}

const mz_product_kernels mz_product_kernels_amx = {
    .row_step = LANES,
    .width_step = BLOCK,
    .value_bytes = {2 * PARTS_MAX, 2},
    .segment_rows = 256,
    .segment_bytes = 1 << 20,
    .thread_bytes = thread_bytes,
    .pack = pack,
    .product = product,
    .gate_up = gate_up,
};
