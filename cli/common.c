/* common.c: see common.h. */
#include "cli/common.h"
#include "cli/complete.h"
#include "replay/timeline.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static void say(const char *prefix, const char *fmt, va_list ap)
{
    fflush(stdout);
    fprintf(stderr, "timefork: %s", prefix);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

void tf_say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
}

void tf_say_notice(const char *text)
{
    tf_say("%s", text);
}

int tf_fail(const struct tf_err *err)
{
    tf_say("%s", err->msg);
    return err->code == TF_E_USAGE        ? TF_EXIT_USAGE
           : err->code == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED
                                          : TF_EXIT_ERROR;
}

int tf_usage(const char *command, const char *fmt, ...)
{
    char prefix[64];
    va_list ap;
    va_start(ap, fmt);
    snprintf(prefix, sizeof prefix, "%s: ", command);
    say(prefix, fmt, ap);
    va_end(ap);
    tf_say("see 'timefork %s --help'", command);
    return TF_EXIT_USAGE;
}

int tf_find_recording(const char *given, char *out, size_t size, struct tf_err *err)
{
    if (given) {
        if (snprintf(out, size, "%s", given) >= (int)size)
            return tf_err_set(err, TF_E_USAGE, "the file name is too long");
        return 0;
    }
    DIR *dir = opendir(".");
    if (!dir)
        return tf_err_set(err, TF_E_IO, "reading the current folder: %s", strerror(errno));
    static const char suffix[] = ".timefork";
    struct timespec newest = {0};
    bool found = false;
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        struct stat st;
        if (n < sizeof suffix || strcmp(e->d_name + n - (sizeof suffix - 1), suffix) != 0 || n >= size ||
            stat(e->d_name, &st) || !S_ISREG(st.st_mode))
            continue;
        bool newer = st.st_mtim.tv_sec > newest.tv_sec ||
                     (st.st_mtim.tv_sec == newest.tv_sec && st.st_mtim.tv_nsec > newest.tv_nsec);
        if (found && !newer)
            continue;
        newest = st.st_mtim;
        strcpy(out, e->d_name);
        found = true;
    }
    closedir(dir);
    if (!found)
        return tf_err_set(
            err, TF_E_NOTFOUND,
            "there is no recording (*.timefork) in the current folder; name one, or make one with"
            " 'timefork record SCRIPT'");
    return 0;
}

int tf_find_process(struct tf_store *store, const char *id, uint64_t process, struct tf_run *out,
                    struct tf_err *err)
{
    struct tf_run first;
    int rc = tf_store_find_run(store, id, &first, err);
    if (!rc && (rc = tf_complete(store, &first, err)))
        tf_run_clear(&first);
    if (rc || !process) {
        *out = rc ? (struct tf_run){0} : first;
        return rc;
    }
    /* No process has the highest number that there is. */
    rc = tf_store_find_process(store, first.id, process < UINT32_MAX ? (uint32_t)process : UINT32_MAX, out,
                               err);
    tf_run_clear(&first);
    return rc;
}

bool tf_number(const char *text, uint64_t min, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == 0 && *out >= min;
}

int tf_finish_output(int status)
{
    if (fflush(stdout) || ferror(stdout)) {
        /* Who piped us into head(1) has read enough. */
        if (errno == EPIPE)
            return status;
        tf_say("writing the output: %s", strerror(errno));
        return TF_EXIT_ERROR;
    }
    return status;
}

size_t tf_edits(const char *a, const char *b, size_t most)
{
    size_t row[129], la = strlen(a), lb = strlen(b);
    if (la > 128 || lb > 128 || la > lb + most || lb > la + most)
        return most + 1;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[lb];
}

const char *tf_state_text(struct tf_store *store, const struct tf_run *run)
{
    return run->state == TF_RUN_COMPLETE      ? "complete"
           : tf_store_is_recorded(store, run) ? "recording"
                                              : "incomplete";
}

const char *tf_light_text(const struct tf_run *run)
{
    return run->light == TF_LIGHT_ONLY ? "pending" : run->light == TF_LIGHT_COMPLETED ? "completed" : NULL;
}

const char *tf_bytes_text(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int unit = 0;
    for (; v >= 1000 && unit < 4; unit++)
        v /= 1000;
    snprintf(buf, size, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return buf;
}

const char *tf_time_text(int64_t unix_ns, char *buf, size_t size)
{
    time_t t = (time_t)(unix_ns / 1000000000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(buf, size, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(buf, size, "?");
    return buf;
}

void tf_print_name(FILE *f, const char *name)
{
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        fputc(*p < 32 || *p == 127 ? '?' : *p, f);
}

int tf_check_filter(const struct tf_timeline *t, bool required, struct tf_err *err)
{
    const char *why = tf_timeline_unfiltered(t);
    if (!why)
        return 0;
    if (required)
        return tf_err_set(
            err, TF_E_REPLAY,
            "the kernel does not let the replaying processes filter their system calls (%s), and "
            "--require-filter was given",
            why);
    tf_say(
        "warning: the kernel does not let the replaying processes filter their system calls (%s). They are "
        "trapped all the same, but there is no second guard behind that ('timefork doctor', "
        "--require-filter)",
        why);
    return 0;
}

const char *tf_signal_text(int sig, char *buf, size_t size)
{
    const char *name = sigabbrev_np(sig);
    if (name)
        snprintf(buf, size, "signal %d (SIG%s)", sig, name);
    else
        snprintf(buf, size, "signal %d", sig);
    return buf;
}

const char *tf_count_text(uint64_t n, char *buf, size_t size)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t k = 0;
    for (int i = 0; i < len && k + 2 < size; i++) {
        if (i && (len - i) % 3 == 0)
            buf[k++] = ',';
        buf[k++] = digits[i];
    }
    buf[k] = 0;
    return buf;
}
