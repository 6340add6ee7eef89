/*
 * record.c: the commands that run a program under the recorder (recorder.c): their options, what is started
 * and how, and the line at the end.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/keep.h"
#include "cli/probe.h"
#include "cli/record.h"
#include "cli/recorder.h"
#include "store/images.h"

extern char **environ;

static const char usage_text[] =
    "usage: timefork record [OPTIONS] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS...]\n"
    "\n"
    "Runs a Python program and records it. Its arguments, input, output and exit status are as without "
    "timefork.\n"
    "\n"
    "  -o FILE          the recording (default: ./<script>.timefork); further runs are added to it\n"
    "  --python EXE     the interpreter (default: python3)\n"
    "  --env NAME=VALUE set a variable for the program; may be repeated\n"
    "  --follow         record the Pythons that the program executes, too (forked children are always "
    "recorded)\n"
    "  --wait           record children until the last has ended, not only until the program has\n"
    "  --checkpoints criu|fork|none|auto  what a replay can start from later: criu puts durable checkpoints "
    "into the\n"
    "                   recording (timefork doctor says whether that works here), fork leaves some in "
    "memory\n"
    "                   (with --keep), none leaves none; auto (the default) is criu where it works and does\n"
    "                   not take much of the disk\n" TF_CHECKPOINT_OPTIONS
    "  --keep [TIME]    leave the run's checkpoints in the background for so long (90s, 10m, 2h; default "
    "10m), for\n"
    "                   'timefork replay' to start from; 'timefork sessions' lists and ends "
    "them\n" TF_BOUND_OPTIONS
    "  --chaos [SEED]   switch threads far more often, and at places chosen by chance: what goes wrong in\n"
    "                   one run of thousands goes wrong soon (timefork race). The seed is a number; without "
    "one,\n"
    "                   it is chosen and told. It makes the chances the same, not the run\n"
    "  --light          record what comes from outside only, and no frame events: that costs less "
    "where\n"
    "                   the program computes. They are derived when the recording is first looked at, which\n"
    "                   takes as long as the program ran. No threads, no forked children, no checkpoints\n"
    "  --quiet          no line of summary at the end\n"
    "\n"
    "Exit status: the program's own, 128 + n if signal n ended it; 125 if it could not be recorded and was "
    "not run; 2 for a mistake\n"
    "in the command line.\n";

/* ---- the command line ---- */

void tf_record_opts_clear(struct tf_record_opts *opts)
{
    free(opts->argv);
    free(opts->env);
    free(opts->title);
    free(opts->command_line);
    *opts = (struct tf_record_opts){0};
}

static int bad(const char *fmt, const char *arg)
{
    fprintf(stderr, "timefork: ");
    fprintf(stderr, fmt, arg);
    fprintf(stderr, "\n");
    return TF_EXIT_USAGE;
}

/* A script has to be there before the recording is begun; Python itself judges what is in it. */
static int check_script(const char *script)
{
    struct stat st;
    char main_file[PATH_MAX];
    if (strcmp(script, "-") == 0)
        return 0;
    if (stat(script, &st) < 0) {
        fprintf(stderr, "timefork: %s: %s\n", script, strerror(errno));
        return TF_EXIT_USAGE;
    }
    if (S_ISDIR(st.st_mode)) {
        snprintf(main_file, sizeof main_file, "%s/__main__.py", script);
        if (access(main_file, R_OK) < 0)
            return bad("%s is a folder without __main__.py: name a script in it", script);
    } else if (access(script, R_OK) < 0) {
        fprintf(stderr, "timefork: %s: %s\n", script, strerror(errno));
        return TF_EXIT_USAGE;
    }
    return 0;
}

static char *stem(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base && base[1] ? base + 1 : path;
    size_t n = strlen(base);
    while (n > 1 && base[n - 1] == '/')
        n--;
    if (n > 3 && memcmp(base + n - 3, ".py", 3) == 0)
        n -= 3;
    return strndup(base, n);
}

static char *join_words(char *const *words, const char *first)
{
    size_t n = strlen(first) + 1;
    for (char *const *w = words; *w; w++)
        n += strlen(*w) + 3;
    char *text = malloc(n);
    if (!text)
        return NULL;
    char *at = stpcpy(text, first);
    for (char *const *w = words; *w; w++)
        at += sprintf(at, strpbrk(*w, " \t\n") || !**w ? "%s'%s'" : "%s%s", at == text ? "" : " ", *w);
    return text;
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0)
        words++;
    return *words;
}

/*
 * `timefork debug SCRIPT ARGS... --goto-frame N ...`: from the first of own->tail on, what follows the
 * program is meant for timefork, unless -- stands in front of it. Returns where the program's arguments end,
 * or -1 after a message.
 */
static int take_tail(int from, int argc, char **argv, const struct tf_own_options *own)
{
    int end = from;
    while (end < argc && !is_one_of(argv[end], own->tail)) {
        if (strcmp(argv[end], "--") == 0)
            return argc;
        end++;
    }
    for (int i = end; i < argc;) {
        int n = own->take(own->ctx, argc - i, argv + i);
        if (n < 0)
            return -1;
        if (n == 0) {
            fprintf(
                stderr,
                "timefork: %s after %s is no option of timefork's there: the program's own arguments come "
                "before %s, or behind -- ('timefork %s --help')\n",
                argv[i], argv[end], argv[end], own->command);
            return -1;
        }
        i += n;
    }
    if (end < argc)
        argv[end] = NULL;
    return end;
}

bool tf_chaos_parse(const char *text, uint64_t *seed)
{
    return tf_number(text, 0, seed) && *seed < TF_CHAOS_SEEDS;
}

int tf_chaos_random(uint64_t *seed, struct tf_err *err)
{
    if (getrandom(seed, sizeof *seed, 0) != sizeof *seed)
        return tf_err_set(err, TF_E_IO, "no random numbers for a seed: %s", strerror(errno));
    *seed >>= 11;
    return 0;
}

/* --chaos, --chaos=SEED, --chaos SEED. Returns how many arguments it took, 0: it is none of these, -1 after a
 * message. */
static int take_chaos(struct tf_record_opts *opts, int left, char **argv)
{
    const char *given = NULL;
    int n = 1;
    if (strncmp(argv[0], "--chaos=", 8) == 0) {
        given = argv[0] + 8;
    } else if (strcmp(argv[0], "--chaos") == 0) {
        if (left > 2 && argv[1][0] && strspn(argv[1], "0123456789") == strlen(argv[1])) {
            given = argv[1]; /* not when nothing would be left to be run: then it is a script's name */
            n = 2;
        }
    } else {
        return 0;
    }
    opts->chaos = true;
    if (given) {
        if (!tf_chaos_parse(given, &opts->seed)) {
            bad("--chaos %s: a seed is a number from 0 to 9223372036854775807", given);
            return -1;
        }
        return n;
    }
    struct tf_err err;
    if (tf_chaos_random(&opts->seed, &err)) {
        bad("%s", err.msg);
        return -1;
    }
    return n;
}

/* --keep, --keep=DURATION, --keep DURATION; as take_chaos(). */
static int take_keep(struct tf_record_opts *opts, int left, char **argv)
{
    if (strncmp(argv[0], "--keep=", 7) == 0) {
        if (!tf_duration_parse(argv[0] + 7, &opts->keep_ms)) {
            bad("--keep %s: a time as 90s, 10m, 2h is expected, at most 30d", argv[0] + 7);
            return -1;
        }
        opts->keep = true;
        return 1;
    }
    if (strcmp(argv[0], "--keep") != 0)
        return 0;
    opts->keep = true;
    opts->keep_ms = TF_KEEP_DEFAULT_MS;
    /* Not when nothing would be left to be run: then it is a script's name. */
    return left > 2 && tf_duration_parse(argv[1], &opts->keep_ms) ? 2 : 1;
}

/* --checkpoints criu|fork|none|auto */
static int take_checkpoints(struct tf_record_opts *opts, int left, char **argv)
{
    const char *value = NULL;
    if (strncmp(argv[0], "--checkpoints=", 14) == 0)
        value = argv[0] + 14;
    else if (strcmp(argv[0], "--checkpoints") == 0)
        value = left > 1 ? argv[1] : "";
    else
        return 0;
    opts->checkpoints_given = true;
    opts->durable = TF_DURABLE_NONE;
    opts->fork = strcmp(value, "fork") == 0;
    if (strcmp(value, "criu") == 0)
        opts->durable = TF_DURABLE_CRIU;
    else if (strcmp(value, "auto") == 0)
        opts->durable = TF_DURABLE_AUTO;
    else if (strcmp(value, "none") != 0 && !opts->fork) {
        bad("--checkpoints is criu, fork, none or auto, not '%s'", value);
        return -1;
    }
    return argv[0][13] == '=' ? 1 : 2;
}

int tf_record_parse(struct tf_record_opts *opts, int argc, char **argv, const struct tf_own_options *own,
                    const char *usage)
{
    int i = 1, status;
    *opts = (struct tf_record_opts){.python = "python3", .checkpoints = tf_checkpoint_opts_default()};
    opts->env = calloc((size_t)argc + 1, sizeof *opts->env);
    opts->argv = calloc((size_t)argc + 4, sizeof *opts->argv);
    if (!opts->env || !opts->argv)
        return bad("out of memory%s", "");
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *a = argv[i];
        bool last = i + 1 >= argc;
        int took = own ? own->take(own->ctx, argc - i, argv + i) : 0;
        if (took == 0)
            took = take_chaos(opts, argc - i, argv + i);
        if (took == 0 && !own)
            took = take_keep(opts, argc - i, argv + i);
        if (took == 0 && !own)
            took = tf_bound_option(argc - i, argv + i, &opts->bound, &opts->keep_runs);
        if (took == 0 && !own)
            took = take_checkpoints(opts, argc - i, argv + i);
        if (took == 0)
            took = tf_checkpoint_option(argc - i, argv + i, &opts->checkpoints);
        if (took < 0)
            return TF_EXIT_USAGE;
        if (took > 0) {
            i += took - 1;
            continue;
        }
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            return -1;
        }
        if (strcmp(a, "--quiet") == 0 || strcmp(a, "-q") == 0) {
            opts->quiet = true;
            continue;
        }
        if (strcmp(a, "--light") == 0 && !own) {
            opts->light = true;
            continue;
        }
        if (strcmp(a, "--follow") == 0) {
            opts->follow = true;
            continue;
        }
        if (strcmp(a, "--wait") == 0) {
            opts->wait = true;
            continue;
        }
        if (strcmp(a, "-m") == 0 || strcmp(a, "-c") == 0 || strcmp(a, "--") == 0)
            break;
        if (strcmp(a, "-o") && strcmp(a, "--output") && strcmp(a, "--python") && strcmp(a, "--env"))
            return bad("record knows no option %s ('timefork record --help' lists them)", a);
        if (last)
            return bad("%s needs a value", a);
        const char *value = argv[++i];
        if (strcmp(a, "--python") == 0) {
            opts->python = value;
            opts->python_given = true;
        } else if (strcmp(a, "--env") == 0) {
            if (!strchr(value, '=') || *value == '=')
                return bad("--env %s: NAME=VALUE is expected", value);
            opts->env[opts->env_n++] = (char *)value;
        } else {
            opts->output = value;
        }
    }
    if (i >= argc)
        return bad("what shall be run? SCRIPT, -m MODULE, -c CODE or -- COMMAND%s ('timefork record --help')",
                   "");
    int n = 0;
    if (strcmp(argv[i], "--") == 0) {
        if (++i >= argc)
            return bad("-- needs a COMMAND%s", "");
        opts->command = true;
        opts->title = stem(argv[i]);
    } else {
        opts->argv[n++] = (char *)opts->python;
        if (strcmp(argv[i], "-m") == 0 || strcmp(argv[i], "-c") == 0) {
            if (i + 1 >= argc)
                return bad("%s needs a value", argv[i]);
            opts->title = strdup(argv[i][1] == 'm' ? argv[i + 1] : "command");
            if (argv[i][1] == 'c')
                opts->source_text = argv[i + 1];
        } else {
            if ((status = check_script(argv[i])))
                return status;
            opts->title = strcmp(argv[i], "-") == 0 ? strdup("stdin") : stem(argv[i]);
        }
        if (own) {
            int program = i + (argv[i][0] == '-' && argv[i][1] ? 2 : 1);
            if ((argc = take_tail(program, argc, argv, own)) < 0)
                return TF_EXIT_USAGE;
        }
    }
    for (int k = i; k < argc; k++)
        opts->argv[n++] = argv[k];
    opts->command_line = join_words(argv + i, opts->command ? "" : "");
    if (!opts->title || !opts->command_line)
        return bad("out of memory%s", "");
    return 0;
}

/* ---- running ---- */

void tf_record_path(const struct tf_record_opts *opts, char *path, size_t size)
{
    if (opts->output)
        snprintf(path, size, "%s", opts->output);
    else
        snprintf(path, size, "./%s.timefork", opts->title);
}

static char **program_env(const struct tf_record_opts *opts)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **env = calloc(n + opts->env_n + 1, sizeof *env);
    for (size_t i = 0; env && i < n; i++) {
        bool replaced = false;
        size_t name = strcspn(environ[i], "=");
        for (size_t j = 0; j < opts->env_n; j++)
            replaced |= strncmp(environ[i], opts->env[j], name + 1) == 0;
        if (!replaced)
            env[k++] = environ[i];
    }
    for (size_t j = 0; env && j < opts->env_n; j++) {
        bool again = false;
        for (size_t l = j + 1; l < opts->env_n; l++)
            again |= strncmp(opts->env[j], opts->env[l], strcspn(opts->env[j], "=") + 1) == 0;
        if (!again) /* the last one counts */
            env[k++] = opts->env[j];
    }
    return env;
}

/* The recording is made: what cannot be removed is said, and no reason to fail. */
static void evict(struct tf_store *store, uint64_t keep, struct tf_record_result *result)
{
    struct tf_err err;
    if (tf_evict_keep(store, keep, &result->evicted, &result->evicted_bytes, &err))
        tf_say("older runs were not removed (--keep-runs): %s", err.msg);
}

int tf_record_run(const struct tf_record_opts *opts, struct tf_record_result *result, struct tf_err *err)
{
    struct tf_store *store = NULL;
    struct tf_recorder *recorder = NULL;
    char libdir[PATH_MAX], preload[PATH_MAX + 64];
    const char *session;
    char **base = NULL, **env = NULL;
    int wait_status = 0, persona = personality(0xffffffff), r;
    pid_t pid;

    *result = (struct tf_record_result){.shared = {.ctl_fd = -1, .log_fd = -1}};
    tf_record_path(opts, result->path, sizeof result->path);
    if (tf_bound_limited(&opts->bound) && (r = tf_bound_check(err)))
        return r;
    base = program_env(opts);
    if (!base)
        return tf_err_set(err, TF_E_IO, "out of memory");
    if ((r = tf_libdir(libdir, sizeof libdir, err)))
        goto out;
    snprintf(preload, sizeof preload, "%s/libtimefork-preload.so", libdir);
    /* While the interpreter shows what it is, the file is made; if it is of no use, it is removed again. */
    struct tf_probing probing;
    struct tf_err store_err = {0};
    if (!opts->command && (r = tf_probe_begin(&probing, opts->python, base, libdir, err)))
        goto out;
    int store_r = tf_store_create(result->path, &store, &store_err);
    if (!opts->command && (r = tf_probe_end(&probing, NULL, err)))
        goto out;
    if ((r = store_r)) {
        *err = store_err;
        goto out;
    }
    tf_checkpoints_init(&result->checkpoints, &opts->checkpoints.cost.limits);
    /* For a timeline that takes the checkpoints over here; what is kept, or durable, gets the reader's own.
     */
    if (opts->snapshots && !opts->keep && (r = tf_shared_create(&result->shared, err)))
        goto out;
    struct tf_launch launch = {
        .file = opts->argv[0],
        .argv = opts->argv,
        .first_fd = tf_launch_first_fd(),
        .stack_limit = tf_launch_stack(),
        .muted = opts->muted,
    };
    struct tf_recorder_opts recording = {
        .store = store,
        .command = opts->command_line,
        .title = opts->title,
        .source_text = opts->source_text,
        .light = opts->light,
        .follow = opts->follow,
        .wait = opts->wait,
        .snapshots = opts->snapshots,
        .durable = opts->durable,
        .bound = opts->bound,
        .checkpoints = opts->checkpoints.cost,
        .chaos = opts->chaos ? opts->seed << 1 | 1 : 0,
        .timeout_ms = opts->timeout_ms,
        .ends_together = opts->ends_together,
        .was_fixed = persona >= 0 && (persona & ADDR_NO_RANDOMIZE),
    };
    if ((r = tf_recorder_new(&recording, &launch, &session, &recorder, err)))
        goto out;
    if (!(env = tf_env_make(base, session, preload, err))) {
        r = err->code;
        goto out;
    }
    launch.envp = env;
    if ((r = tf_launch(&launch, &pid, err)))
        goto out;
    tf_recorder_run(recorder, pid, &wait_status, result);
    result->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    result->status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
    r = 0;
    if (!result->run.id[0]) {
        const struct tf_shm *shm = tf_recorder_header(recorder);
        if (shm && (shm->attach == TF_ATTACH_NO_ENGINE || shm->attach == TF_ATTACH_ERROR))
            r = tf_probe_explain(shm, opts->argv[0], libdir, err);
        else if (shm && shm->attach == TF_ATTACH_OK)
            fprintf(stderr, "timefork: nothing was recorded\n"); /* and it was said why */
        else
            fprintf(stderr, "timefork: nothing was recorded: %s started no Python that timefork can record\n",
                    opts->argv[0]);
    }
    if (opts->keep_runs && result->run.id[0])
        evict(store, opts->keep_runs, result);
out:
    tf_recorder_free(recorder);
    tf_env_free(env);
    free(base);
    tf_store_close(store);
    if (r)
        tf_shared_destroy(&result->shared);
    return r;
}

bool tf_chaos_of(struct tf_store *store, const struct tf_run *run, uint64_t *seed)
{
    struct tf_mark_row *marks;
    size_t n;
    bool found = false;
    if (tf_store_marks(store, run, &marks, &n, NULL))
        return false;
    for (size_t i = 0; i < n && !found; i++)
        found = marks[i].kind == TF_MARK_NOTE &&
                strncmp(marks[i].text, TF_CHAOS_NOTE, strlen(TF_CHAOS_NOTE)) == 0 &&
                tf_chaos_parse(marks[i].text + strlen(TF_CHAOS_NOTE), seed);
    tf_marks_free(marks, n);
    return found;
}

/* Where a replay of the process cannot go on, if there is such a place. */
static void say_barrier(struct tf_store *store, const struct tf_run *process, bool several)
{
    struct tf_mark_row *marks;
    size_t n;
    if (tf_store_marks(store, process, &marks, &n, NULL))
        return;
    for (size_t i = 0; i < n; i++)
        if (marks[i].kind == TF_MARK_BARRIER || marks[i].kind == TF_MARK_LOOP) {
            /* A child that was forked behind it is not recorded: so it is this process's own. */
            char who[32] = "";
            if (process->light == TF_LIGHT_ONLY) {
                fprintf(stderr, "timefork: replay will stop at this place: %s\n", marks[i].text);
                break;
            }
            if (several)
                snprintf(who, sizeof who, " of process %u", process->process);
            fprintf(stderr, "timefork: replay%s will be exact up to frame event %llu, and stop there: %s\n",
                    who, (unsigned long long)marks[i].frame, marks[i].text);
            break;
        }
    tf_marks_free(marks, n);
}

/* The line at the end. */
void tf_record_summary(const struct tf_record_result *result)
{
    const struct tf_run *run = &result->run;
    struct tf_run *processes = NULL;
    struct tf_store *store = NULL;
    struct stat st;
    size_t n = 0;
    uint64_t frames = run->frames, outside = run->outside;
    char size[32] = "?", frames_text[32], outside_text[32], several[48] = "", ended[64], kept[96] = "",
         evicted[64] = "", durable[64] = "", first[32], events[64];
    if (stat(result->path, &st) == 0)
        tf_bytes_text((uint64_t)st.st_size, size, sizeof size);
    if (tf_store_open(result->path, &store, NULL) == 0)
        tf_store_processes(store, run, &processes, &n, NULL);
    for (size_t i = 1; i < n; i++) {
        frames += processes[i].frames;
        outside += processes[i].outside;
        if (processes[i].origin == TF_FORKED) { /* its totals have its parent's past in them */
            frames -= processes[i].fork_frame;
            outside -= processes[i].fork_outside;
        }
    }
    if (n > 1)
        snprintf(several, sizeof several, ", %zu processes", n);
    if (tf_run_has_base(run))
        snprintf(kept, sizeof kept, " (kept from frame event %s on, the last %.2f s)",
                 tf_count_text(tf_run_first(run), first, sizeof first),
                 (double)(run->duration_ns - run->base.ns) / 1e9);
    struct tf_image *images = NULL;
    size_t images_n = 0;
    if (store && tf_images_list(store, run, &images, &images_n, NULL) == 0 && images_n)
        snprintf(durable, sizeof durable, ", %zu durable checkpoint%s", images_n, images_n == 1 ? "" : "s");
    tf_images_free(images, images_n);
    if (run->light == TF_LIGHT_ONLY)
        snprintf(events, sizeof events, "light (frame events are derived later)");
    else
        snprintf(events, sizeof events, "%s frame events",
                 tf_count_text(frames, frames_text, sizeof frames_text));
    if (result->evicted)
        snprintf(evicted, sizeof evicted, ", %zu older run%s removed", result->evicted,
                 result->evicted == 1 ? "" : "s");
    fprintf(stderr, "timefork: %s: run %.8s%s, %s, %s outside calls, %.2f s%s, file %s%s%s%s%s%s\n",
            result->path, run->id, several, events, tf_count_text(outside, outside_text, sizeof outside_text),
            (double)run->duration_ns / 1e9, kept, size, durable, evicted,
            run->state == TF_RUN_COMPLETE ? "" : " (incomplete)", run->exit_signal ? ", ended by " : "",
            run->exit_signal ? tf_signal_text(run->exit_signal, ended, sizeof ended) : "");
    uint64_t seed;
    if (store && tf_chaos_of(store, run, &seed))
        fprintf(stderr, "timefork: " TF_CHAOS_NOTE "%llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < n; i++)
        say_barrier(store, &processes[i], n > 1);
    tf_runs_free(processes, n);
    tf_store_close(store);
}

/* Which checkpoints the options ask for, and whether they go together. */
static int choose_checkpoints(struct tf_record_opts *opts)
{
    bool bounded = tf_bound_limited(&opts->bound);
    if (opts->light) {
        const char *with =
            opts->keep     ? "--keep"
            : bounded      ? "--max-size and --last"
            : opts->follow ? "--follow"
            : opts->chaos  ? "--chaos"
            : opts->checkpoints_given && opts->durable != TF_DURABLE_NONE && opts->durable != TF_DURABLE_AUTO
                ? "--checkpoints criu"
                : NULL;
        if (with)
            return bad("--light records one process without checkpoints and threads: it cannot be with %s",
                       with);
        opts->checkpoints_given = true;
        opts->durable = TF_DURABLE_NONE;
    }
    opts->snapshots = opts->keep;
    if (opts->keep && opts->checkpoints_given && opts->durable == TF_DURABLE_NONE && !opts->fork)
        return bad("--checkpoints none leaves no checkpoints, --keep some: one of the two%s", "");
    if (opts->fork && !opts->keep)
        return bad("--checkpoints fork leaves checkpoints in memory: say for how long with --keep%s", "");
    if (bounded && opts->checkpoints_given && opts->durable != TF_DURABLE_CRIU &&
        opts->durable != TF_DURABLE_AUTO)
        return bad("--max-size and --last need durable checkpoints: --checkpoints criu%s", "");
    if (bounded && (opts->follow || opts->command))
        return bad(
            "--max-size and --last are for the first process, which timefork starts itself: they cannot be "
            "with %s",
            opts->follow ? "--follow" : "-- COMMAND");
    if (opts->durable == TF_DURABLE_CRIU && opts->follow)
        return bad(
            "--checkpoints criu is for the first process, which timefork starts itself: it cannot be with "
            "--follow%s",
            "");
    if (!opts->checkpoints_given)
        opts->durable = opts->keep ? TF_DURABLE_NONE : TF_DURABLE_AUTO;
    if (opts->follow)
        opts->durable = TF_DURABLE_NONE;
    if (bounded)
        opts->durable = TF_DURABLE_CRIU;
    return 0;
}

int tf_cmd_record(int argc, char **argv)
{
    struct tf_record_opts opts;
    struct tf_record_result result;
    struct tf_staying staying;
    struct tf_err err = {0};
    int status = tf_record_parse(&opts, argc, argv, NULL, usage_text);
    if (!status && opts.keep && opts.follow)
        status = bad("--keep keeps checkpoints of the first process only: it cannot be with --follow%s", "");
    if (status) {
        tf_record_opts_clear(&opts);
        return status < 0 ? 0 : status;
    }
    if ((status = choose_checkpoints(&opts))) {
        tf_record_opts_clear(&opts);
        return status;
    }
    if (opts.keep && tf_stay_begin(&staying, &err)) {
        tf_record_opts_clear(&opts);
        tf_say("%s", err.msg);
        return TF_EXIT_NO_RECORD;
    }
    if (tf_record_run(&opts, &result, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = TF_EXIT_NO_RECORD;
    } else {
        status = result.status;
        if (result.run.id[0] && !opts.quiet)
            tf_record_summary(&result);
        if (!opts.keep)
            tf_run_clear(&result.run);
    }
    if (opts.keep)
        tf_stay_end(&staying, &opts, &result, status);
    tf_record_opts_clear(&opts);
    return status;
}
