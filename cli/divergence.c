/* divergence.c: see divergence.h. */
#include "cli/divergence.h"

#include <stdlib.h>
#include <string.h>
#include "cli/answer.h"
#include "cli/common.h"

int tf_divergence_option(int argc, char **argv, enum tf_on_divergence *on, uint64_t *calls)
{
    bool which = strcmp(argv[0], "--on-divergence") == 0;
    if (!which && strcmp(argv[0], "--divergence-calls") != 0)
        return 0;
    if (argc < 2) {
        tf_say("%s needs a value", argv[0]);
        return -1;
    }
    if (!which) {
        if (tf_number(argv[1], 0, calls) && *calls <= TF_DIVERGENCE_CALLS_MAX)
            return 2;
        tf_say("--divergence-calls %s: a number up to %u is expected", argv[1], TF_DIVERGENCE_CALLS_MAX);
        return -1;
    }
    if (strcmp(argv[1], "stop") != 0 && strcmp(argv[1], "explain") != 0) {
        tf_say("--on-divergence %s: stop or explain is expected", argv[1]);
        return -1;
    }
    *on = argv[1][0] == 's' ? TF_ON_DIVERGENCE_STOP : TF_ON_DIVERGENCE_EXPLAIN;
    return 2;
}

/* ---- the object ---- */

static void set_text(json_t *o, const char *key, const char *text)
{
    if (text)
        json_object_set_new(o, key, tf_json_text(text, strlen(text)));
}

/* "FILE:LINE in FUNCTION", or "FILE in FUNCTION". */
static json_t *place_json(const char *line, size_t len)
{
    json_t *o = json_object();
    const char *end = line + len, *in = NULL, *colon = NULL;
    for (const char *at = line; at + 4 <= end; at++) /* a file's name may have the word in it */
        if (memcmp(at, " in ", 4) == 0)
            in = at;
    if (!in)
        in = end;
    for (const char *at = line; at < in; at++)
        if (*at == ':')
            colon = at;
    char *stop = NULL;
    unsigned long number = colon ? strtoul(colon + 1, &stop, 10) : 0;
    bool numbered = colon && stop == in && stop > colon + 1;
    json_object_set_new(o, "function", in < end ? tf_json_text(in + 4, (size_t)(end - in - 4)) : json_null());
    json_object_set_new(o, "file", tf_json_text(line, (size_t)((numbered ? colon : in) - line)));
    json_object_set_new(o, "line", numbered ? json_integer((json_int_t)number) : json_null());
    return o;
}

static json_t *stack_json(const struct tf_divergence *d)
{
    json_t *stack = json_array();
    for (const char *line = d->stack; *line;) {
        size_t n = strcspn(line, "\n");
        json_array_append_new(stack, place_json(line, n));
        line += n + (line[n] == '\n');
    }
    return stack;
}

static json_t *report_json(const struct tf_divergence *d)
{
    static const char *const again[] = {"not tried", "same", "other", "equal", "failed"};
    json_t *o = json_object(), *list = json_array(), *stack = stack_json(d);
    set_text(o, "kind", tf_divergence_kind(d->kind));
    json_object_set_new(o, "frame", json_integer((json_int_t)d->frame));
    json_object_set_new(o, "outside", json_integer((json_int_t)d->outside));
    json_object_set_new(o, "searching", json_boolean(d->searching));
    json_t *where = json_array_get(stack, 0);
    json_object_set(o, "where", where ? where : json_null());
    /* Where frame events differ, the number of the first one is in the sentence. */
    if (d->kind == TF_DIVERGED_EVENT || d->kind == TF_DIVERGED_END)
        set_text(o, "text", d->text ? d->text : "");
    else
        json_object_set_new(
            o, "text",
            json_sprintf("after frame event %llu: %s", (unsigned long long)d->frame, d->text ? d->text : ""));
    if (!json_object_get(o, "text")) /* it is not UTF-8 */
        set_text(o, "text", d->text ? d->text : "");
    set_text(o, "then", d->then);
    set_text(o, "recorded", d->recorded);
    set_text(o, "did", d->did);
    for (size_t i = 0; i < d->unlike_n; i++) {
        json_t *one = json_object();
        set_text(one, "what", d->unlike[i].what);
        set_text(one, "recorded", d->unlike[i].recorded);
        set_text(one, "did", d->unlike[i].did);
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "differences", list);
    set_text(o, "note", d->note);
    list = json_array();
    for (size_t i = 0; i < d->events_n; i++) {
        json_t *one = json_object();
        json_object_set_new(one, "frame", json_integer((json_int_t)d->events[i].frame));
        set_text(one, "recorded", d->events[i].recorded);
        set_text(one, "did", d->events[i].did);
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "events", list);
    json_object_set_new(o, "stack", stack);
    json_object_set_new(o, "stack_recorded", json_boolean(d->stack_recorded));
    list = json_array();
    for (size_t i = 0; i < d->calls_n; i++) {
        json_t *one = json_object();
        json_object_set_new(one, "seq", json_integer((json_int_t)d->calls[i].seq));
        json_object_set_new(one, "frame", json_integer((json_int_t)d->calls[i].frame));
        set_text(one, "text", d->calls[i].text);
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "calls", list);
    list = json_array();
    for (size_t i = 0; i < d->causes_n; i++) {
        json_t *one = json_object();
        set_text(one, "cause", d->causes[i].what);
        set_text(one, "because", d->causes[i].basis);
        json_array_append_new(list, one);
    }
    json_object_set_new(o, "causes", d->causes_known ? list : json_null());
    if (!d->causes_known)
        json_decref(list);
    set_text(o, "second_replay", again[d->again]);
    set_text(o, "second_replay_text", d->again_text);
    if (d->again != TF_AGAIN_NOT_TRIED)
        json_object_set_new(o, "second_replays", json_integer(d->again_n));
    set_text(o, "counter", d->counter);
    return o;
}

json_t *tf_divergence_report(struct tf_timeline *t, struct tf_divergence *d, enum tf_on_divergence on)
{
    struct tf_err err = {0};
    tf_divergence_locate(t, d);
    if (on == TF_ON_DIVERGENCE_EXPLAIN && d->again == TF_AGAIN_NOT_TRIED && tf_divergence_again(t, d, &err))
        tf_say("the second replay was interrupted");
    if (tf_divergence_causes(t, d, on == TF_ON_DIVERGENCE_EXPLAIN, &err))
        tf_say("the causes cannot be looked for: %s", err.msg);
    return report_json(d);
}

/* ---- text ---- */

static const char *get(json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "?";
}

static long long number(json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void print_stack(FILE *out, json_t *report, const char *indent)
{
    json_t *one;
    size_t i;
    json_array_foreach(json_object_get(report, "stack"), i, one)
    {
        fprintf(out, "\n%s%s", indent, get(one, "file"));
        if (json_is_integer(json_object_get(one, "line")))
            fprintf(out, ":%lld", number(one, "line"));
        fprintf(out, " in %s", get(one, "function"));
    }
}

json_t *tf_divergence_text(json_t *report)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return json_null();
    fprintf(f, "%s", get(report, "text"));
    print_stack(f, report, "");
    fclose(f);
    json_t *made = text ? tf_json_text(text, len) : json_null();
    free(text);
    return made;
}

static void print_trust(FILE *out, json_t *report)
{
    char frames[32], calls[32];
    fprintf(out, "Everything is equal up to frame event %s (and %s outside events).\n",
            tf_count_text((uint64_t)number(report, "frame"), frames, sizeof frames),
            tf_count_text((uint64_t)number(report, "outside"), calls, sizeof calls));
}

static void print_causes(FILE *out, json_t *report)
{
    json_t *causes = json_object_get(report, "causes"), *one;
    const char *again = get(report, "second_replay");
    size_t i;
    if (json_array_size(causes))
        fprintf(out, "Likely causes, most likely first:\n");
    json_array_foreach(causes, i, one)
        fprintf(out, "  %zu. %s\n     (%s)\n", i + 1, get(one, "cause"), get(one, "because"));
    if (json_is_array(causes) && !json_array_size(causes))
        fprintf(out,
                "No cause is known: the interpreter, the libraries, timefork, the processor and the kernel "
                "are those of the recording, as far as it tells.\n");
    if (strcmp(again, "same") == 0)
        fprintf(
            out,
            "%lld more replay%s did the same: what differs does not seem to be left to chance. If no cause "
            "is named above, the recording\nwas changed, or this is a fault of timefork's.\n",
            number(report, "second_replays"), number(report, "second_replays") == 1 ? "" : "s");
    if (strcmp(again, "same") == 0 && json_object_get(report, "counter"))
        fprintf(out, "The program reads the processor's time stamp counter, which is not recorded: at %s.\n",
                get(report, "counter"));
    if (strcmp(again, "failed") == 0)
        fprintf(out, "A second replay could not be made: %s\n", get(report, "second_replay_text"));
}

static void print_all(FILE *out, json_t *report)
{
    json_t *one;
    size_t i;
    fprintf(out, "%s\n", get(report, "text"));
    if (json_object_get(report, "then"))
        fprintf(out, "It was noticed at the outside call behind it: %s\n", get(report, "then"));
    fprintf(out, "Kind: %s%s\n", get(report, "kind"),
            json_is_true(json_object_get(report, "searching")) ? ", in a copy that searched" : "");
    print_trust(out, report);
    if (json_object_get(report, "recorded"))
        fprintf(out, "\nThe recording has:  %s\n", get(report, "recorded"));
    if (json_object_get(report, "did"))
        fprintf(out, "%sThe program did:    %s\n", json_object_get(report, "recorded") ? "" : "\n",
                get(report, "did"));
    json_array_foreach(json_object_get(report, "differences"), i, one)
        fprintf(out, "  %s\n    recorded:  %s\n    now:       %s\n", get(one, "what"), get(one, "recorded"),
                get(one, "did"));
    if (json_object_get(report, "note"))
        fprintf(out, "  %s\n", get(report, "note"));
    if (json_array_size(json_object_get(report, "events")))
        fprintf(out, "\nFrame events:\n");
    json_array_foreach(json_object_get(report, "events"), i, one)
    {
        if (json_object_get(one, "did"))
            fprintf(out, "  #%-8lld recorded: %s\n            now:      %s\n", number(one, "frame"),
                    get(one, "recorded"), get(one, "did"));
        else
            fprintf(out, "  #%-8lld %s\n", number(one, "frame"), get(one, "recorded"));
    }
    if (json_array_size(json_object_get(report, "stack"))) {
        fprintf(out, "\nPython stack%s:",
                json_is_true(json_object_get(report, "stack_recorded")) ? " (as recorded, without lines)"
                                                                        : "");
        print_stack(out, report, "  ");
        fputc('\n', out);
    }
    if (json_array_size(json_object_get(report, "calls")))
        fprintf(out, "\nThe last outside calls before it (and the frame event after which they came):\n");
    json_array_foreach(json_object_get(report, "calls"), i, one)
        fprintf(out, "  #%-8lld %s\n", number(one, "frame"), get(one, "text"));
    fputc('\n', out);
    print_causes(out, report);
}

void tf_divergence_print(FILE *out, json_t *report, bool all)
{
    json_t *causes = json_object_get(report, "causes"), *first = json_array_get(causes, 0);
    if (all) {
        print_all(out, report);
        return;
    }
    fprintf(out, "%s", get(report, "text"));
    print_stack(out, report, "");
    fputc('\n', out);
    print_trust(out, report);
    if (first)
        fprintf(out, "Most likely cause: %s (%s)\n", get(first, "cause"), get(first, "because"));
}
