/* Cuts products into segments and shares them out among the threads. */
#include <assert.h>
#include <stdbool.h>

#include "core/ops/cpu/products_internal.h"
#include "core/ops/cpu/quantised_internal.h"
#include "core/threads.h"

enum {
    CHUNKS_PER_THREAD = 4,     /* enough for the last chunk to be short beside the whole */
    CHUNK_WORK = 1 << 20,      /* least weights times rows of one: 2 us with the fastest kernels */
    ROWS_PER_READ = 64,        /* rows that a weight is multiplied with while the next is read */
    PACK_COST = 64,            /* products in the time that a value takes to be packed */
    LARGEST_SEGMENT = 4 << 20, /* segment_bytes of any table but AMX's */
    GRADIENT_STEP = 64,        /* fewer rows of a weight gradient do not pay for reading a panel */
};

/* Stages of a segment. With few segments each stage is shared out among the threads; with many a
 * thread takes a whole segment through all of them. */
typedef enum stage {
    STAGE_PACK = 0,
    STAGE_HIDDEN,
    STAGE_PACK_HIDDEN, /* of hidden values that came out as f32 */
    STAGE_OUT,
    STAGE_COUNT
} stage;

typedef struct segment {
    const mz_product_set *set;
    const mz_product_kernels *kernels, *out_kernels; /* of x, and of hidden values if any */
    int32_t expert;
    int64_t first, n_rows;             /* of the set's rows */
    int64_t first_value, n_values;     /* of the products' rows; a part of them in a gradient */
    uint8_t *x, *hidden, *plain;       /* packed, and f32; NULL: in the thread's own memory */
    int64_t items_before[STAGE_COUNT]; /* of the segments before this one */
} segment;

typedef struct product_job {
    mz_isa isa;
    int n_threads;
    segment *segments;
    int64_t n_segments;
    stage stage;
    uint8_t *scratch; /* [n_threads] of thread_bytes, the kernels' */
    size_t thread_bytes;
    uint8_t *own; /* [n_threads] of own_bytes, packed rows of the segment that a thread works on */
    size_t own_bytes;
} product_job;

static int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static size_t align_64(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

size_t mz_elements_bytes(mz_dtype dtype, int64_t n) {
    const mz_dtype_info *type = mz_dtype_get(dtype);
    return (size_t)(n / type->block_len) * (size_t)type->block_bytes;
}

mz_precision mz_product_precision(mz_dtype dtype, mz_precision precision) {
    const bool as_f32 = precision == MZ_PRECISION_INT8 && mz_quantised_block(dtype) == 0;
    return as_f32 ? MZ_PRECISION_F32 : precision;
}

static const mz_product_kernels *quantised_kernels_for(mz_isa isa) {
    if (isa >= MZ_ISA_AVX512_BF16) {
        return &mz_quantised_kernels_avx512_bf16;
    }
    return isa >= MZ_ISA_AVX2 ? &mz_quantised_kernels_avx2 : &mz_quantised_kernels_scalar;
}

const mz_product_kernels *mz_product_kernels_for(mz_isa isa, mz_dtype dtype,
                                                 mz_precision precision) {
    if (mz_product_precision(dtype, precision) == MZ_PRECISION_INT8) {
        return quantised_kernels_for(isa);
    }
    if (isa == MZ_ISA_AMX && mz_dtype_get(dtype)->block_len > 1) {
        isa = MZ_ISA_AVX512_BF16;
    }
    switch (isa) {
    case MZ_ISA_AMX:
        return &mz_product_kernels_amx;
    case MZ_ISA_AVX512_BF16:
        return precision == MZ_PRECISION_BF16 ? &mz_product_kernels_avx512_bf16
                                              : &mz_product_kernels_avx512;
    case MZ_ISA_AVX512:
        return &mz_product_kernels_avx512;
    case MZ_ISA_AVX2:
        return &mz_product_kernels_avx2;
    default:
        return &mz_product_kernels_scalar;
    }
}

size_t mz_packed_bytes(const mz_product_kernels *kernels, const mz_packed *x) {
    if (x->precision == MZ_PRECISION_INT8) {
        return (size_t)x->n_rows * mz_quantised_row_of(x->width, x->block).bytes;
    }
    const int64_t rows = ceil_div(x->n_rows, kernels->row_step) * kernels->row_step;
    const int64_t columns = ceil_div(x->width, kernels->width_step) * kernels->width_step;
    return align_64((size_t)rows * (size_t)columns * (size_t)kernels->value_bytes[x->precision]);
}

const uint8_t *mz_matrix_line(const mz_matrix *w, int64_t k) {
    const int64_t i = w->first + k;
    const int64_t line = w->index != NULL ? w->index[i] / w->divisor : i;
    return w->data + (size_t)line * mz_elements_bytes(w->dtype, w->ld);
}

const float *mz_source_row(const mz_row_source *src, int64_t i) {
    const int64_t row = src->first + i;
    return src->x + src->ld * (src->index != NULL ? src->index[row] / src->divisor : row);
}

/* ---- What a set looks like ---- */

static bool is_gradient(const mz_product_set *set) {
    return set->y_data != NULL;
}

static bool is_ffn(const mz_product_set *set) {
    return set->gate.d_out > 0;
}

static const mz_matrix *first_matrix(const mz_product_set *set) {
    return is_ffn(set) ? &set->gate : &set->out;
}

/* Inputs, or hidden values, of n_rows rows as the matrix's kernels read them. */
static mz_packed packed_for(const mz_matrix *w, uint8_t *data, int64_t n_rows, int64_t width) {
    const mz_precision precision = mz_product_precision(w->dtype, w->precision);
    return (mz_packed){.data = data,
                       .n_rows = n_rows,
                       .width = width,
                       .precision = precision,
                       .block = precision == MZ_PRECISION_INT8 ? mz_quantised_block(w->dtype) : 0};
}

static mz_packed packed_x(const segment *g) {
    return packed_for(first_matrix(g->set), g->x, g->n_rows, g->n_values);
}

static mz_packed packed_hidden(const segment *g) {
    return packed_for(&g->set->out, g->hidden, g->n_rows, g->set->out.d_in);
}

/* Whether gate_up leaves hidden values as f32: kernels pack for themselves only, and those of
 * quantised weights only blocks that a panel fills. */
static bool has_plain_hidden(const segment *g) {
    return is_ffn(g->set) &&
           (g->kernels != g->out_kernels || packed_hidden(g).block == MZ_LONG_BLOCK);
}

static size_t x_bytes(const segment *g) {
    const mz_packed x = packed_x(g);
    return mz_packed_bytes(g->kernels, &x);
}

static size_t hidden_bytes(const segment *g) {
    const mz_packed hidden = packed_hidden(g);
    return is_ffn(g->set) ? mz_packed_bytes(g->out_kernels, &hidden) : 0;
}

static size_t plain_bytes(const segment *g) {
    const size_t n = (size_t)g->n_rows * (size_t)g->set->out.d_in;
    return has_plain_hidden(g) ? align_64(n * sizeof(float)) : 0;
}

static size_t segment_memory(const segment *g) {
    return x_bytes(g) + hidden_bytes(g) + plain_bytes(g);
}

static void place(segment *g, uint8_t *memory) {
    g->x = memory;
    g->hidden = g->x + x_bytes(g);
    g->plain = g->hidden + hidden_bytes(g);
}

/* Most rows of a segment like this one. */
static int64_t rows_limit(segment g) {
    g.n_rows = MZ_SEGMENT_ROW_STEP;
    const int64_t n_steps = (int64_t)(g.kernels->segment_bytes / segment_memory(&g));
    const int64_t most = min_i64(g.kernels->segment_rows, g.out_kernels->segment_rows);
    return MZ_SEGMENT_ROW_STEP * min_i64(max_i64(n_steps, 1), most / MZ_SEGMENT_ROW_STEP);
}

static mz_matrix matrix_of(const mz_matrix *w, const void *const *data, int32_t expert) {
    mz_matrix out = *w;
    if (data != NULL) {
        out.data = data[expert];
    }
    return out;
}

/* ---- Stages ---- */

static bool is_dequantised(const mz_matrix *w) {
    return mz_dtype_get(w->dtype)->block_len > 1 &&
           mz_product_precision(w->dtype, w->precision) != MZ_PRECISION_INT8;
}

/* Those of AMX read no blocks, and what it packs no others read: then none of a set's are. */
static const mz_product_kernels *kernels_of(const product_job *job, const mz_product_set *set,
                                            const mz_matrix *w) {
    const bool blocks = is_dequantised(&set->out) ||
                        (is_ffn(set) && (is_dequantised(&set->gate) || is_dequantised(&set->up)));
    const mz_isa isa = blocks && job->isa == MZ_ISA_AMX ? MZ_ISA_AVX512_BF16 : job->isa;
    return mz_product_kernels_for(isa, w->dtype, w->precision);
}

static int64_t n_panels(const mz_matrix *w) {
    return ceil_div(w->d_out, MZ_PANEL);
}

static int64_t n_out_panels(const mz_product_set *set) {
    int64_t n = n_panels(&set->out);
    for (int i = 0; i < set->n_also; i++) {
        n += n_panels(&set->also[i]);
    }
    return n;
}

/* Packing goes by rows, products by panels. */
static int64_t n_items(const segment *g, stage st) {
    switch (st) {
    case STAGE_PACK:
        return ceil_div(g->n_rows, MZ_SEGMENT_ROW_STEP);
    case STAGE_HIDDEN:
        return is_ffn(g->set) ? n_panels(&g->set->gate) : 0;
    case STAGE_PACK_HIDDEN:
        return has_plain_hidden(g) ? ceil_div(g->n_rows, MZ_SEGMENT_ROW_STEP) : 0;
    default:
        return n_out_panels(g->set);
    }
}

static void run_pack(const segment *g, const mz_packed *x, int64_t begin, int64_t end) {
    mz_row_source source = g->set->source;
    if (source.transposed) {
        source.first = g->first_value;
        source.column = g->first;
    } else {
        source.first = g->first;
    }
    g->kernels->pack(x, &source, begin * MZ_SEGMENT_ROW_STEP,
                     min_i64(end * MZ_SEGMENT_ROW_STEP, g->n_rows));
}

static void run_pack_hidden(const segment *g, const mz_packed *hidden, int64_t begin, int64_t end) {
    const mz_row_source source = {
        .x = (const float *)(const void *)g->plain, .ld = hidden->width, .divisor = 1};
    g->out_kernels->pack(hidden, &source, begin * MZ_SEGMENT_ROW_STEP,
                         min_i64(end * MZ_SEGMENT_ROW_STEP, g->n_rows));
}

/* Panels of the matrices that share x with `out`, numbered after its own. */
static void run_also(const segment *g, const mz_packed *x, int64_t begin, int64_t end,
                     void *scratch) {
    const mz_product_set *set = g->set;
    int64_t first = n_panels(&set->out);
    for (int i = 0; i < set->n_also; i++) {
        const mz_matrix *w = &set->also[i];
        const int64_t from = max_i64(begin, first) - first;
        const int64_t to = min_i64(end, first + n_panels(w)) - first;
        if (from < to) {
            g->out_kernels->product(w, from, to, x, mz_tensor_f32(set->also_y[i], g->first),
                                    set->also_y[i]->ld, false, scratch);
        }
        first += n_panels(w);
    }
}

static void run_out(const segment *g, const mz_packed *x, int64_t begin, int64_t end,
                    void *scratch) {
    const mz_product_set *set = g->set;
    mz_matrix out = matrix_of(&set->out, set->out_data, g->expert);
    run_also(g, x, begin, end, scratch);
    end = min_i64(end, n_panels(&out));
    if (begin >= end) {
        return;
    }
    if (is_gradient(set)) {
        out.first = g->first_value;
        out.d_in = g->n_values;
        g->out_kernels->product(&out, begin, end, x, set->y_data[g->expert] + g->first * set->ld_y,
                                set->ld_y, true, scratch);
    } else {
        g->out_kernels->product(&out, begin, end, x, mz_tensor_f32(set->y, g->first), set->y->ld,
                                set->accumulate, scratch);
    }
}

static void run_stage(const product_job *job, const segment *g, stage st, int64_t begin,
                      int64_t end, int thread) {
    const mz_product_set *set = g->set;
    void *scratch = job->scratch + (size_t)thread * job->thread_bytes;
    const mz_packed x = packed_x(g);
    const mz_packed hidden = packed_hidden(g);
    if (st == STAGE_PACK) {
        run_pack(g, &x, begin, end);
    } else if (st == STAGE_HIDDEN) {
        const mz_matrix gate = matrix_of(&set->gate, set->gate_data, g->expert);
        const mz_matrix up = matrix_of(&set->up, set->up_data, g->expert);
        const mz_packed plain = {.data = g->plain, .n_rows = hidden.n_rows, .width = hidden.width};
        g->kernels->gate_up(&gate, &up, set->activation, begin, end, &x,
                            has_plain_hidden(g) ? &plain : &hidden, scratch);
    } else if (st == STAGE_PACK_HIDDEN) {
        run_pack_hidden(g, &hidden, begin, end);
    } else {
        run_out(g, is_ffn(set) ? &hidden : &x, begin, end, scratch);
    }
}

/* Items [begin, end) of one stage over all segments. */
static void stage_task(void *arg, int64_t begin, int64_t end, int thread) {
    const product_job *job = arg;
    for (int64_t i = 0; i < job->n_segments && begin < end; i++) {
        const segment *g = &job->segments[i];
        const int64_t before = g->items_before[job->stage];
        const int64_t last = min_i64(end, before + n_items(g, job->stage));
        if (begin < last) {
            run_stage(job, g, job->stage, begin - before, last - before, thread);
            begin = last;
        }
    }
}

/* Segments [begin, end), each through all stages in memory of this thread. */
static void segment_task(void *arg, int64_t begin, int64_t end, int thread) {
    const product_job *job = arg;
    for (int64_t i = begin; i < end; i++) {
        segment g = job->segments[i];
        place(&g, job->own + (size_t)thread * job->own_bytes);
        for (int st = 0; st < STAGE_COUNT; st++) {
            run_stage(job, &g, (stage)st, 0, n_items(&g, (stage)st), thread);
        }
    }
}

/* ---- Planning ---- */

static int64_t max_segments(int64_t n_rows, int32_t n_experts) {
    return n_rows / MZ_SEGMENT_ROW_STEP + min_i64(n_experts, n_rows);
}

static int64_t set_segments(const mz_product_set *set) {
    const int64_t n_rows = is_gradient(set) ? set->n_rows * set->n_experts : set->n_rows;
    return max_segments(n_rows, set->n_experts);
}

/* Cuts the rows of one expert evenly in at least n_parts segments, if there are as many steps. */
static void cut(product_job *job, const segment *whole, int64_t n_parts) {
    const int64_t n_rows = whole->n_rows;
    n_parts = max_i64(ceil_div(n_rows, rows_limit(*whole)), n_parts);
    const int64_t n_steps = ceil_div(ceil_div(n_rows, n_parts), MZ_SEGMENT_ROW_STEP);
    const int64_t step = max_i64(n_steps, 1) * MZ_SEGMENT_ROW_STEP;
    for (int64_t i = 0; i < n_rows; i += step) {
        segment *g = &job->segments[job->n_segments];
        *g = *whole;
        g->first = whole->first + i;
        g->n_rows = min_i64(step, n_rows - i);
        for (int st = 0; st < STAGE_COUNT && job->n_segments > 0; st++) {
            g->items_before[st] = g[-1].items_before[st] + n_items(&g[-1], (stage)st);
        }
        job->n_segments++;
    }
}

/* Segments that a gradient's rows are cut in, so that a small matrix too has items for all threads.
 * No result depends on it. */
static int64_t gradient_parts(const product_job *job, const mz_product_set *set) {
    const int64_t n = n_panels(&set->out) * set->n_experts;
    const int64_t wanted = ceil_div((int64_t)job->n_threads * CHUNKS_PER_THREAD, n);
    return max_i64(min_i64(wanted, set->n_rows / GRADIENT_STEP), 1);
}

/* Rows of x in the group of one expert, or all. */
static int64_t group_rows(const mz_product_set *set, int32_t expert, int64_t *first) {
    const int32_t *offsets = set->expert_offsets;
    *first = offsets != NULL ? offsets[expert] : 0;
    if (offsets != NULL) {
        return offsets[expert + 1] - offsets[expert];
    }
    return is_gradient(set) ? set->out.d_in : set->n_rows;
}

static void cut_set(product_job *job, const mz_product_set *set, int64_t round) {
    for (int32_t e = 0; e < set->n_experts; e++) {
        segment g = {.set = set,
                     .kernels = kernels_of(job, set, first_matrix(set)),
                     .out_kernels = kernels_of(job, set, &set->out),
                     .expert = e};
        const int64_t n = group_rows(set, e, &g.first);
        if (!is_gradient(set)) {
            g.n_rows = n;
            g.n_values = first_matrix(set)->d_in;
            cut(job, &g, 1);
        } else if (n > round * MZ_GRADIENT_ROWS) {
            g.first_value = g.first + round * MZ_GRADIENT_ROWS;
            g.n_values = min_i64(n - round * MZ_GRADIENT_ROWS, MZ_GRADIENT_ROWS);
            g.first = 0;
            g.n_rows = set->n_rows;
            cut(job, &g, gradient_parts(job, set));
        }
    }
}

/* A gradient is summed in rounds, because the rows of a batch, packed, would fill no cache; within
 * one no two segments add to the same values. Everything else takes one round. */
static int64_t rounds_of(const mz_product_set *set) {
    int64_t most = 0;
    for (int32_t e = 0; e < set->n_experts && is_gradient(set); e++) {
        int64_t first = 0;
        most = max_i64(most, group_rows(set, e, &first));
    }
    return is_gradient(set) ? ceil_div(most, MZ_GRADIENT_ROWS) : 1;
}

/* A chunk is worth a thread's while, and there are enough of them. Rows count as ROWS_PER_READ
 * where memory is slower. */
static void run_shared_stage(mz_stream *s, product_job *job, stage st) {
    const segment *last = &job->segments[job->n_segments - 1];
    const int64_t n = last->items_before[st] + n_items(last, st);
    int64_t work = 0;
    for (int64_t i = 0; i < job->n_segments; i++) {
        const segment *g = &job->segments[i];
        const bool is_packing = st == STAGE_PACK || st == STAGE_PACK_HIDDEN;
        const bool of_hidden = st == STAGE_PACK_HIDDEN || (st == STAGE_OUT && is_ffn(g->set));
        const int64_t width = of_hidden ? g->set->out.d_in : g->n_values;
        const int64_t cost = is_packing ? PACK_COST : max_i64(g->n_rows, ROWS_PER_READ);
        work += n_items(g, st) * MZ_PANEL * width * cost;
    }
    if (n > 0) {
        const int64_t least = ceil_div(CHUNK_WORK, work / n + 1);
        const int64_t even = n / ((int64_t)job->n_threads * CHUNKS_PER_THREAD);
        job->stage = st;
        mz_pool_run(s->ctx->pool, n, work < 2 * CHUNK_WORK ? n : max_i64(least, even), stage_task,
                    job);
    }
}

/* Gives the segments their memory and runs them. */
static mz_status run_segments(mz_stream *s, product_job *job) {
    const int n_threads = job->n_threads;
    size_t total = 0;
    size_t largest = 0;
    for (int64_t i = 0; i < job->n_segments; i++) {
        const segment *g = &job->segments[i];
        const size_t bytes = segment_memory(g);
        total += bytes;
        largest = bytes > largest ? bytes : largest;
    }
    void *memory = NULL;
    if (n_threads == 1 || largest * (size_t)n_threads * CHUNKS_PER_THREAD <= total) {
        job->own_bytes = largest;
        MZ_TRY(mz_stream_take_bytes(s, largest * (size_t)n_threads, "packed rows", &memory));
        job->own = memory;
        mz_pool_run(s->ctx->pool, job->n_segments, 1, segment_task, job);
        return MZ_OK;
    }
    MZ_TRY(mz_stream_take_bytes(s, total, "packed rows", &memory));
    uint8_t *at = memory;
    for (int64_t i = 0; i < job->n_segments; i++) {
        segment *g = &job->segments[i];
        place(g, at);
        at += segment_memory(g);
    }
    for (int st = 0; st < STAGE_COUNT; st++) {
        run_shared_stage(s, job, (stage)st);
    }
    return MZ_OK;
}

/* Whether gate and up read the same packed rows. */
static bool match(const mz_matrix *a, const mz_matrix *b) {
    return packed_for(a, NULL, 1, 1).block == packed_for(b, NULL, 1, 1).block &&
           mz_product_precision(a->dtype, a->precision) ==
               mz_product_precision(b->dtype, b->precision);
}

static mz_precision without_int8(mz_precision precision) {
    return precision == MZ_PRECISION_INT8 ? MZ_PRECISION_F32 : precision;
}

/* A set as its kernels can run it: where gate and up differ in what they read they are multiplied
 * as f32, and hidden values that come from other than INT8 products count in full. */
static mz_product_set resolved(const mz_product_set *set) {
    mz_product_set out = *set;
    if (is_ffn(set)) {
        if (!match(&out.gate, &out.up)) {
            out.gate.precision = without_int8(out.gate.precision);
            out.up.precision = without_int8(out.up.precision);
        }
        const mz_matrix *gate = &out.gate;
        if (mz_product_precision(gate->dtype, gate->precision) != MZ_PRECISION_INT8) {
            out.out.precision = without_int8(out.out.precision);
        }
    }
    return out;
}

static mz_status check_set(mz_stream *s, const mz_product_set *set) {
    const mz_precision of_gate = mz_product_precision(set->gate.dtype, set->gate.precision);
    const mz_precision of_out = mz_product_precision(set->out.dtype, set->out.precision);
    if (is_ffn(set) &&
        (!match(&set->gate, &set->up) || (of_gate != MZ_PRECISION_INT8 && of_gate != of_out))) {
        return mz_fail(&s->ctx->error, MZ_ERR_UNSUPPORTED,
                       "gated feed-forward: w_down has precision %s, w_gate or w_up the other one",
                       of_out == MZ_PRECISION_BF16 ? "bf16" : "f32");
    }
    return MZ_OK;
}

static size_t widest_scratch(const product_job *job, const mz_product_set *set) {
    const int64_t widest = max_i64(first_matrix(set)->d_in, set->out.d_in);
    const int64_t d_in = is_gradient(set) ? min_i64(widest, MZ_GRADIENT_ROWS) : widest;
    const mz_matrix *matrices[] = {first_matrix(set), &set->out};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        const size_t bytes = align_64(kernels_of(job, set, matrices[i])->thread_bytes(d_in));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static mz_status plan_and_run(mz_stream *s, const mz_product_set *given, int n_sets) {
    product_job job = {.isa = s->ctx->isa, .n_threads = mz_pool_n_threads(s->ctx->pool)};
    mz_product_set sets[MZ_PRODUCT_SETS];
    int64_t n_segments = 0;
    int64_t n_rounds = 0;
    for (int i = 0; i < n_sets; i++) {
        sets[i] = resolved(&given[i]);
        MZ_TRY(check_set(s, &sets[i]));
        n_rounds = max_i64(n_rounds, rounds_of(&sets[i]));
        n_segments += set_segments(&sets[i]);
        const size_t bytes = widest_scratch(&job, &sets[i]);
        job.thread_bytes = bytes > job.thread_bytes ? bytes : job.thread_bytes;
    }
    void *segments = NULL;
    void *scratch = NULL;
    MZ_TRY(mz_stream_take_bytes(s, (size_t)n_segments * sizeof *job.segments, "product segments",
                                &segments));
    job.segments = segments;
    MZ_TRY(mz_stream_take_bytes(s, job.thread_bytes * (size_t)job.n_threads, "product scratch",
                                &scratch));
    job.scratch = scratch;
    for (int64_t round = 0; round < n_rounds; round++) {
        const size_t mark = mz_arena_mark(&s->arena);
        job.n_segments = 0;
        for (int i = 0; i < n_sets; i++) {
            cut_set(&job, &sets[i], round);
        }
        assert(job.n_segments <= n_segments);
        MZ_TRY(job.n_segments > 0 ? run_segments(s, &job) : MZ_OK);
        mz_arena_release(&s->arena, mark);
    }
    return MZ_OK;
}

mz_status mz_products_run(mz_stream *s, const mz_product_set *sets, int n_sets) {
    const size_t mark = mz_arena_mark(&s->arena);
    const mz_status status = plan_and_run(s, sets, n_sets);
    mz_arena_release(&s->arena, mark);
    return status;
}

/* Bytes of 32 rows in the widest form: all of f32 precision, hidden values also before they are
 * packed. */
static size_t widest_step(const mz_product_kernels *k, const mz_product_size *size) {
    const mz_packed x = {.n_rows = MZ_SEGMENT_ROW_STEP, .width = size->d_in};
    const mz_packed hidden = {.n_rows = MZ_SEGMENT_ROW_STEP, .width = size->d_ff};
    return mz_packed_bytes(k, &x) + 2 * mz_packed_bytes(k, &hidden);
}

/* The most that a thread keeps, of all tables that this instruction set may use. */
static size_t most_thread_bytes(mz_isa isa, int64_t d_in) {
    static const struct {
        mz_dtype dtype;
        mz_precision precision;
    } users[] = {{MZ_DTYPE_F32, MZ_PRECISION_F32},
                 {MZ_DTYPE_F32, MZ_PRECISION_BF16},
                 {MZ_DTYPE_Q8_0, MZ_PRECISION_F32},
                 {MZ_DTYPE_Q8_0, MZ_PRECISION_BF16},
                 {MZ_DTYPE_Q8_0, MZ_PRECISION_INT8}};
    size_t most = 0;
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        const size_t bytes = align_64(
            mz_product_kernels_for(isa, users[i].dtype, users[i].precision)->thread_bytes(d_in));
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* A segment is full, or the only one of its expert: then at most 31 rows are padding. Its bytes are
 * at most segment_bytes or one step. Packed rows exist for all segments only while those are few
 * (run_segments). */
size_t mz_products_scratch(const mz_stream *s, const mz_product_size *sizes, int n_sets) {
    const mz_product_kernels *k =
        mz_product_kernels_for(s->ctx->isa, MZ_DTYPE_F32, MZ_PRECISION_F32);
    const size_t n_threads = (size_t)mz_pool_n_threads(s->ctx->pool);
    size_t n_segments = 0;
    size_t total = 0;
    size_t largest = 0;
    int64_t d_in = 0;
    for (int i = 0; i < n_sets; i++) {
        const size_t step = widest_step(k, &sizes[i]);
        const int64_t n = max_segments(sizes[i].n_rows, sizes[i].n_experts);
        const size_t all = (size_t)n * step;
        n_segments += (size_t)n;
        total += all;
        const size_t bound =
            k->segment_bytes > LARGEST_SEGMENT ? k->segment_bytes : LARGEST_SEGMENT;
        const size_t full = step > bound ? step : bound;
        const size_t one = full < all ? full : all;
        largest = one > largest ? one : largest;
        d_in = max_i64(d_in, max_i64(sizes[i].d_in, sizes[i].d_ff));
    }
    const size_t few = n_threads * CHUNKS_PER_THREAD * largest;
    return align_64(n_segments * sizeof(segment)) +
           n_threads * most_thread_bytes(s->ctx->isa, d_in) + (few < total ? few : total);
}
