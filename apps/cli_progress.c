#include <string.h>
#include <unistd.h>

#include "apps/cli.h"
#include "core/profile.h"

enum { BAR = 30, AROUND_BAR = 50 };

static const double WORTH_SHOWING_S = 2; /* shorter work shows nothing */
static const double FIRST_LOOK_S = 0.3;  /* an estimate made earlier is noise */
static const double INTERVAL_S = 0.1;

void mz_progress_init(mz_progress *p, const char *what, int64_t n_total, bool quiet) {
    *p = (mz_progress){.what = what, .n_total = n_total, .start_s = mz_now_s()};
    p->enabled = !quiet && n_total > 0 && isatty(STDERR_FILENO) == 1;
}

void mz_progress_update(mz_progress *p, int64_t n_done) {
    mz_progress_update_part(p, n_done, 0);
}

void mz_progress_update_part(mz_progress *p, int64_t n_done, double part) {
    const double share =
        ((double)(n_done - p->n_before) + part) / (double)(p->n_total - p->n_before);
    const double now = mz_now_s();
    const double passed = now - p->start_s;
    if (!p->enabled || !(share > 0) || passed < FIRST_LOOK_S || now - p->last_s < INTERVAL_S) {
        return;
    }
    const double total = passed / share;
    if (!p->shown && total < WORTH_SHOWING_S) {
        return;
    }
    /* A line that wraps would scroll with each update: the bar shrinks, then the line is cut. */
    const int columns = mz_cli_terminal_width(stderr);
    const int room = columns < BAR + AROUND_BAR ? columns - AROUND_BAR : BAR;
    const int width = room > 0 ? room : 0;
    const int filled = (int)(((double)n_done + part) / (double)p->n_total * width);
    const double left = total - passed > 0 ? total - passed : 0;
    char bar[BAR + 1];
    char line[512];
    memset(bar, '-', BAR);
    memset(bar, '#', (size_t)(filled < width ? filled : width));
    bar[width] = '\0';
    (void)snprintf(line, sizeof line, "%s [%s] %lld/%lld, %d:%02d left%s%s", p->what, bar,
                   (long long)n_done, (long long)p->n_total, (int)(left / 60), (int)left % 60,
                   p->note != NULL ? ", " : "", p->note != NULL ? p->note : "");
    (void)fprintf(stderr, "\r%.*s\033[K", columns > 1 ? columns - 1 : 1, line);
    p->last_s = now;
    p->shown = true;
}

void mz_progress_finish(mz_progress *p) {
    if (p->shown) {
        (void)fputs("\r\033[K", stderr);
        p->shown = false;
    }
}
