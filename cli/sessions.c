/* sessions.c: `timefork sessions`: the checkpoints that `record --keep` has left in the background. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "checkpoint/keep.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/keep.h"

static const char help[] =
    "usage: timefork sessions [--end RUN]... [--all] [--format text|json]\n"
    "\n"
    "Lists the checkpoints that 'timefork record --keep' has left in the background, for 'timefork replay'\n"
    "to start from, or ends them. The recordings stay, and can be replayed as ever.\n"
    "\n"
    "options:\n"
    "  --end RUN     end those of a run, by its id or its beginning; may be repeated\n"
    "  --all         end all of them\n"
    "  --format F    text, or json: one object for each run\n"
    "  --help        this text\n"
    "\n"
    "They also end by themselves: when their time is over (unless a replay uses them: then, when that "
    "ends),\n"
    "when they take too much memory, when the recording is removed or replaced, and with the user's "
    "session,\n"
    "where the system removes its folder ($XDG_RUNTIME_DIR).\n";

static json_int_t number(const json_t *state, const char *key)
{
    return json_integer_value(json_object_get(state, key));
}

static const char *text_of(const json_t *state, const char *key)
{
    const char *text = json_string_value(json_object_get(state, key));
    return text ? text : "";
}

static void print_json(const struct tf_kept_session *s, bool ended)
{
    json_t *o = json_object(), *state = s->state, *frames = json_array(), *c;
    size_t i;
    json_object_set_new(o, "run", json_string(s->run));
    json_object_set_new(o, "pid", json_integer(s->pid));
    json_object_set_new(o, "answers", json_boolean(state != NULL));
    if (state) {
        json_array_foreach(json_object_get(state, "checkpoints"), i, c)
            json_array_append(frames, json_object_get(c, "frame"));
        json_object_set(o, "file", json_object_get(state, "file"));
        json_object_set(o, "title", json_object_get(state, "title"));
        json_object_set(o, "checkpoints", frames);
        json_object_set(o, "memory", json_object_get(state, "memory"));
        json_object_set(o, "age_ms", json_object_get(state, "age_ms"));
        json_object_set(o, "left_ms", json_object_get(state, "left_ms"));
        json_object_set(o, "used_by", json_object_get(state, "used_by"));
    }
    json_object_set_new(o, "usable", json_boolean(!*s->unfit));
    if (*s->unfit)
        json_object_set_new(o, "reason", tf_json_text(s->unfit, strlen(s->unfit)));
    if (ended)
        json_object_set_new(o, "ended", json_true());
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(frames);
    json_decref(o);
}

static void print_text(const struct tf_kept_session *s)
{
    char memory[32], age[32], left[32], users[64] = "";
    json_t *state = s->state, *used_by = json_object_get(state, "used_by");
    if (!state) {
        printf("%.8s  pid %d: %s\n", s->run, (int)s->pid, s->unfit);
        return;
    }
    if (json_array_size(used_by) == 1)
        snprintf(users, sizeof users, ", used by pid %lld",
                 (long long)json_integer_value(json_array_get(used_by, 0)));
    else if (json_array_size(used_by))
        snprintf(users, sizeof users, ", used by %zu replays", json_array_size(used_by));
    size_t n = json_array_size(json_object_get(state, "checkpoints"));
    printf("%.8s  %3zu checkpoint%s  %9s  pid %-7d  for %s, %s left%s  ", s->run, n, n == 1 ? " " : "s",
           tf_bytes_text((uint64_t)number(state, "memory"), memory, sizeof memory), (int)s->pid,
           tf_duration_text(number(state, "age_ms"), age, sizeof age),
           tf_duration_text(number(state, "left_ms"), left, sizeof left), users);
    tf_print_name(stdout, text_of(state, "file"));
    putchar('\n');
    if (*s->unfit)
        printf("          'timefork replay' does not use them: %s\n", s->unfit);
}

static int list(const struct tf_kept_session *v, size_t n, bool json)
{
    for (size_t i = 0; i < n; i++)
        if (json)
            print_json(&v[i], false);
        else
            print_text(&v[i]);
    if (!n && !json)
        printf("no checkpoints are kept; 'timefork record --keep' leaves some\n");
    return TF_EXIT_OK;
}

static int end_one(const struct tf_kept_session *s, bool json)
{
    struct tf_err err;
    if (tf_keep_end(s, &err))
        return tf_fail(&err);
    if (json)
        print_json(s, true);
    else
        printf("ended: the checkpoints of run %.8s\n", s->run);
    return TF_EXIT_OK;
}

/* Those whose run begins like that; one has to be meant. */
static int end_named(const struct tf_kept_session *v, size_t n, const char *id, bool json)
{
    const struct tf_kept_session *found = NULL;
    size_t many = 0;
    for (size_t i = 0; i < n; i++)
        if (*id && strncmp(v[i].run, id, strlen(id)) == 0) {
            found = &v[i];
            many++;
        }
    if (many == 1)
        return end_one(found, json);
    if (many)
        tf_say("--end %s: there are %zu such runs; more of the id is needed ('timefork sessions' lists them)",
               id, many);
    else
        tf_say("--end %s: nothing is kept of such a run ('timefork sessions' lists what is)", id);
    return TF_EXIT_ERROR;
}

int tf_cmd_sessions(int argc, char **argv)
{
    static const struct option options[] = {
        {"end", required_argument, NULL, 'e'},
        {"all", no_argument, NULL, 'a'},
        {"format", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char **ends = calloc((size_t)argc + 1, sizeof *ends);
    struct tf_kept_session *v = NULL;
    size_t n = 0, ends_n = 0;
    bool all = false, json = false;
    struct tf_err err;
    int status = TF_EXIT_OK;
    if (!ends)
        return TF_EXIT_ERROR;
    optind = 0;
    opterr = 0;
    for (int o; status == TF_EXIT_OK && (o = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (o) {
        case 'e':
            ends[ends_n++] = optarg;
            break;
        case 'a':
            all = true;
            break;
        case 'f':
            if (strcmp(optarg, "json") && strcmp(optarg, "text"))
                status = tf_usage("sessions", "--format %s: text or json is expected", optarg);
            json = *optarg == 'j';
            break;
        case 'h':
            fputs(help, stdout);
            free(ends);
            return tf_finish_output(TF_EXIT_OK);
        case ':':
            status = tf_usage("sessions", "%s needs a value", argv[optind - 1]);
            break;
        default:
            status = tf_usage("sessions", "there is no option '%s'", argv[optind - 1]);
        }
    }
    if (!status && optind < argc)
        status = tf_usage("sessions", "what is '%s'? Runs to end are named with --end", argv[optind]);
    if (!status && tf_keep_list(&v, &n, &err))
        status = tf_fail(&err);
    else if (!status && !all && !ends_n)
        status = list(v, n, json);
    for (size_t i = 0; all && i < n; i++)
        status |= end_one(&v[i], json);
    for (size_t i = 0; !status && !all && i < ends_n; i++)
        status = end_named(v, n, ends[i], json);
    if (!status && all && !n && !json)
        printf("no checkpoints are kept\n");
    tf_keep_list_free(v, n);
    free(ends);
    return tf_finish_output(status);
}
