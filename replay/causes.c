/*
 * causes.c: what may have made a replay part from its recording. Only what was found to be so is named: a
 * file, the processor, the kernel or a setting that is not the recorded one, or what a second replay has
 * shown. Sources of Python are none: a replay does not read them, it executes the recorded ones.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "replay/compare.h"
#include "replay/prepare.h"
#include "replay/timeline_private.h"
#include "store/machine.h"

#define FLAGS_SHOWN 12

static void add(struct tf_divergence *d, char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void add(struct tf_divergence *d, char *what, const char *fmt, ...)
{
    char *basis;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&basis, fmt, ap) < 0)
        basis = NULL;
    va_end(ap);
    struct tf_cause *more = what && basis ? realloc(d->causes, (d->causes_n + 1) * sizeof *more) : NULL;
    if (!more) {
        free(what);
        free(basis);
        return;
    }
    d->causes = more;
    d->causes[d->causes_n++] = (struct tf_cause){what, basis};
}

/* Does it concern where memory is, or how much? */
static bool about_memory(const struct tf_divergence *d)
{
    return d->kind == TF_DIVERGED_LAYOUT || d->kind == TF_DIVERGED_KERNEL;
}

/* ---- files ---- */

static void files(struct tf_timeline *t, struct tf_divergence *d, const struct tf_mapped *mapped, size_t n,
                  bool thorough)
{
    for (size_t i = 0; i < n; i++) {
        char differs[1024];
        if (tf_prepare_own_library(mapped[i].path) || (!mapped[i].size && !mapped[i].digest) ||
            !tf_prepare_file_differs(&mapped[i], thorough, differs, sizeof differs))
            continue;
        add(d,
            tf_text("%s is not what it was when the program ran: %s",
                    strcmp(mapped[i].path, t->run->exe) == 0 ? "the interpreter" : "a library that it uses",
                    mapped[i].path),
            "%s", differs);
    }
}

/* timefork's own libraries: built again, or standing elsewhere. */
static void own_files(struct tf_divergence *d, const struct tf_mapped *mapped, size_t n)
{
    char folder[4096];
    if (tf_libdir(folder, sizeof folder, NULL))
        return;
    for (size_t i = 0; i < n; i++) {
        char path[8192], differs[1024];
        const char *base = strrchr(mapped[i].path, '/');
        if (!tf_prepare_own_library(mapped[i].path) || !base)
            continue;
        snprintf(path, sizeof path, "%s%s", folder, base);
        if (strcmp(path, mapped[i].path) != 0 && d->kind == TF_DIVERGED_LAYOUT)
            add(d,
                strdup(
                    "the recording was made by a timefork in another folder: its libraries are part of the "
                    "process"),
                "%s then, %s now", mapped[i].path, path);
        struct tf_mapped now = mapped[i];
        now.path = path;
        if (tf_prepare_file_differs(&now, true, differs, sizeof differs))
            add(d, tf_text("timefork itself has been built again since: %s", path), "%s", differs);
    }
}

/* ---- the machine ---- */

/* Words of a that are not in b, as "x, y"; how many there are. */
static size_t only_in(const char *a, const char *b, char *out, size_t size)
{
    size_t found = 0, len = 0;
    *out = 0;
    for (const char *at = a; *at;) {
        size_t n = strcspn(at, " ");
        bool there = false;
        for (const char *other = b; *other && n;) {
            size_t m = strcspn(other, " ");
            if (m == n && memcmp(at, other, n) == 0) {
                there = true;
                break;
            }
            other += m;
            other += strspn(other, " ");
        }
        if (n && !there) {
            if (found < FLAGS_SHOWN && len + n + 3 < size)
                len += (size_t)sprintf(out + len, "%s%.*s", found ? ", " : "", (int)n, at);
            found++;
        }
        at += n;
        at += strspn(at, " ");
    }
    if (found > FLAGS_SHOWN && len + 4 < size)
        strcpy(out + len, "...");
    return found;
}

/* What is known of both sides of a fact, and differs. */
static bool differs(const struct tf_fact *then, size_t then_n, const struct tf_fact *now, size_t now_n,
                    const char *key, const char **a, const char **b)
{
    *a = tf_fact(then, then_n, key);
    *b = tf_fact(now, now_n, key);
    return *a && *b && strcmp(*a, *b) != 0;
}

static void processor(struct tf_divergence *d, const struct tf_fact *then, size_t then_n,
                      const struct tf_fact *now, size_t now_n)
{
    static const char *const words[] = {"xcr0", "hwcap", "hwcap2"};
    const char *a, *b;
    char gone[512], come[512], more[256] = "";
    size_t len = 0;
    bool model = differs(then, then_n, now, now_n, "cpu model", &a, &b), other = model;
    if (model)
        len = (size_t)snprintf(more, sizeof more, "; %.100s then, %.100s now", a, b);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (differs(then, then_n, now, now_n, words[i], &a, &b) && len < sizeof more) {
            len += (size_t)snprintf(more + len, sizeof more - len, "; %s %s then, %s now", words[i], a, b);
            other = true;
        }
    bool flags = differs(then, then_n, now, now_n, "cpu flags", &a, &b);
    size_t gone_n = flags ? only_in(a, b, gone, sizeof gone) : 0;
    size_t come_n = flags ? only_in(b, a, come, sizeof come) : 0;
    if (!other && !gone_n && !come_n)
        return;
    char *what =
        strdup("the processor is another one: libraries choose versions of their functions by what it "
               "can do");
    if (gone_n || come_n)
        add(d, what, "%s%s%s%s%s%s", gone_n ? "it lacks " : "", gone_n ? gone : "",
            gone_n && come_n ? "; " : "", come_n ? "it has besides " : "", come_n ? come : "", more);
    else
        add(d, what, "%s", more + 2);
}

static void kernel(struct tf_timeline *t, struct tf_divergence *d, const struct tf_fact *then, size_t then_n,
                   const struct tf_fact *now, size_t now_n)
{
    const char *a = t->run->kernel, *b = tf_fact(now, now_n, "kernel"), *c, *e;
    char *what =
        strdup("the kernel is another one: it decides where memory is, and what it writes without being "
               "asked");
    if (a && *a && b && strcmp(a, b) != 0)
        add(d, what, "%s then, %s now", a, b);
    else if (differs(then, then_n, now, now_n, "kernel build", &c, &e))
        add(d, what, "%s, %s then, %s now", b, c, e);
    else
        free(what);
}

/* What decides whether, and where, memory can be had. */
static void settings(struct tf_timeline *t, struct tf_divergence *d, const struct tf_fact *then,
                     size_t then_n, const struct tf_fact *now, size_t now_n)
{
    static const struct {
        const char *key, *what;
    } about[] = {
        {"address space limit", "the limit on address space is another one (ulimit -v)"},
        {"data limit", "the limit on memory for data is another one (ulimit -d)"},
        {"vm/overcommit_memory", "the kernel's setting vm.overcommit_memory is another one"},
        {"vm/legacy_va_layout", "the kernel's setting vm.legacy_va_layout is another one"},
        {"vm/mmap_min_addr", "the kernel's setting vm.mmap_min_addr is another one"},
        {"vm/max_map_count", "the kernel's setting vm.max_map_count is another one"},
    };
    const char *a, *b;
    struct rlimit stack;
    for (size_t i = 0; i < sizeof about / sizeof *about; i++)
        if (differs(then, then_n, now, now_n, about[i].key, &a, &b))
            add(d, strdup(about[i].what), "%s then, %s now", a, b);
    if (t->run->stack_limit && getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_max != RLIM_INFINITY &&
        stack.rlim_max < t->run->stack_limit)
        add(d, strdup("the stack cannot be as large as it was (ulimit -H -s)"),
            "%llu bytes then, at most %llu now", (unsigned long long)t->run->stack_limit,
            (unsigned long long)stack.rlim_max);
}

/* ---- what was seen ---- */

static void second_replay(struct tf_divergence *d)
{
    if (d->searching && d->again == TF_AGAIN_EQUAL)
        add(d,
            strdup(
                "the search itself: watching leaves traces in the program (docs/limitations.md, Searching)"),
            "a replay without the search went on past this place: %s", d->again_text ? d->again_text : "");
    else if (d->again != TF_AGAIN_OTHER && d->again != TF_AGAIN_EQUAL)
        return;
    else if (d->counter)
        add(d,
            strdup("the program reads the processor's time stamp counter (rdtsc), which is not recorded "
                   "(docs/limitations.md)"),
            "it did at %s; and a second replay did not do the same: %s", d->counter,
            d->again_text ? d->again_text : "");
    else
        add(d,
            strdup("the program depends on something that is neither recorded nor fixed, and that no system "
                   "call "
                   "tells: instructions that ask the processor (rdtsc, rdrand), or memory that others write"),
            "a second replay did not do the same: %s", d->again_text ? d->again_text : "");
}

int tf_divergence_causes(struct tf_timeline *t, struct tf_divergence *d, bool thorough, struct tf_err *err)
{
    struct tf_mapped *mapped = NULL;
    struct tf_fact *then = NULL, *now = NULL;
    size_t n = 0, then_n = 0, now_n = 0;

    for (size_t i = 0; i < d->causes_n; i++) {
        free(d->causes[i].what);
        free(d->causes[i].basis);
    }
    d->causes_n = 0;
    int r = tf_store_mapped(t->store, t->run, &mapped, &n, err);
    if (r == 0)
        r = tf_store_machine(t->store, t->run, &then, &then_n, err);
    if (r == 0)
        r = tf_machine_now(&now, &now_n, err);
    if (r)
        goto out;
    files(t, d, mapped, n, thorough);
    if (about_memory(d))
        settings(t, d, then, then_n, now, now_n);
    second_replay(d);
    own_files(d, mapped, n);
    processor(d, then, then_n, now, now_n);
    kernel(t, d, then, then_n, now, now_n);
    if (d->in_structure)
        add(d,
            strdup(
                "a hole in a structure, which the program did not fill: then it is no difference that means "
                "anything (docs/limitations.md)"),
            "nothing differs but the bytes of a structure");
    d->causes_known = true;
out:
    tf_mapped_free(mapped, n);
    tf_facts_free(then, then_n);
    tf_facts_free(now, now_n);
    return r;
}
