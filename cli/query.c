/*
 * query.c: `timefork query`: what is in a recording, without replaying it. Options, the choice of functions,
 * the list of runs and the program's output are here; frame events and times have files of their own.
 */
#include "cli/query.h"
#include "cli/record.h"

#include <fnmatch.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: timefork query [FILE] [--run ID] [--process N] WHAT [OPTION...]\n"
    "\n"
    "Shows what is in a recording. FILE is the newest *.timefork in the current folder if it\n"
    "is left out; the last run in it is meant unless --run names another.\n"
    "\n"
    "WHAT is one of\n"
    "  --list-runs       the runs in the file\n"
    "  --list-processes  the processes of a run: which forked or executed which, and where\n"
    "  --list-threads    the threads of a process: who started which, and from when to when\n"
    "  --frames          frame events: calls, returns, yields, resumes, unwinds, and switches: another\n"
    "                    thread goes on\n"
    "  --stats           calls and times of each function, most own time first\n"
    "  --output          what the program printed, and at which frame\n"
    "\n"
    "options:\n"
    "  --run ID          a run by its id or the beginning of it\n"
    "  --process N       a process of the run by its number, 1 unless it is given; what a forked\n"
    "                    process shows begins with what its parent did before the fork\n"
    "  --thread N        only this thread, by its number: 0 is the main thread\n"
    "  --function NAME   only this function: 'settle', 'Exchange.settle'\n"
    "  --file GLOB       only functions of files that match, by path or name: 'shop.py', '*/api/*'\n"
    "  --event KIND      only call, return, yield, resume, unwind or switch (frames)\n"
    "  --limit N         at most N of them\n"
    "  --offset N        leave out the first N of them\n"
    "  --all             the standard library and installed packages too\n"
    "  --format FORMAT   text (the default) or json, one object a line\n"
    "  --help            this text\n";

/* ---- JSON ---- */

char *query_json_text(const char *text, size_t len)
{
    json_t *value = json_stringn(text, len);
    char *clean = NULL, *out;
    if (!value) {
        /* Each byte that begins no valid sequence is replaced: find the longest valid prefix again and again.
         */
        size_t n = 0;
        clean = malloc(len * 3 + 1);
        if (!clean)
            return NULL;
        for (size_t i = 0; i < len;) {
            unsigned char b = (unsigned char)text[i];
            size_t k = b < 0x80 ? 1 : b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
            json_t *one = i + k <= len ? json_stringn(text + i, k) : NULL;
            if (one) {
                memcpy(clean + n, text + i, k);
                n += k;
                i += k;
                json_decref(one);
            } else {
                memcpy(clean + n, "\xef\xbf\xbd", 3);
                n += 3;
                i++;
            }
        }
        value = json_stringn(clean, n);
        free(clean);
        if (!value)
            return NULL;
    }
    out = json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    return out;
}

int query_no_memory(void)
{
    tf_say("out of memory");
    return TF_EXIT_ERROR;
}

/* ---- which functions ---- */

/* Is name the qualified name, or its last components? */
static bool is_called(const char *qualname, const char *name)
{
    size_t q = strlen(qualname), n = strlen(name);
    return n <= q && strcmp(qualname + q - n, name) == 0 && (n == q || qualname[q - n - 1] == '.');
}

static bool in_file(const char *file, const char *glob)
{
    const char *slash = strrchr(file, '/');
    return fnmatch(glob, file, 0) == 0 || fnmatch(glob, slash ? slash + 1 : file, 0) == 0;
}

static const char *nearest(const struct tf_codes *codes, const char *name)
{
    const char *found = NULL;
    size_t best = strlen(name) / 2 + 1;
    for (size_t i = 1; i < codes->n; i++) {
        const char *tries[2] = {codes->codes[i].qualname, codes->codes[i].name};
        for (int k = 0; k < 2; k++) {
            /* The user's own functions win over library functions that are as near. */
            size_t d = tf_edits(name, tries[k], best);
            if (d < best || (d == best && !found && d <= strlen(name) / 2)) {
                best = d;
                found = tries[k];
            }
        }
    }
    return found;
}

/* Fills q->shown; says what is wrong if nothing is left. */
static int choose(struct query *q)
{
    struct tf_err err;
    size_t matched = 0, shown = 0;
    if (tf_store_codes(q->store, &q->run, &q->codes, &err))
        return tf_fail(&err);
    q->shown = calloc(q->codes.n / 8 + 1, 1);
    if (!q->shown)
        return query_no_memory();
    for (size_t i = 0; i < q->codes.n; i++) {
        const struct tf_code *code = &q->codes.codes[i];
        if ((q->function && !is_called(code->qualname, q->function)) ||
            (q->file && !in_file(code->file, q->file)))
            continue;
        matched += i > 0;
        if (code->library && !q->all) {
            q->hides_library = true;
            continue;
        }
        shown += i > 0;
        q->shown[i >> 3] |= (uint8_t)(1 << (i & 7));
    }
    q->narrowed = shown + 1 < q->codes.n;
    if (shown || (!q->function && !q->file))
        return TF_EXIT_OK;
    if (matched) {
        tf_say("%s%s is in the standard library or an installed package; --all shows those",
               q->function ? q->function : "everything in ", q->function ? "" : q->file);
        return TF_EXIT_ERROR;
    }
    if (q->function && q->file) {
        tf_say("no function called '%s' in a file that matches '%s' ran", q->function, q->file);
    } else if (q->function) {
        const char *near = nearest(&q->codes, q->function);
        tf_say("no function called '%s' ran%s%s%s", q->function, near ? "; did you mean '" : "",
               near ? near : "", near ? "'?" : "");
    } else {
        tf_say("no function of a file that matches '%s' ran", q->file);
    }
    return TF_EXIT_ERROR;
}

/* ---- runs ---- */

void query_exit_text(const struct tf_run *run, char *buf, size_t size)
{
    if (run->exit_signal)
        tf_signal_text(run->exit_signal, buf, size);
    else if (run->exit_status >= 0)
        snprintf(buf, size, "%d", run->exit_status);
    else
        snprintf(buf, size, "-");
}

void query_exit_json(const struct tf_run *run)
{
    if (run->exit_status >= 0 && !run->exit_signal)
        printf("\"exit_status\": %d, ", run->exit_status);
    else
        printf("\"exit_status\": null, ");
    if (run->exit_signal)
        printf("\"exit_signal\": %d, ", run->exit_signal);
    else
        printf("\"exit_signal\": null, ");
}

static int list_run_json(struct tf_store *store, const struct tf_run *run, size_t processes,
                         const uint64_t *chaos)
{
    char *texts[3] = {query_json_text(run->command, strlen(run->command)),
                      query_json_text(run->title, strlen(run->title)),
                      query_json_text(run->python_version, strlen(run->python_version))};
    int status = TF_EXIT_OK;
    if (texts[0] && texts[1] && texts[2]) {
        printf("{\"run\": \"%s\", \"state\": \"%s\", \"started_unix_ns\": %lld, \"duration_ns\": %llu, "
               "\"frames\": "
               "%llu, \"first_frame\": %llu, \"first_ns\": %llu, \"outside\": %llu, \"python\": %s, ",
               run->id, tf_state_text(store, run), (long long)run->started_unix_ns,
               (unsigned long long)run->duration_ns, (unsigned long long)run->frames,
               (unsigned long long)tf_run_first(run), (unsigned long long)run->base.ns,
               (unsigned long long)run->outside, texts[2]);
        query_exit_json(run);
        printf("\"command\": %s, \"title\": %s, \"processes\": %zu", texts[0], texts[1], processes);
        if (tf_light_text(run))
            printf(", \"light\": \"%s\"", tf_light_text(run));
        if (chaos)
            printf(", \"chaos\": %llu", (unsigned long long)*chaos);
        printf("}\n");
    } else {
        status = query_no_memory();
    }
    for (int i = 0; i < 3; i++)
        free(texts[i]);
    return status;
}

static int list_runs(struct query *q)
{
    struct tf_err err;
    struct tf_run *runs;
    size_t n;
    int status = TF_EXIT_OK;
    if (tf_store_runs(q->store, &runs, &n, &err))
        return tf_fail(&err);
    if (!n)
        tf_say("%s holds no run", tf_store_path(q->store));
    else if (!q->json)
        printf("%-32s  %-10s  %-19s  %12s  %12s  %-8s  %-9s  %s\n", "ID", "STATE", "STARTED", "FRAMES",
               "SECONDS", "PYTHON", "EXIT", "COMMAND");
    for (size_t i = 0; i < n && !status; i++) {
        const struct tf_run *run = &runs[i];
        if (i < q->offset || i - q->offset >= q->limit)
            continue;
        struct tf_run *processes;
        size_t n_processes;
        if (tf_store_processes(q->store, run, &processes, &n_processes, &err)) {
            status = tf_fail(&err);
            break;
        }
        tf_runs_free(processes, n_processes);
        uint64_t seed;
        bool chaos = tf_chaos_of(q->store, run, &seed);
        if (q->json) {
            status = list_run_json(q->store, run, n_processes, chaos ? &seed : NULL);
            continue;
        }
        char when[32], how[32];
        query_exit_text(run, how, sizeof how);
        printf("%-32s  %-10s  %-19s  %12llu  %12.6f  %-8s  %-9s  ", run->id, tf_state_text(q->store, run),
               tf_time_text(run->started_unix_ns, when, sizeof when), (unsigned long long)run->frames,
               (double)run->duration_ns / 1e9, run->python_version, how);
        tf_print_name(stdout, run->command);
        if (n_processes > 1)
            printf("  (%zu processes)", n_processes);
        if (chaos)
            printf("  (--chaos %llu)", (unsigned long long)seed);
        if (tf_light_text(run))
            printf("  (light, %s)", tf_light_text(run));
        if (tf_run_has_base(run))
            printf("  (from frame %llu on)", (unsigned long long)tf_run_first(run));
        putchar('\n');
    }
    tf_runs_free(runs, n);
    return status;
}

/* ---- output ---- */

struct printing {
    const struct query *q;
    uint64_t seen, printed;
    int open_fd; /* text: whose line has been begun and not ended, or 0 */
};

/* tf_store_each_output() calls this for each write; 1 ends it. */
static int print_output(void *ctx, const struct tf_output *output)
{
    struct printing *p = ctx;
    if (p->q->one_thread && output->thread != p->q->thread)
        return 0;
    if (p->seen++ < p->q->offset)
        return 0;
    if (p->printed++ >= p->q->limit)
        return 1;
    if (p->q->json) {
        char *text = query_json_text(output->data, output->len);
        if (!text)
            return 1 + query_no_memory();
        printf("{\"frame\": %llu, \"fd\": %d, \"thread\": %u, \"text\": %s}\n",
               (unsigned long long)output->frame, output->fd, output->thread, text);
        free(text);
        return 0;
    }
    /* A line that was written in pieces is one line here, with the frame of its first piece. */
    const char *at = output->data, *end = at + output->len;
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        const char *stop = nl ? nl : end;
        if (p->open_fd && p->open_fd != output->fd) {
            putchar('\n');
            p->open_fd = 0;
        }
        if (!p->open_fd)
            printf("[frame %llu %s] ", (unsigned long long)output->frame,
                   output->fd == 1 ? "stdout" : "stderr");
        fwrite(at, 1, (size_t)(stop - at), stdout);
        p->open_fd = nl ? 0 : output->fd;
        if (nl)
            putchar('\n');
        at = nl ? nl + 1 : end;
    }
    return 0;
}

static int show_output(struct query *q)
{
    struct tf_err err;
    struct printing p = {.q = q};
    int rc = tf_store_each_output(q->store, &q->run, print_output, &p, &err);
    if (p.open_fd)
        putchar('\n');
    if (rc < 0)
        return tf_fail(&err);
    if (!p.seen && !q->json)
        tf_say(q->one_thread ? "this thread printed nothing" : "the program printed nothing");
    return rc > 1 ? TF_EXIT_ERROR : TF_EXIT_OK;
}

/* ---- options ---- */

enum {
    LIST_RUNS = 256,
    LIST_PROCESSES,
    LIST_THREADS,
    FRAMES,
    STATS,
    OUTPUT,
    RUN,
    PROCESS,
    THREAD,
    FUNCTION,
    FILE_,
    EVENT,
    LIMIT,
    OFFSET,
    ALL,
    FORMAT,
    HELP
};
static const struct option options[] = {
    {"list-runs", no_argument, NULL, LIST_RUNS},
    {"list-processes", no_argument, NULL, LIST_PROCESSES},
    {"list-threads", no_argument, NULL, LIST_THREADS},
    {"frames", no_argument, NULL, FRAMES},
    {"stats", no_argument, NULL, STATS},
    {"output", no_argument, NULL, OUTPUT},
    {"run", required_argument, NULL, RUN},
    {"process", required_argument, NULL, PROCESS},
    {"thread", required_argument, NULL, THREAD},
    {"function", required_argument, NULL, FUNCTION},
    {"file", required_argument, NULL, FILE_},
    {"event", required_argument, NULL, EVENT},
    {"limit", required_argument, NULL, LIMIT},
    {"offset", required_argument, NULL, OFFSET},
    {"all", no_argument, NULL, ALL},
    {"format", required_argument, NULL, FORMAT},
    {"help", no_argument, NULL, HELP},
    {0},
};

static int run_query(struct query *q, int what, const char *file, const char *run, uint64_t process)
{
    char path[4096];
    struct tf_err err;
    int status;
    if (tf_find_recording(file, path, sizeof path, &err))
        return tf_fail(&err);
    if (tf_store_open(path, &q->store, &err))
        return tf_fail(&err);
    if (what == LIST_RUNS) {
        status = list_runs(q);
    } else if (tf_find_process(q->store, run, process, &q->run, &err)) {
        status = tf_fail(&err);
    } else if (what == LIST_PROCESSES) {
        status = query_processes(q);
    } else if (what == LIST_THREADS) {
        status = query_threads(q);
    } else if (q->one_thread && (status = query_find_thread(q))) {
        /* it has said so */
    } else if (what == OUTPUT) {
        status = show_output(q);
    } else {
        status = choose(q);
        if (!status)
            status = what == FRAMES ? query_frames(q) : query_stats(q);
    }
    if (!status && !q->json && tf_run_has_base(&q->run) && what != LIST_THREADS)
        tf_say("the oldest part of the run was dropped: it begins at frame event %llu, after %.3f s",
               (unsigned long long)tf_run_first(&q->run), (double)q->run.base.ns / 1e9);
    tf_codes_free(&q->codes);
    free(q->shown);
    tf_run_clear(&q->run);
    tf_store_close(q->store);
    return tf_finish_output(status);
}

int tf_cmd_query(int argc, char **argv)
{
    struct query q = {.event = -1, .limit = UINT64_MAX};
    const char *run = NULL, *file = NULL;
    uint64_t process = 0, thread;
    int what = 0;
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (o) {
        case LIST_RUNS:
        case LIST_PROCESSES:
        case LIST_THREADS:
        case FRAMES:
        case STATS:
        case OUTPUT:
            if (what && what != o)
                return tf_usage("query",
                                "--list-runs, --list-processes, --list-threads, --frames, --stats and "
                                "--output exclude each other");
            what = o;
            break;
        case RUN:
            run = optarg;
            break;
        case PROCESS:
            if (!tf_number(optarg, 1, &process))
                return tf_usage("query", "--process takes the number of a process, not '%s'", optarg);
            break;
        case THREAD:
            if (!tf_number(optarg, 0, &thread))
                return tf_usage("query", "--thread takes the number of a thread, not '%s'", optarg);
            q.one_thread = true;
            q.thread = thread < UINT32_MAX ? (uint32_t)thread : UINT32_MAX; /* no thread has that number */
            break;
        case FUNCTION:
            q.function = optarg;
            break;
        case FILE_:
            q.file = optarg;
            break;
        case EVENT:
            q.event = -1;
            for (int i = 0; i < 8; i++)
                if (tf_tag_names[i] && strcmp(optarg, tf_tag_names[i]) == 0)
                    q.event = i;
            if (q.event < 0)
                return tf_usage("query", "--event is call, return, yield, resume, unwind or switch, not '%s'",
                                optarg);
            break;
        case LIMIT:
            if (!tf_number(optarg, 1, &q.limit))
                return tf_usage("query", "--limit takes a number of at least 1, not '%s'", optarg);
            break;
        case OFFSET:
            if (!tf_number(optarg, 0, &q.offset))
                return tf_usage("query", "--offset takes a number of at least 0, not '%s'", optarg);
            break;
        case ALL:
            q.all = true;
            break;
        case FORMAT:
            if (strcmp(optarg, "json") && strcmp(optarg, "text"))
                return tf_usage("query", "--format is text or json, not '%s'", optarg);
            q.json = *optarg == 'j';
            break;
        case HELP:
            fputs(help, stdout);
            return tf_finish_output(TF_EXIT_OK);
        case ':':
            return tf_usage("query", "%s needs a value", argv[optind - 1]);
        default:
            return tf_usage("query", "there is no option '%s'", argv[optind - 1]);
        }
    }
    if (optind < argc)
        file = argv[optind++];
    if (optind < argc)
        return tf_usage("query", "one file at a time: '%s' is too many", argv[optind]);
    if (!what)
        return tf_usage(
            "query",
            "say what: --list-runs, --list-processes, --list-threads, --frames, --stats or --output");
    if ((q.function || q.file || q.all) && what != FRAMES && what != STATS)
        return tf_usage("query", "%s applies to --frames and --stats only",
                        q.function ? "--function"
                        : q.file   ? "--file"
                                   : "--all");
    if (q.event >= 0 && what != FRAMES)
        return tf_usage("query", "--event applies to --frames only");
    if (run && what == LIST_RUNS)
        return tf_usage("query", "--run does not apply to --list-runs");
    if (process && (what == LIST_RUNS || what == LIST_PROCESSES))
        return tf_usage("query", "--process applies to --list-threads, --frames, --stats and --output only");
    if (q.one_thread && what != FRAMES && what != STATS && what != OUTPUT)
        return tf_usage("query", "--thread applies to --frames, --stats and --output only");
    return run_query(&q, what, file, run, process);
}
