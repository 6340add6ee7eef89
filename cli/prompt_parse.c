/* prompt_parse.c: see prompt_parse.h. */
#include "cli/prompt_parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* A copy without blanks at its ends. */
static char *trimmed(const char *text, size_t len)
{
    while (len && blank(*text))
        text++, len--;
    while (len && blank(text[len - 1]))
        len--;
    return strndup(text, len);
}

/* A decimal number and nothing else. */
static bool number(const char *text, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *end == 0 && errno == 0;
}

/* ---- places ---- */

void tf_place_text_clear(struct tf_place_text *text)
{
    free(text->file);
    free(text->function);
    *text = (struct tf_place_text){0};
}

int tf_place_parse(const char *text, struct tf_place_text *out, struct tf_err *err)
{
    *out = (struct tf_place_text){0};
    char *all = trimmed(text, strlen(text));
    char *colon = all ? strrchr(all, ':') : NULL;
    char *last = colon ? colon + 1 : all;
    uint64_t line;
    int r = 0;
    if (!all)
        return tf_err_set(err, TF_E_IO, "out of memory");
    if (!*last || (colon && colon == all)) {
        r = tf_err_set(err, TF_E_USAGE, "'%s' is not a place: FILE:LINE, LINE, FUNCTION or FILE:FUNCTION are",
                       all);
    } else if (isdigit((unsigned char)*last)) {
        if (!number(last, &line) || line == 0 || line > INT32_MAX)
            r = tf_err_set(err, TF_E_USAGE, "'%s' is not the number of a line", last);
        else
            out->line = (uint32_t)line;
    } else {
        out->function = strdup(last);
    }
    if (!r && colon) {
        *colon = 0;
        out->file = trimmed(all, (size_t)(colon - all));
    }
    free(all);
    if (!r && ((colon && !out->file) || (!out->line && !out->function)))
        r = tf_err_set(err, TF_E_IO, "out of memory");
    if (r)
        tf_place_text_clear(out);
    return r;
}

/* Is name all of text, or what follows one of its separators? */
static enum tf_fit fits(const char *text, const char *name, char separator)
{
    size_t t = strlen(text), n = strlen(name);
    if (!n || n > t || strcmp(text + t - n, name) != 0)
        return TF_FIT_NONE;
    return n == t ? TF_FIT_WHOLE : text[t - n - 1] == separator ? TF_FIT_END : TF_FIT_NONE;
}

enum tf_fit tf_function_fits(const char *qualname, const char *name)
{
    static const char local[] = "<locals>.";
    enum tf_fit fit = fits(qualname, name, '.');
    if (fit != TF_FIT_NONE || !strstr(qualname, local))
        return fit;
    char plain[1024];
    size_t n = 0;
    for (const char *at = qualname; *at && n + 1 < sizeof plain;) {
        if (strncmp(at, local, sizeof local - 1) == 0)
            at += sizeof local - 1;
        else
            plain[n++] = *at++;
    }
    plain[n] = 0;
    return fits(plain, name, '.');
}

enum tf_fit tf_file_fits(const char *file, const char *name)
{
    while (strncmp(name, "./", 2) == 0)
        name += 2;
    enum tf_fit fit = fits(file, name, '/');
    if (fit != TF_FIT_NONE)
        return fit;
    /* As a module. */
    static const char *const ends[] = {".py", "/__init__.py"};
    for (size_t i = 0; i < 2; i++) {
        char path[1024];
        int n = snprintf(path, sizeof path, "%s%s", name, ends[i]);
        if (n < 0 || (size_t)n >= sizeof path)
            continue;
        for (char *at = path; at < path + strlen(name); at++)
            if (*at == '.')
                *at = '/';
        if (fits(file, path, '/') != TF_FIT_NONE)
            return TF_FIT_END;
    }
    return TF_FIT_NONE;
}

/* ---- hits ---- */

int tf_hits_parse(const char *text, struct tf_hits *out, struct tf_err *err)
{
    static const char *const operators[] = {">=", "<=", "==", "%", ""};
    const char *at = text;
    size_t op = 0;
    uint64_t n;
    *out = (struct tf_hits){0};
    while (blank(*at))
        at++;
    while (strncmp(at, operators[op], strlen(operators[op])) != 0)
        op++;
    at += strlen(operators[op]);
    while (blank(*at))
        at++;
    char *digits = trimmed(at, strlen(at));
    bool good = digits && number(digits, &n) && n > 0;
    free(digits);
    if (!good)
        return tf_err_set(err, TF_E_USAGE,
                          "'%s' does not say which hits count: N or ==N (that one), >=N, <=N or %%N (each "
                          "N-th) do, N from 1 on",
                          text);
    switch (op) {
    case 0:
        out->first = n;
        break;
    case 1:
        out->last = n;
        break;
    case 3:
        out->every = n;
        break;
    default:
        out->first = out->last = n;
    }
    return 0;
}

const char *tf_hits_text(const struct tf_hits *hits, char *buf, size_t size)
{
    buf[0] = 0;
    if (hits->first && hits->first == hits->last)
        snprintf(buf, size, "==%llu", (unsigned long long)hits->first);
    else if (hits->first && hits->last)
        snprintf(buf, size, ">=%llu <=%llu", (unsigned long long)hits->first, (unsigned long long)hits->last);
    else if (hits->first)
        snprintf(buf, size, ">=%llu", (unsigned long long)hits->first);
    else if (hits->last)
        snprintf(buf, size, "<=%llu", (unsigned long long)hits->last);
    if (hits->every && strlen(buf) + 2 < size)
        snprintf(buf + strlen(buf), size - strlen(buf), "%s%%%llu", *buf ? " " : "",
                 (unsigned long long)hits->every);
    return buf;
}

/* ---- breakpoints ---- */

void tf_break_text_clear(struct tf_break_text *text)
{
    free(text->place);
    free(text->condition);
    *text = (struct tf_break_text){0};
}

/* The next place at which the word stands alone, or NULL. */
static const char *find_word(const char *text, const char *from, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = strstr(from, word); at; at = strstr(at + 1, word))
        if ((at == text || blank(at[-1])) && (blank(at[n]) || at[n] == 0))
            return at;
    return NULL;
}

/* Can an expression end here? Not behind an operator: what follows then belongs to it. */
static bool ends_expression(const char *text, const char *end)
{
    static const char *const operators[] = {"and", "or", "not", "in", "is", "if", "else", "await"};
    while (end > text && blank(end[-1]))
        end--;
    const char *word = end;
    while (word > text && (isalnum((unsigned char)word[-1]) || word[-1] == '_'))
        word--;
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if ((size_t)(end - word) == strlen(operators[i]) &&
            strncmp(word, operators[i], (size_t)(end - word)) == 0)
            return false;
    return end > text && (word < end || strchr(")]}'\"", end[-1]) || (unsigned char)end[-1] >= 0x80);
}

/* "hits CONDITION" at the end of an expression; the "hits" of `n and hits == 3` is a name of the program's.
 */
static const char *find_hits_behind(const char *text, const char *from, struct tf_hits *hits)
{
    for (const char *at = find_word(text, from, "hits"); at; at = find_word(text, at + 1, "hits"))
        if (ends_expression(from, at) && tf_hits_parse(at + 4, hits, NULL) == 0)
            return at;
    return NULL;
}

int tf_break_parse(const char *text, struct tf_break_text *out, struct tf_err *err)
{
    const char *condition = find_word(text, text, "if"), *hits = find_word(text, text, "hits");
    const char *end = text + strlen(text);
    int r = 0;
    *out = (struct tf_break_text){0};
    if (condition && (!hits || condition < hits)) {
        hits = find_hits_behind(text, condition + 2, &out->hits);
        out->has_hits = hits != NULL;
        out->place = trimmed(text, (size_t)(condition - text));
        out->condition = trimmed(condition + 2, (size_t)((hits ? hits : end) - condition - 2));
    } else if (hits) {
        char *which = trimmed(hits + 4, (size_t)((condition ? condition : end) - hits - 4));
        r = which ? tf_hits_parse(which, &out->hits, err) : 0;
        free(which);
        out->has_hits = true;
        out->place = trimmed(text, (size_t)(hits - text));
        if (condition)
            out->condition = trimmed(condition + 2, (size_t)(end - condition - 2));
    } else {
        out->place = trimmed(text, strlen(text));
    }
    if (!r && (!out->place || (condition && !out->condition)))
        r = tf_err_set(err, TF_E_IO, "out of memory");
    if (!r && condition && !*out->condition)
        r = tf_err_set(err, TF_E_USAGE, "there is no expression behind 'if'");
    if (r)
        tf_break_text_clear(out);
    return r;
}

/* Behind the Python string literal at `at`, or NULL if there is none. */
static const char *literal_end(const char *at)
{
    for (int prefix = 0; prefix < 2 && *at && strchr("rRfFuU", *at); prefix++)
        at++;
    if (*at != '"' && *at != '\'')
        return NULL;
    char quote = *at;
    size_t n = at[1] == quote && at[2] == quote ? 3 : 1;
    for (at += n; *at; at++) {
        if (*at == '\\' && at[1])
            at++;
        else if (*at == quote && (n == 1 || (at[1] == quote && at[2] == quote)))
            return at + n;
    }
    return NULL;
}

int tf_dprintf_parse(const char *text, char **place, char **expr, struct tf_err *err)
{
    static const char usage[] = "dprintf takes PLACE,\"format\",EXPR,..., as in dprintf settle,\"%s\",order";
    const char *comma = strchr(text, ',');
    const char *format = comma ? comma + 1 : text;
    *place = *expr = NULL;
    while (blank(*format))
        format++;
    const char *end = comma ? literal_end(format) : NULL, *values = end;
    if (!end)
        return tf_err_set(err, TF_E_USAGE, "%s", usage);
    while (blank(*values))
        values++;
    if (*values && *values != ',')
        return tf_err_set(err, TF_E_USAGE, "%s", usage);
    values += *values == ',';
    char *list = trimmed(values, strlen(values));
    *place = trimmed(text, (size_t)(comma - text));
    if (list && asprintf(expr, "(%.*s %% (%s%s))", (int)(end - format), format, list, *list ? "," : "") < 0)
        *expr = NULL;
    free(list);
    if (*place && *expr)
        return 0;
    free(*place);
    free(*expr);
    return tf_err_set(err, TF_E_IO, "out of memory");
}

/* ---- numbers ---- */

int tf_ordinal_parse(const char *text, char **rest, int64_t *n, struct tf_err *err)
{
    const char *mark = strrchr(text, '#');
    *n = 0;
    if (!mark) {
        *rest = strdup(text);
    } else {
        char *digits = trimmed(mark + 1, strlen(mark + 1));
        uint64_t value = 0;
        bool back = digits && *digits == '-';
        bool good = digits && number(digits + back, &value) && value > 0 && value <= INT64_MAX;
        free(digits);
        if (!good)
            return tf_err_set(err, TF_E_USAGE,
                              "'%s': a number other than 0 is expected, as in #3, or #-1 for the last", mark);
        *n = back ? -(int64_t)value : (int64_t)value;
        *rest = trimmed(text, (size_t)(mark - text));
    }
    return *rest ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
}

bool tf_limit_parse(const char *text, char **expr, uint64_t *limit)
{
    const char *last = strrchr(text, ' ');
    if (!last || !number(last + 1, limit) || !*limit)
        return false;
    *expr = trimmed(text, (size_t)(last - text));
    if (*expr && **expr)
        return true;
    free(*expr);
    *expr = NULL;
    return false;
}

bool tf_time_parse(const char *text, uint64_t *ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"s", 1000000000}, {"ms", 1000000}, {"us", 1000}, {"ns", 1}};
    size_t digits = strspn(text, "0123456789"), unit = 0;
    const char *at = text + digits;
    uint64_t whole = 0, part = 0;
    if (*at == '.')
        at += 1 + strspn(at + 1, "0123456789");
    while (unit < 4 && strcmp(at, units[unit].name) != 0)
        unit++;
    if (unit == 4 || at == text || (at == text + 1 && *text == '.') || digits > 12)
        return false;
    for (size_t i = 0; i < digits; i++)
        whole = whole * 10 + (uint64_t)(text[i] - '0');
    if (whole > UINT64_MAX / 4 / units[unit].ns)
        return false;
    /* In integers: a time that was copied from a listing has to give the very event it was copied from. */
    uint64_t scale = units[unit].ns;
    for (const char *d = text + digits + 1; d < at && scale >= 10; d++) {
        scale /= 10;
        part += (uint64_t)(*d - '0') * scale;
    }
    *ns = whole * units[unit].ns + part;
    return true;
}

/* ---- sources ---- */

uint32_t tf_source_line(const char *text, size_t len, uint32_t line, uint32_t *lines)
{
    uint32_t at = 0, found = 0;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        at++;
        while (p < stop && (blank(*p) || *p == '\r' || *p == '\f'))
            p++;
        if (!found && at >= line && p < stop && *p != '#')
            found = at;
        p = stop + 1;
    }
    *lines = at;
    return found;
}

uint32_t tf_source_def(const char *text, size_t len, const char *name)
{
    const char *last = strrchr(name, '.');
    size_t n = strlen(last ? ++last : (last = name));
    uint32_t at = 0;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        at++;
        while (p < stop && blank(*p))
            p++;
        if (stop - p > 6 && strncmp(p, "async ", 6) == 0)
            for (p += 6; p < stop && blank(*p);)
                p++;
        if (stop - p > 4 && strncmp(p, "def ", 4) == 0) {
            for (p += 4; p < stop && blank(*p);)
                p++;
            if ((size_t)(stop - p) >= n && strncmp(p, last, n) == 0) {
                unsigned char next = p + n < stop ? (unsigned char)p[n] : 0;
                if (n && !isalnum(next) && next != '_' && next < 0x80)
                    return at;
            }
        }
        p = stop + 1;
    }
    return 0;
}

char *tf_python_literal(const char *text)
{
    char *out = malloc(strlen(text) * 4 + 3), *to = out;
    if (!out)
        return NULL;
    *to++ = '\'';
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            *to++ = '\\', *to++ = *text;
        else if ((unsigned char)*text < 32)
            to += sprintf(to, "\\x%02x", (unsigned char)*text);
        else
            *to++ = *text;
    }
    *to++ = '\'';
    *to = 0;
    return out;
}
