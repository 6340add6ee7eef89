/* prompt_look.c: commands that look at the present: the stack, variables, expressions. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_look.h"

#define CHILDREN 20    /* a page of expand */
#define CHILD_TEXT 100 /* characters of one child in text, label and type included; JSON has all */
#define CO_OPTIMIZED 1 /* of functions; class bodies and modules do not have it */

struct tf_look *tf_look_state(struct tf_prompt *p, struct tf_err *err)
{
    if (!p->look)
        p->look = calloc(1, sizeof *p->look);
    if (!p->look)
        tf_err_set(err, TF_E_IO, "out of memory");
    return p->look;
}

void tf_look_free(struct tf_look *look)
{
    if (!look)
        return;
    free(look->list_file);
    free(look->expand_expr);
    free(look);
}

bool tf_look_number(const char *args, const char *usage, uint64_t min, uint64_t *out, struct tf_err *err)
{
    if (!*args || tf_number(args, min, out))
        return true;
    tf_err_set(err, TF_E_USAGE, "a number is expected instead of '%s': %s", args, usage);
    return false;
}

/* ---- the stack ---- */

static void print_entry(struct tf_prompt *p, json_t *entry, size_t number, bool marked)
{
    fprintf(p->out, "%s%s%s #%-3zu %s%s%s at %s%s:%lld%s\n", marked ? tf_colour(p, TF_GREEN) : "",
            marked ? "->" : "  ", marked ? tf_colour(p, TF_PLAIN) : "", number, tf_colour(p, TF_YELLOW),
            tf_prompt_text(entry, "function"), tf_colour(p, TF_PLAIN), tf_colour(p, TF_CYAN),
            tf_prompt_file(p, tf_prompt_text(entry, "file")),
            (long long)json_integer_value(json_object_get(entry, "line")), tf_colour(p, TF_PLAIN));
}

static int where(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t limit = UINT64_MAX;
    json_t *shown = json_array(), *entry;
    size_t i;
    if (!tf_look_number(args, "where [N]", 1, &limit, err)) {
        json_decref(shown);
        return err->code;
    }
    json_object_set_new(out, "position", tf_prompt_place_json(p));
    json_array_foreach(tf_prompt_stack(p), i, entry)
    {
        if (i >= limit)
            break;
        json_array_append(shown, entry);
    }
    json_object_set_new(out, "stack", shown);
    json_object_set_new(out, "thread", json_integer(p->thread));
    json_object_set_new(out, "selected", json_integer(p->frame));
    return 0;
}

static void print_where(struct tf_prompt *p, json_t *result)
{
    json_t *stack = json_object_get(result, "stack"), *entry;
    size_t i, depth = json_array_size(tf_prompt_stack(p));
    char name[256];
    if (!p->applies)
        tf_prompt_print_place(p, result);
    if (p->other_stack && !p->applies)
        fprintf(p->out, "The stack of %s:\n", tf_prompt_thread_text(p, p->thread, name, sizeof name));
    if (!depth)
        fprintf(p->out, "   (no Python function)\n");
    json_array_foreach(stack, i, entry) print_entry(p, entry, i, i == p->frame);
    if (depth > json_array_size(stack))
        fprintf(p->out, "   (%zu more)\n", depth - json_array_size(stack));
}

/* Selects a function of the stack and answers what it is. */
static int select_frame(struct tf_prompt *p, uint64_t number, json_t *out, struct tf_err *err)
{
    size_t depth = json_array_size(tf_prompt_stack(p));
    if (!depth)
        return tf_err_set(err, TF_E_NOTFOUND, "no Python function runs here");
    if (number >= depth)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no function #%llu: the stack has #0 to #%zu",
                          (unsigned long long)number, depth - 1);
    p->frame = (uint32_t)number;
    json_t *entry = json_copy(tf_prompt_selected(p));
    json_t *line = tf_prompt_source_line(p, tf_prompt_text(entry, "file"),
                                         json_integer_value(json_object_get(entry, "line")));
    json_object_set_new(out, "selected", json_integer((json_int_t)number));
    json_object_update(out, entry);
    json_object_set_new(out, "source", line ? line : json_null());
    json_decref(entry);
    return 0;
}

static void print_selected(struct tf_prompt *p, json_t *result)
{
    print_entry(p, result, p->frame, false);
    if (json_is_string(json_object_get(result, "source")))
        fprintf(p->out, "%5lld %s->%s %s\n", (long long)json_integer_value(json_object_get(result, "line")),
                tf_colour(p, TF_GREEN), tf_colour(p, TF_PLAIN), tf_prompt_text(result, "source"));
}

static int up(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t n = 1;
    size_t depth = json_array_size(tf_prompt_stack(p));
    if (!tf_look_number(args, "up [N]", 1, &n, err))
        return err->code;
    if (depth && p->frame == depth - 1)
        return tf_err_set(err, TF_E_NOTFOUND, "this is the outermost function");
    if (depth && n > depth - 1 - p->frame)
        n = depth - 1 - p->frame;
    return select_frame(p, p->frame + n, out, err);
}

static int down(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t n = 1;
    if (!tf_look_number(args, "down [N]", 1, &n, err))
        return err->code;
    if (p->frame == 0 && tf_prompt_selected(p))
        return tf_err_set(err, TF_E_NOTFOUND, "this is the innermost function");
    return select_frame(p, n > p->frame ? 0 : p->frame - n, out, err);
}

static int frame(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t n = p->frame;
    if (!tf_look_number(*args == '#' ? args + 1 : args, "frame [N]", 0, &n, err))
        return err->code;
    return select_frame(p, n, out, err);
}

/* ---- variables ---- */

static int names(struct tf_prompt *p, enum tf_inspect what, const char *key, json_t *out, struct tf_err *err)
{
    json_t *found = tf_answer_names(p->timeline, what, p->frame, tf_prompt_whose(p), p->timeout_ms, err);
    if (!found)
        return err->code;
    json_object_set_new(out, key, found);
    return 0;
}

static int locals(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)args;
    return names(p, TF_INSPECT_LOCALS, "locals", out, err);
}

static int args_(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)args;
    return names(p, TF_INSPECT_ARGS, "args", out, err);
}

static void print_names(struct tf_prompt *p, json_t *result)
{
    json_t *found = json_object_get(result, "locals"), *o;
    size_t i;
    bool args = !found;
    if (args)
        found = json_object_get(result, "args");
    if (!json_array_size(found))
        fprintf(p->out, args ? "(no arguments)\n" : "(no variables)\n");
    json_array_foreach(found, i, o)
    {
        fprintf(p->out, "%s%s%s = ", tf_colour(p, TF_BOLD), tf_prompt_text(o, "name"),
                tf_colour(p, TF_PLAIN));
        tf_answer_print_value(p->out, o, "repr");
        fprintf(p->out, "\n");
    }
}

/* ---- expressions ---- */

/* Puts what an evaluation gave into the answer; that it raised is the command's failure. */
static int give(json_t *value, json_t *out, struct tf_err *err)
{
    if (!value)
        return err->code;
    json_object_update(out, value);
    json_decref(value);
    const char *error = json_string_value(json_object_get(out, "error"));
    return error ? tf_err_set(err, TF_E_NOTFOUND, "%s", error) : 0;
}

static int need_expr(const char *args, const char *usage, struct tf_err *err)
{
    return *args ? 0 : tf_err_set(err, TF_E_USAGE, "an expression is needed: %s", usage);
}

static int print(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    int r = need_expr(args, "print EXPR", err);
    return r ? r : give(tf_prompt_eval(p, args, TF_INSPECT_EVAL, err), out, err);
}

static int pp(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    int r = need_expr(args, "pp EXPR", err);
    return r ? r : give(tf_prompt_eval(p, args, TF_INSPECT_PRETTY, err), out, err);
}

static void print_output(struct tf_prompt *p, json_t *result)
{
    json_t *printed = json_object_get(result, "output");
    size_t len = json_string_length(printed);
    if (len)
        fprintf(p->out, "%s%s", json_string_value(printed),
                json_string_value(printed)[len - 1] == '\n' ? "" : "\n");
}

static void print_value(struct tf_prompt *p, json_t *result)
{
    print_output(p, result);
    tf_answer_print_value(p->out, result, "value");
    fprintf(p->out, "\n");
}

/* Takes a number off the end of "EXPR N", if what is left can be the end of an expression. */
static bool cut_number(char *text, uint64_t *out)
{
    static const char *const words[] = {"and", "or", "not", "in", "is", "if", "else", "lambda", "await"};
    size_t len = strlen(text), at = len;
    while (at > 0 && isdigit((unsigned char)text[at - 1]))
        at--;
    size_t end = at;
    while (end > 0 && text[end - 1] == ' ')
        end--;
    if (at == len || end == at || end == 0)
        return false;
    unsigned char c = (unsigned char)text[end - 1];
    if (!isalnum(c) && !strchr("_)]}'\"", c) && c < 128)
        return false;
    size_t word = end;
    while (word > 0 && isalpha((unsigned char)text[word - 1]))
        word--;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == end - word && memcmp(text + word, words[i], end - word) == 0)
            return false;
    if (!tf_number(text + at, 0, out))
        return false;
    text[end] = 0;
    return true;
}

static int expand(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_look *look = tf_look_state(p, err);
    if (!look)
        return err->code;
    if (*args && !p->repeated) {
        char *expr = strdup(args);
        uint64_t numbers[2] = {0, CHILDREN};
        if (!expr)
            return tf_err_set(err, TF_E_IO, "out of memory");
        if (cut_number(expr, &numbers[0])) {
            uint64_t first;
            if (cut_number(expr, &first)) {
                numbers[1] = numbers[0];
                numbers[0] = first;
            }
        }
        if (numbers[0] > UINT32_MAX || numbers[1] > UINT32_MAX || numbers[1] == 0) {
            free(expr);
            return tf_err_set(err, TF_E_USAGE, "expand EXPR [FROM [COUNT]]: at most %u of at least 1 child",
                              UINT32_MAX);
        }
        free(look->expand_expr);
        look->expand_expr = expr;
        look->expand_next = (uint32_t)numbers[0];
        look->expand_count = (uint32_t)numbers[1];
    } else if (!look->expand_expr) {
        return need_expr("", "expand EXPR [FROM [COUNT]]", err);
    }
    struct tf_inspect_req req = {.what = TF_INSPECT_EXPAND,
                                 .frame = p->frame,
                                 .thread = tf_prompt_whose(p),
                                 .from = look->expand_next,
                                 .count = look->expand_count};
    json_t *value = tf_answer_eval(p->timeline, &req, look->expand_expr, p->timeout_ms, err);
    if (value)
        json_object_set_new(value, "from", json_integer(look->expand_next));
    int r = give(value, out, err);
    if (r == 0)
        look->expand_next += (uint32_t)json_array_size(json_object_get(out, "children"));
    return r;
}

/* So many characters of a text on one line; true if something was left out. */
static bool print_cut(FILE *out, const char *text, size_t chars)
{
    size_t n = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c & 0xc0) != 0x80 && n++ == chars) {
            fputs("...", out);
            return true;
        }
        fputc(c == '\n' || c == '\r' || c == '\t' ? ' ' : c, out);
    }
    return false;
}

static void print_children(struct tf_prompt *p, json_t *result)
{
    json_t *children = json_object_get(result, "children"), *child;
    json_int_t from = json_integer_value(json_object_get(result, "from"));
    json_int_t count = json_integer_value(json_object_get(result, "count"));
    json_int_t next = from + (json_int_t)json_array_size(children);
    const char *expr = tf_prompt_text(result, "expr"), *cut = NULL;
    size_t i;
    print_output(p, result);
    if (from == 0) {
        fprintf(p->out, "%s%s%s: %s, %lld %s\n", tf_colour(p, TF_BOLD), expr, tf_colour(p, TF_PLAIN),
                tf_prompt_text(result, "type"), (long long)count, count == 1 ? "child" : "children");
    }
    json_array_foreach(children, i, child)
    {
        const char *label = tf_prompt_text(child, "label"), *type = tf_prompt_text(child, "type");
        size_t used = strlen(label) + strlen(type) + 8;
        fprintf(p->out, "  %s%s%s  %s%s%s  ", tf_colour(p, TF_BOLD), label, tf_colour(p, TF_PLAIN),
                tf_colour(p, TF_DIM), type, tf_colour(p, TF_PLAIN));
        if (print_cut(p->out, tf_prompt_text(child, "repr"),
                      used + 40 < CHILD_TEXT ? CHILD_TEXT - used : 40) &&
            !cut && *label != '<')
            cut = label;
        fprintf(p->out, "\n");
    }
    if (from >= count && count)
        fprintf(p->out, "(that is all: %lld)\n", (long long)count);
    else if (next < count)
        fprintf(p->out, "(%lld more: 'expand' or an empty line goes on)\n", (long long)(count - next));
    if (cut)
        fprintf(p->out, "(what ends in ... is longer: 'print %s%s' shows all of it)\n", expr, cut);
}

/* ---- whatis ---- */

/* Does a module's name, of `len` bytes, belong to a file? "shop.orders": orders.py or orders/__init__.py. */
static bool is_module_of(const char *module, size_t len, const char *file)
{
    if (len == 8 && memcmp(module, "__main__", 8) == 0)
        return true;
    const char *base = strrchr(file, '/');
    size_t end = strlen(file);
    base = base ? base + 1 : file;
    if (strcmp(base, "__init__.py") == 0 && base > file + 1) {
        end = (size_t)(base - file) - 1;
        base = file + end;
        while (base > file && base[-1] != '/')
            base--;
    } else if (end > 3 && strcmp(file + end - 3, ".py") == 0) {
        end -= 3;
    }
    const char *last = module + len;
    while (last > module && last[-1] != '.')
        last--;
    size_t n = (size_t)(module + len - last);
    return (size_t)(file + end - base) == n && memcmp(base, last, n) == 0;
}

/* Where a class or function "module.Qual.Name" of the program was defined: its code object, or NULL. */
static const struct tf_code *find_definition(const struct tf_prompt *p, const char *full, bool function)
{
    for (size_t i = 1; i < p->codes.n; i++) {
        const struct tf_code *code = &p->codes.codes[i];
        size_t n = strlen(full), q = strlen(code->qualname);
        bool is_function = code->flags & CO_OPTIMIZED;
        if (is_function != function || q > n || strcmp(full + n - q, code->qualname) != 0 ||
            *code->qualname == '<')
            continue;
        /* Functions do not say their module in their repr; classes of __main__ may leave it out. */
        if (q == n || (full[n - q - 1] == '.' && is_module_of(full, n - q - 1, code->file)))
            return code;
    }
    return NULL;
}

static int whatis(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    int r = need_expr(args, "whatis EXPR", err);
    if (r)
        return r;
    json_t *value = tf_prompt_eval(p, args, TF_INSPECT_EVAL, err);
    if (!value || json_object_get(value, "error"))
        return give(value, out, err);
    const char *type = tf_prompt_text(value, "type"), *repr = tf_prompt_text(value, "value");
    const struct tf_code *code = NULL;
    char name[512] = "";
    json_object_set(out, "expr", json_object_get(value, "expr"));
    json_object_set(out, "type", json_object_get(value, "type"));
    /* Of a class or a function: which one, and where that is. */
    if (strcmp(type, "type") == 0 && sscanf(repr, "<class '%511[^']'", name) == 1)
        code = find_definition(p, name, false);
    else if ((strcmp(type, "function") == 0 && sscanf(repr, "<function %511[^ ]", name) == 1) ||
             (strcmp(type, "method") == 0 && sscanf(repr, "<bound method %511[^ ]", name) == 1))
        code = find_definition(p, name, true);
    else
        code = find_definition(p, type, false);
    if (*name)
        json_object_set_new(out, "name", tf_json_text(name, strlen(name)));
    if (code)
        json_object_set_new(out, "defined",
                            json_pack("{s:o, s:I}", "file", tf_json_text(code->file, strlen(code->file)),
                                      "line", (json_int_t)code->first_line));
    json_object_set(out, "output", json_object_get(value, "output"));
    json_decref(value);
    return 0;
}

static void print_whatis(struct tf_prompt *p, json_t *result)
{
    json_t *name = json_object_get(result, "name"), *defined = json_object_get(result, "defined");
    print_output(p, result);
    fprintf(p->out, "%s", tf_prompt_text(result, "type"));
    if (name)
        fprintf(p->out, " %s", json_string_value(name));
    if (defined)
        fprintf(p->out, ", defined at %s%s:%lld%s", tf_colour(p, TF_CYAN),
                tf_prompt_file(p, tf_prompt_text(defined, "file")),
                (long long)json_integer_value(json_object_get(defined, "line")), tf_colour(p, TF_PLAIN));
    fprintf(p->out, "\n");
}

/* ---- displays ---- */

static json_t *evaluate_display(struct tf_prompt *p, json_t *display, struct tf_err *err)
{
    json_t *o = json_pack("{s:O}", "number", json_object_get(display, "number"));
    json_t *value = tf_prompt_eval(p, tf_prompt_text(display, "expr"), TF_INSPECT_EVAL, err);
    if (value) {
        json_object_update(o, value);
        json_decref(value);
    } else {
        json_object_set(o, "expr", json_object_get(display, "expr"));
        json_object_set_new(o, "error", tf_json_text(err->msg, strlen(err->msg)));
    }
    return o;
}

json_t *tf_look_displays(struct tf_prompt *p, struct tf_err *err)
{
    json_t *all, *display;
    size_t i;
    if (!json_array_size(p->displays))
        return NULL;
    all = json_array();
    json_array_foreach(p->displays, i, display) json_array_append_new(all, evaluate_display(p, display, err));
    return all;
}

void tf_look_print_displays(struct tf_prompt *p, json_t *displays)
{
    json_t *o;
    size_t i;
    json_array_foreach(displays, i, o)
    {
        print_output(p, o);
        fprintf(p->out, "%lld: %s = ", (long long)json_integer_value(json_object_get(o, "number")),
                tf_prompt_text(o, "expr"));
        if (json_object_get(o, "error"))
            fprintf(p->out, "[%s]", tf_prompt_text(o, "error"));
        else
            tf_answer_print_value(p->out, o, "value");
        fprintf(p->out, "\n");
    }
}

static int display(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (*args) {
        json_t *o = json_pack("{s:I, s:o}", "number", (json_int_t)++p->displays_numbers, "expr",
                              tf_json_text(args, strlen(args)));
        json_array_append_new(p->displays, o);
        json_t *shown = json_array();
        json_array_append_new(shown, evaluate_display(p, o, err));
        json_object_set_new(out, "displays", shown);
        return 0;
    }
    json_t *all = tf_look_displays(p, err);
    json_object_set_new(out, "displays", all ? all : json_array());
    return 0;
}

static void print_display(struct tf_prompt *p, json_t *result)
{
    json_t *all = json_object_get(result, "displays");
    if (!json_array_size(all))
        fprintf(p->out, "(there are no displays; 'display EXPR' makes one)\n");
    tf_look_print_displays(p, all);
}

static int undisplay(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t number = 0;
    json_t *removed = json_array();
    bool all = !*args;
    if (!tf_look_number(args, "undisplay [N]", 1, &number, err)) {
        json_decref(removed);
        return err->code;
    }
    for (size_t i = json_array_size(p->displays); i-- > 0;) {
        json_t *n = json_object_get(json_array_get(p->displays, i), "number");
        if (!all && (uint64_t)json_integer_value(n) != number)
            continue;
        json_array_insert(removed, 0, n);
        json_array_remove(p->displays, i);
    }
    size_t n = json_array_size(removed);
    json_object_set_new(out, "removed", removed);
    return n || all ? 0
                    : tf_err_set(err, TF_E_NOTFOUND, "there is no display %llu: 'display' lists them",
                                 (unsigned long long)number);
}

static void print_undisplay(struct tf_prompt *p, json_t *result)
{
    if (!json_array_size(json_object_get(result, "removed")))
        fprintf(p->out, "(there were no displays)\n");
}

/* ---- */

const struct tf_command tf_commands_look[] = {
    {"where", "w bt backtrace", where, print_where, TF_COMPLETES_NOTHING, false, "where [N]",
     "Shows the functions on the stack, the innermost first.\n"
     "With N, only the N innermost. The selected one is marked: up, down and frame choose it."},
    {"up", "u", up, print_selected, TF_COMPLETES_NOTHING, true, "up [N]",
     "Selects the caller of the selected function.\n"
     "What looks (print, locals, list...) and next, finish, until are about the selected function."},
    {"down", "d", down, print_selected, TF_COMPLETES_NOTHING, true, "down [N]",
     "Selects the function that the selected one has called."},
    {"frame", "f", frame, print_selected, TF_COMPLETES_NOTHING, false, "frame [N]",
     "Selects function #N of the stack, as 'where' numbers them, or shows which one is selected."},
    {"list", "l", tf_look_list, tf_look_print_lines, TF_COMPLETES_PLACE, true,
     "list [. | LINE | LINE,LINE | FUNCTION | FILE:LINE]",
     "Shows the recorded source around the selected function's line, or around a place.\n"
     "Again, or an empty line, goes on behind; 'list .' begins again at the present line."},
    {"source", NULL, tf_look_source, tf_look_print_lines, TF_COMPLETES_PLACE, false, "source [FUNCTION]",
     "Shows the whole source of the selected function, or of another one."},
    {"locals", NULL, locals, print_names, TF_COMPLETES_NOTHING, false, "locals",
     "Shows the variables of the selected function."},
    {"args", "a", args_, print_names, TF_COMPLETES_NOTHING, false, "args",
     "Shows the parameters of the selected function, with the values they have now."},
    {"print", "p", print, print_value, TF_COMPLETES_EXPR, false, "print EXPR",
     "Evaluates an expression on the live objects, in the selected function.\n"
     "It may call functions, print, change objects: that happens in a copy of the process that is\n"
     "thrown away. Where a function returns or yields, __return__ is the value; where an exception\n"
     "leaves it, __exception__ is that."},
    {"pp", NULL, pp, print_value, TF_COMPLETES_EXPR, false, "pp EXPR",
     "As print, with the value broken into lines as by pprint."},
    {"expand", "x", expand, print_children, TF_COMPLETES_EXPR, true, "expand EXPR [FROM [COUNT]]",
     "Shows what an object holds: items, attributes, 20 at a time, or COUNT of them from number FROM on.\n"
     "Again, or an empty line, goes on. A label put behind the expression is an expression, too."},
    {"whatis", NULL, whatis, print_whatis, TF_COMPLETES_EXPR, false, "whatis EXPR",
     "Shows the type of a value, and where its class is defined if the program defines it."},
    {"display", NULL, display, print_display, TF_COMPLETES_EXPR, false, "display [EXPR]",
     "Evaluates an expression now and after each move; without EXPR: shows all of them."},
    {"undisplay", NULL, undisplay, print_undisplay, TF_COMPLETES_NOTHING, false, "undisplay [N]",
     "Ends display number N; without N: all of them."},
    {"output", "o", tf_look_output, tf_look_print_output, TF_COMPLETES_NOTHING, false, "output [N]",
     "Shows the last N (20) lines that the program had printed by now.\n"
     "What stood in its buffers had not been printed yet: Python writes to files and pipes late."},
    {"calls", NULL, tf_look_calls, tf_look_print_calls, TF_COMPLETES_NOTHING, false, "calls [N]",
     "Shows the N (5) outside calls before and after the present: clocks, files, signals.\n"
     "Each with the number of frame events before it, its arguments, result, and data."},
    {"info locals", NULL, locals, print_names, TF_COMPLETES_NOTHING, false, "info locals", "As locals."},
    {"info args", NULL, args_, print_names, TF_COMPLETES_NOTHING, false, "info args", "As args."},
    {"info frame", NULL, frame, print_selected, TF_COMPLETES_NOTHING, false, "info frame [N]", "As frame."},
    {"info source", NULL, tf_look_source, tf_look_print_lines, TF_COMPLETES_PLACE, false, "info source",
     "As source."},
    {"info display", NULL, display, print_display, TF_COMPLETES_NOTHING, false, "info display",
     "Shows the displays."},
    {0},
};
