/*
 * prompt_places.c: from what a user writes ("orders.py:25", "Orders.settle") to code objects of the run.
 *
 * A recording knows the functions that were called, with the line at which each begins, and the text of the
 * sources. Which lines a function has is known to the code objects only, in the replaying process: for a line
 * all functions of its file that begin before it are candidates, and a search arms those that have it.
 */
#include <stdlib.h>
#include <string.h>
#include "cli/prompt.h"
#include "cli/prompt_parse.h"

#define NEAR_MAX 3   /* names that are suggested */
#define LISTED_MAX 8 /* files that are listed when a name is ambiguous */

void tf_place_spec_clear(struct tf_place_spec *spec)
{
    free(spec->codes);
    free(spec->text);
    *spec = (struct tf_place_spec){0};
}

static const char *base_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

/* ---- a choice of code objects ---- */

struct chosen {
    bool *is; /* by code id */
    size_t n;
};

static int chosen_new(struct chosen *c, const struct tf_codes *codes, struct tf_err *err)
{
    c->n = 0;
    c->is = calloc(codes->n ? codes->n : 1, sizeof *c->is);
    return c->is ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
}

typedef enum tf_fit fit_fn(const struct tf_code *code, const char *name);

/* Narrows the choice (all: to begin with) to the codes that fit best: those that fit wholly if there are any;
 * the program's own before the libraries'. */
static void narrow(struct chosen *c, const struct tf_codes *codes, fit_fn *fit, const char *name, bool all)
{
    int best = 0;
    for (int pass = 0; pass < 2; pass++) {
        c->n = 0;
        for (size_t i = 1; i < codes->n; i++) {
            if (!all && !c->is[i])
                continue;
            enum tf_fit f = fit(&codes->codes[i], name);
            int rank = f == TF_FIT_NONE ? 0 : (f == TF_FIT_WHOLE ? 2 : 1) + (codes->codes[i].library ? 0 : 2);
            if (rank > best)
                best = rank;
            if (pass) {
                c->is[i] = rank && rank == best;
                c->n += c->is[i];
            }
        }
    }
}

static enum tf_fit fits_file(const struct tf_code *code, const char *name)
{
    return tf_file_fits(code->file, name);
}

static enum tf_fit fits_function(const struct tf_code *code, const char *name)
{
    return tf_function_fits(code->qualname, name);
}

/* The one file of the chosen codes. TF_E_USAGE with a list when there are several. */
static int only_file(const struct chosen *c, const struct tf_codes *codes, const char *text,
                     const char **file, struct tf_err *err)
{
    const char *files[LISTED_MAX] = {NULL};
    size_t n = 0;
    bool more = false;
    for (size_t i = 1; i < codes->n; i++) {
        size_t k = 0;
        if (!c->is[i])
            continue;
        while (k < n && strcmp(files[k], codes->codes[i].file) != 0)
            k++;
        if (k < n)
            continue;
        if (n < LISTED_MAX)
            files[n++] = codes->codes[i].file;
        else
            more = true;
    }
    *file = files[0];
    if (n == 1)
        return 0;
    char list[700] = "";
    for (size_t k = 0; k < n; k++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", files[k]);
    }
    return tf_err_set(err, TF_E_USAGE, "'%s' is in several files, name one as FILE:%s: %s%s", text,
                      strrchr(text, ':') ? strrchr(text, ':') + 1 : text, list, more ? ", ..." : "");
}

static int take(struct tf_place_spec *spec, const struct chosen *c, const struct tf_codes *codes,
                struct tf_err *err)
{
    spec->codes = malloc((c->n ? c->n : 1) * sizeof *spec->codes);
    if (!spec->codes)
        return tf_err_set(err, TF_E_IO, "out of memory");
    for (size_t i = 1; i < codes->n; i++)
        if (c->is[i])
            spec->codes[spec->codes_n++] = (uint32_t)i;
    return 0;
}

/* ---- names that are near ---- */

struct near {
    const char *name[NEAR_MAX];
    size_t edits[NEAR_MAX], n;
};

static void near_add(struct near *near, const char *wanted, const char *name, const char *shown)
{
    size_t d = tf_edits(wanted, name, strlen(wanted) / 2), k;
    if (d > strlen(wanted) / 2)
        return;
    for (k = 0; k < near->n; k++)
        if (strcmp(near->name[k], shown) == 0)
            return;
    for (k = near->n; k > 0 && near->edits[k - 1] > d; k--)
        if (k < NEAR_MAX) {
            near->name[k] = near->name[k - 1];
            near->edits[k] = near->edits[k - 1];
        }
    if (k < NEAR_MAX) {
        near->name[k] = shown;
        near->edits[k] = d;
        near->n += near->n < NEAR_MAX;
    }
}

static const char *near_text(const struct near *near, char *buf, size_t size)
{
    buf[0] = 0;
    for (size_t k = 0; k < near->n; k++) {
        size_t at = strlen(buf);
        snprintf(buf + at, size - at, "%s'%s'",
                 k == 0            ? "; did you mean "
                 : k + 1 < near->n ? ", "
                                   : " or ",
                 near->name[k]);
    }
    if (near->n && strlen(buf) + 1 < size)
        strcat(buf, "?");
    return buf;
}

static int no_file(struct tf_prompt *p, const char *name, struct tf_err *err)
{
    struct near near = {0};
    char hint[400];
    for (size_t i = 1; i < p->codes.n; i++)
        if (!p->codes.codes[i].library)
            near_add(&near, base_name(name), base_name(p->codes.codes[i].file),
                     base_name(p->codes.codes[i].file));
    return tf_err_set(err, TF_E_NOTFOUND, "nothing of a file '%s' ran%s", name,
                      near_text(&near, hint, sizeof hint));
}

/* A function that exists and was never called is another thing than one that does not exist. */
static bool defined_somewhere(struct tf_prompt *p, const char *name, const char **file, uint32_t *line)
{
    for (size_t i = 1; i < p->codes.n; i++) {
        const struct tf_code *code = &p->codes.codes[i];
        char *text;
        size_t len, k = 1;
        if (code->library)
            continue;
        while (k < i && strcmp(p->codes.codes[k].file, code->file) != 0)
            k++;
        if (k < i || tf_store_source(p->store, p->run, code->file, &text, &len, NULL))
            continue;
        *line = tf_source_def(text, len, name);
        free(text);
        if (*line) {
            *file = code->file;
            return true;
        }
    }
    return false;
}

static int no_function(struct tf_prompt *p, const char *name, const char *in, struct tf_err *err)
{
    struct near near = {0};
    char hint[400];
    const char *file;
    uint32_t line;
    if (!in && defined_somewhere(p, name, &file, &line))
        return tf_err_set(err, TF_E_NOTFOUND, "'%s' (%s:%u) was never called in this run", name,
                          tf_prompt_file(p, file), line);
    for (size_t i = 1; i < p->codes.n; i++) {
        const struct tf_code *code = &p->codes.codes[i];
        if (code->library || (in && tf_file_fits(code->file, in) == TF_FIT_NONE))
            continue;
        near_add(&near, name, code->qualname, code->qualname);
        near_add(&near, name, code->name, code->qualname);
    }
    return tf_err_set(err, TF_E_NOTFOUND, "no function called '%s'%s%s ran%s", name, in ? " of " : "",
                      in ? in : "", near_text(&near, hint, sizeof hint));
}

/* ---- lines ---- */

/* Blank lines and comments have no code; whether other lines have is not known here. */
static int move_to_code(struct tf_prompt *p, const char *file, uint32_t *line, struct tf_err *err)
{
    char *text;
    size_t len;
    uint32_t lines;
    if (tf_store_source(p->store, p->run, file, &text, &len, NULL))
        return 0; /* not kept: the number is taken as it is */
    uint32_t found = tf_source_line(text, len, *line, &lines);
    free(text);
    if (!found && *line > lines)
        return tf_err_set(err, TF_E_NOTFOUND, "%s has only %u lines", tf_prompt_file(p, file), lines);
    if (!found)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no code at line %u of %s or behind it", *line,
                          tf_prompt_file(p, file));
    *line = found;
    return 0;
}

static int resolve_line(struct tf_prompt *p, const char *text, const char *file, uint32_t line,
                        struct tf_place_spec *spec, struct tf_err *err)
{
    struct chosen c;
    int r = chosen_new(&c, &p->codes, err);
    if (r)
        return r;
    narrow(&c, &p->codes, fits_file, file, true);
    r = c.n ? only_file(&c, &p->codes, text, &file, err) : no_file(p, file, err);
    if (!r)
        r = move_to_code(p, file, &line, err);
    if (!r) {
        size_t in_file = c.n;
        for (size_t i = 1; i < p->codes.n; i++)
            if (c.is[i] && p->codes.codes[i].first_line > line) {
                c.is[i] = false;
                c.n--;
            }
        if (in_file && !c.n)
            r = tf_err_set(err, TF_E_NOTFOUND, "no function that has line %u of %s ran", line,
                           tf_prompt_file(p, file));
    }
    if (!r)
        r = take(spec, &c, &p->codes, err);
    if (!r && asprintf(&spec->text, "%s:%u", base_name(file), line) < 0) {
        spec->text = NULL;
        r = tf_err_set(err, TF_E_IO, "out of memory");
    }
    spec->line = line;
    free(c.is);
    return r;
}

/* The file of the selected function. */
static const char *present_file(struct tf_prompt *p)
{
    json_t *entry = tf_prompt_selected(p);
    const char *file = json_string_value(json_object_get(entry, "file"));
    return file ? file : json_string_value(json_object_get(p->place, "file"));
}

/* ---- functions ---- */

/* "shop.orders.settle": the function settle of shop/orders.py. Tries each dot. */
static bool choose_in_module(struct chosen *c, const struct tf_codes *codes, const char *name)
{
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        char *module = strndup(name, (size_t)(dot - name));
        if (!module)
            return false;
        narrow(c, codes, fits_file, module, true);
        free(module);
        narrow(c, codes, fits_function, dot + 1, false);
        if (c->n)
            return true;
    }
    return false;
}

static int resolve_function(struct tf_prompt *p, const struct tf_place_text *place, const char *text,
                            struct tf_place_spec *spec, struct tf_err *err)
{
    struct chosen c;
    const char *file;
    int r = chosen_new(&c, &p->codes, err);
    if (r)
        return r;
    if (place->file)
        narrow(&c, &p->codes, fits_file, place->file, true);
    if (place->file && !c.n)
        r = no_file(p, place->file, err);
    if (!r) {
        narrow(&c, &p->codes, fits_function, place->function, !place->file);
        if (!c.n && (place->file || !choose_in_module(&c, &p->codes, place->function)))
            r = no_function(p, place->function, place->file, err);
    }
    if (!r)
        r = only_file(&c, &p->codes, text, &file, err);
    if (!r)
        r = take(spec, &c, &p->codes, err);
    if (!r) {
        /* Its full name, if it is the same of all of them. */
        const char *name = p->codes.codes[spec->codes[0]].qualname;
        bool one = true;
        for (size_t i = 1; i < spec->codes_n; i++)
            one = one && strcmp(name, p->codes.codes[spec->codes[i]].qualname) == 0;
        /* A module's code is called by its file. */
        bool module = one && strcmp(name, "<module>") == 0;
        if (asprintf(&spec->text, "%s%s%s", module || place->file ? base_name(file) : "",
                     module || place->file ? ":" : "", one ? name : place->function) < 0) {
            spec->text = NULL;
            r = tf_err_set(err, TF_E_IO, "out of memory");
        }
    }
    free(c.is);
    return r;
}

int tf_place_resolve(struct tf_prompt *p, const char *text, struct tf_place_spec *spec, struct tf_err *err)
{
    struct tf_place_text place;
    *spec = (struct tf_place_spec){0};
    int r = tf_place_parse(text, &place, err);
    if (r)
        return r;
    const char *file = place.file ? place.file : present_file(p);
    if (place.function)
        r = resolve_function(p, &place, text, spec, err);
    else if (!file)
        r = tf_err_set(err, TF_E_USAGE, "no Python function runs here: say FILE:%u", place.line);
    else
        r = resolve_line(p, text, file, place.line, spec, err);
    tf_place_text_clear(&place);
    if (r)
        tf_place_spec_clear(spec);
    return r;
}

/* ---- completion ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void tf_place_complete(struct tf_prompt *p, const char *text, void (*fn)(void *ctx, const char *text),
                       void *ctx)
{
    /* Of each function its qualified name and its own, and its file: at most three texts. */
    char **found = calloc(p->codes.n * 3 + 1, sizeof *found);
    const char *colon = strrchr(text, ':');
    size_t n = 0, len = strlen(text);
    char *file = colon ? strndup(text, (size_t)(colon - text)) : NULL;
    if (!found || (colon && !file))
        goto out;
    for (size_t i = 1; i < p->codes.n; i++) {
        const struct tf_code *code = &p->codes.codes[i];
        if (colon) {
            if (tf_file_fits(code->file, file) == TF_FIT_NONE)
                continue;
            const char *names[2] = {code->qualname, code->name};
            for (size_t k = 0; k < 2; k++)
                if (strncmp(names[k], colon + 1, strlen(colon + 1)) == 0 &&
                    asprintf(&found[n], "%s:%s", file, names[k]) >= 0)
                    n++;
            continue;
        }
        /* Hundreds of library functions would hide the program's own. */
        if (code->library && len < 3)
            continue;
        const char *names[3] = {code->qualname, code->name, base_name(code->file)};
        for (size_t k = 0; k < 3; k++)
            if (strncmp(names[k], text, len) == 0 && (names[k][0] != '<' || len) &&
                asprintf(&found[n], "%s%s", names[k], k == 2 ? ":" : "") >= 0)
                n++;
    }
    qsort(found, n, sizeof *found, by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(found[i], found[i - 1]) != 0)
            fn(ctx, found[i]);
out:
    for (size_t i = 0; found && i < n; i++)
        free(found[i]);
    free(found);
    free(file);
}
