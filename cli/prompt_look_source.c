/* prompt_look_source.c: the commands list and source: the recorded text of the program. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_look.h"

#define LIST_LINES 11

/* A source file, cut into lines. */
struct source {
    char *text;
    const char **lines; /* lines[0] is line 1 */
    size_t *lens;
    long long n;
    bool changed;
};

static void source_clear(struct source *s)
{
    free(s->text);
    free(s->lines);
    free(s->lens);
    *s = (struct source){0};
}

static int source_open(struct tf_prompt *p, const char *file, struct source *s, struct tf_err *err)
{
    size_t len, room = 1;
    *s = (struct source){0};
    int r = tf_store_source(p->store, p->run, file, &s->text, &len, err);
    if (r == TF_E_NOTFOUND)
        return tf_err_set(err, r, "the recording holds no source of %s", tf_prompt_file(p, file));
    if (r)
        return r;
    for (size_t i = 0; i < len; i++)
        room += s->text[i] == '\n' || s->text[i] == '\r';
    s->lines = malloc(room * sizeof *s->lines);
    s->lens = malloc(room * sizeof *s->lens);
    if (!s->lines || !s->lens) {
        source_clear(s);
        return tf_err_set(err, TF_E_IO, "out of memory");
    }
    for (size_t at = 0; at < len;) {
        size_t n = 0;
        while (at + n < len && s->text[at + n] != '\n' && s->text[at + n] != '\r')
            n++;
        s->lines[s->n] = s->text + at;
        s->lens[s->n++] = n;
        at += n;
        at += at + 1 < len && s->text[at] == '\r' && s->text[at + 1] == '\n' ? 2 : 1;
    }
    s->changed = file[0] != '<' && tf_source_changed(file, p->run->cwd ? p->run->cwd : "", s->text, len);
    return 0;
}

/* Adds lines first..last to the answer. */
static void add_lines(struct tf_prompt *p, const char *file, const struct source *s, long long first,
                      long long last, json_t *out)
{
    json_t *lines = json_array(), *selected = tf_prompt_selected(p);
    json_object_set_new(out, "file", tf_json_text(file, strlen(file)));
    json_object_set_new(out, "first", json_integer(first));
    for (long long i = first; i <= last; i++)
        json_array_append_new(lines, tf_json_text(s->lines[i - 1], s->lens[i - 1]));
    json_object_set_new(out, "lines", lines);
    bool here = selected && strcmp(tf_prompt_text(selected, "file"), file) == 0;
    json_object_set(out, "line", here ? json_object_get(selected, "line") : json_null());
    json_object_set_new(out, "changed", json_boolean(s->changed));
}

void tf_look_print_lines(struct tf_prompt *p, json_t *result)
{
    json_int_t first = json_integer_value(json_object_get(result, "first"));
    json_t *at = json_object_get(result, "line"), *line;
    const char *file = tf_prompt_text(result, "file");
    size_t i;
    if (!json_is_integer(at) || json_object_get(result, "function"))
        fprintf(p->out, "%s%s:%lld%s\n", tf_colour(p, TF_CYAN), tf_prompt_file(p, file), (long long)first,
                tf_colour(p, TF_PLAIN));
    if (json_is_true(json_object_get(result, "changed")))
        fprintf(p->out, "(%s has changed since the recording; this is the recorded source)\n",
                tf_prompt_file(p, file));
    json_array_foreach(json_object_get(result, "lines"), i, line)
    {
        json_int_t number = first + (json_int_t)i;
        bool here = json_is_integer(at) && json_integer_value(at) == number;
        if (!here && !json_string_length(line))
            fprintf(p->out, "%5lld\n", (long long)number);
        else
            fprintf(p->out, "%5lld %s%s%s %s\n", (long long)number, here ? tf_colour(p, TF_GREEN) : "",
                    here ? "->" : "  ", here ? tf_colour(p, TF_PLAIN) : "", json_string_value(line));
    }
}

/* LINE or LINE,LINE; last 0: not given. */
static bool parse_range(const char *args, long long *first, long long *last)
{
    char *end;
    if (!isdigit((unsigned char)*args))
        return false;
    *first = strtoll(args, &end, 10);
    *last = 0;
    end += strspn(end, " ");
    if (*end == 0)
        return true;
    if (*end++ != ',')
        return false;
    end += strspn(end, " ");
    if (!isdigit((unsigned char)*end))
        return false;
    *last = strtoll(end, &end, 10);
    return *end == 0;
}

/* The file and line that a place names: of a function where it begins. */
static int find_place(struct tf_prompt *p, const char *text, char **file, long long *line, struct tf_err *err)
{
    struct tf_place_spec spec = {0};
    int r = tf_place_resolve(p, text, &spec, err);
    if (r)
        return r;
    if (!spec.codes_n || spec.codes[0] >= p->codes.n) {
        tf_place_spec_clear(&spec);
        return tf_err_set(err, TF_E_NOTFOUND, "there is no place '%s'", text);
    }
    const struct tf_code *code = &p->codes.codes[spec.codes[0]];
    *file = strdup(code->file);
    *line = spec.line ? spec.line : code->first_line;
    tf_place_spec_clear(&spec);
    return *file ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
}

int tf_look_list(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_look *look = tf_look_state(p, err);
    json_t *selected = tf_prompt_selected(p);
    long long first = 0, last = 0, around = 0;
    char *file = NULL;
    struct source s;
    int r = 0;
    if (!look)
        return err->code;
    bool same_place = look->list_file && look->list_at.frame == p->here.position.frame &&
                      look->list_at.lines == p->here.position.lines && look->list_frame == p->frame &&
                      look->list_thread == p->thread;
    if (same_place && (p->repeated || !*args)) {
        file = strdup(look->list_file);
        first = look->list_next;
    } else if (!*args || strcmp(args, ".") == 0 || isdigit((unsigned char)*args)) {
        if (!selected)
            return tf_err_set(err, TF_E_NOTFOUND, "no Python function runs here: there is no source to list");
        file = strdup(tf_prompt_text(selected, "file"));
        if (!isdigit((unsigned char)*args))
            around = json_integer_value(json_object_get(selected, "line"));
        else if (!parse_range(args, &first, &last))
            r = tf_err_set(err, TF_E_USAGE, "list %s: LINE, LINE,LINE or FUNCTION is expected", args);
        else if (!last)
            around = first;
    } else {
        r = find_place(p, args, &file, &around, err);
    }
    if (r || !file || (r = source_open(p, file, &s, err))) {
        free(file);
        return r ? r : tf_err_set(err, TF_E_IO, "out of memory");
    }
    if (around)
        first = around > LIST_LINES / 2 ? around - LIST_LINES / 2 : 1;
    if (first < 1)
        first = 1;
    if (!last)
        last = first + LIST_LINES - 1;
    if (last > s.n)
        last = s.n;
    if (first > s.n || (around && around > s.n)) {
        r = tf_err_set(err, TF_E_NOTFOUND, "%s has %lld lines", tf_prompt_file(p, file), s.n);
    } else if (first > last) {
        r = tf_err_set(err, TF_E_USAGE, "list %s: the last line is before the first", args);
    } else {
        add_lines(p, file, &s, first, last, out);
        free(look->list_file);
        look->list_file = file;
        file = NULL;
        look->list_next = last + 1;
        look->list_at = p->here.position;
        look->list_frame = p->frame;
        look->list_thread = p->thread;
    }
    source_clear(&s);
    free(file);
    return r;
}

/* ---- the whole of a function ---- */

static size_t indent_of(const struct source *s, long long line)
{
    size_t i = 0;
    while (i < s->lens[line - 1] && (s->lines[line - 1][i] == ' ' || s->lines[line - 1][i] == '\t'))
        i++;
    return i;
}

static bool begins(const struct source *s, long long line, size_t indent, const char *text)
{
    size_t n = strlen(text);
    return s->lens[line - 1] >= indent + n && memcmp(s->lines[line - 1] + indent, text, n) == 0;
}

/*
 * Where a function that begins at a line ends, judged by indentation: the recording knows where functions
 * begin only. A lambda or comprehension is the line that it begins in.
 */
static long long last_line(const struct source *s, long long first)
{
    size_t indent = indent_of(s, first);
    long long last = first;
    bool headed = false; /* behind the decorators */
    for (long long i = first; i <= s->n; i++) {
        size_t here = indent_of(s, i);
        bool empty = here == s->lens[i - 1];
        bool head =
            begins(s, i, here, "def ") || begins(s, i, here, "async def ") || begins(s, i, here, "class ");
        if (!headed) {
            if (head && here == indent)
                headed = true;
            else if (i == first && !begins(s, i, here, "@"))
                return first;
            last = i;
            continue;
        }
        if (empty)
            continue;
        /* The end of a signature that takes several lines may stand as far left as its beginning. */
        if (here < indent || (here == indent && !strchr(")]}#", s->lines[i - 1][here])))
            break;
        if (here > indent || s->lines[i - 1][here] != '#')
            last = i;
    }
    return last;
}

int tf_look_source(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    json_t *selected = tf_prompt_selected(p);
    const char *function = NULL;
    long long first = 0, line;
    char *file = NULL;
    struct source s;
    int r;
    if (*args) {
        if ((r = find_place(p, args, &file, &first, err)))
            return r;
        function = args;
    } else {
        if (!selected)
            return tf_err_set(err, TF_E_NOTFOUND, "no Python function runs here: there is no source to show");
        function = tf_prompt_text(selected, "function");
        file = strdup(tf_prompt_text(selected, "file"));
        line = json_integer_value(json_object_get(selected, "line"));
        /* Of several functions with the same name, the one that this line is in began last before it. */
        for (size_t i = 1; file && i < p->codes.n; i++) {
            const struct tf_code *code = &p->codes.codes[i];
            if (strcmp(code->qualname, function) == 0 && strcmp(code->file, file) == 0 &&
                code->first_line <= line && code->first_line > first)
                first = code->first_line;
        }
    }
    if (!file)
        return tf_err_set(err, TF_E_IO, "out of memory");
    if ((r = source_open(p, file, &s, err)) == 0) {
        if (first < 1)
            first = 1;
        if (first > s.n)
            r = tf_err_set(err, TF_E_NOTFOUND, "%s has %lld lines", tf_prompt_file(p, file), s.n);
        else
            add_lines(p, file, &s, first,
                      strcmp(function, "<module>") == 0 && !*args ? s.n : last_line(&s, first), out);
        json_object_set_new(out, "function", tf_json_text(function, strlen(function)));
        source_clear(&s);
    }
    free(file);
    return r;
}
