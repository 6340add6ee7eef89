/* compare.c: see compare.h. */
#include "replay/compare.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "iohooks/calls.h"

char *tf_text(const char *fmt, ...)
{
    char *made;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&made, fmt, ap) < 0)
        made = NULL;
    va_end(ap);
    return made;
}

void tf_add_unlike(struct tf_divergence *d, char *what, char *recorded, char *did)
{
    struct tf_unlike *more = realloc(d->unlike, (d->unlike_n + 1) * sizeof *more);
    if (!more) {
        free(what);
        free(recorded);
        free(did);
        return;
    }
    d->unlike = more;
    d->unlike[d->unlike_n++] = (struct tf_unlike){what, recorded, did};
}

/* ---- bytes and calls, for people ---- */

/* "text" of bytes; more: they go on. */
char *tf_quoted(const uint8_t *data, size_t n, bool more)
{
    char *buf = malloc(n * 4 + 8), *at = buf;
    if (!buf)
        return NULL;
    *at++ = '"';
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\n')
            at = stpcpy(at, "\\n");
        else if (data[i] == '"' || data[i] == '\\')
            at += sprintf(at, "\\%c", data[i]);
        else if (data[i] >= 32 && data[i] < 127)
            *at++ = (char)data[i];
        else
            at += sprintf(at, "\\x%02x", data[i]);
    }
    strcpy(at, more ? "\"..." : "\"");
    return buf;
}

char *tf_hex(const uint8_t *data, size_t n)
{
    char *buf = malloc(n * 3 + 1), *at = buf;
    if (!buf)
        return NULL;
    *at = 0;
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, i ? " %02x" : "%02x", data[i]);
    return buf;
}

/* A call with the text of its data instead of <data>, if they are known. */
char *tf_with_data(const char *call, const uint8_t *data, size_t n, bool more)
{
    const char *mark = data && n ? strstr(call, "<data>") : NULL;
    char *quote = mark ? tf_quoted(data, n, more) : NULL;
    char *made = quote ? tf_text("%.*s%s%s", (int)(mark - call), call, quote, mark + 6) : strdup(call);
    free(quote);
    return made;
}

/* The file and the qualified name in the arguments of a TF_CALL_CODE. */
void tf_code_names(const uint8_t *args, size_t len, const char **file, const char **name)
{
    *file = *name = "?";
    const uint8_t *end = len > 8 ? memchr(args + 8, 0, len - 8) : NULL;
    if (!end)
        return;
    *file = (const char *)args + 8;
    size_t at = (size_t)(end + 1 - args);
    if (at < len && memchr(args + at, 0, len - at))
        *name = (const char *)args + at;
}

/* A recorded outside event. */
char *tf_outside_text(const struct tf_outside *e)
{
    const char *file, *name;
    char buf[2048];
    switch (e->call) {
    case TF_CALL_MARK: {
        uint32_t kind = 0;
        int len = e->args_len > 8 ? (int)(e->args_len - 8) : 0;
        const char *said = (const char *)tf_outside_args(e) + 8;
        if (e->args_len >= 4)
            memcpy(&kind, tf_outside_args(e), 4);
        if (kind == TF_MARK_EXIT)
            return tf_text("the end of the program (%s%.*s)",
                           len >= 6 && memcmp(said, "signal", 6) == 0 ? "" : "exit status ", len, said);
        if (kind == TF_MARK_EXEC)
            return tf_text("the end of the program: it became %.*s", len, said);
        return tf_text("a mark: %.*s", len, said);
    }
    case TF_CALL_SIGNAL:
        return tf_text("signal %lld, given to the program", (long long)e->result);
    case TF_CALL_CODE:
        tf_code_names(tf_outside_args(e), e->args_len, &file, &name);
        return tf_text("the first run of %s (%s)", name, file);
    default:
        tf_call_format(buf, sizeof buf, e);
        if (e->flags & (TF_OUT_STDOUT | TF_OUT_STDERR))
            return tf_with_data(buf, tf_outside_data(e), e->data_len < TF_EXCERPT ? e->data_len : TF_EXCERPT,
                                e->data_len > TF_EXCERPT);
        return strdup(buf);
    }
}

/* ---- what differs in the arguments ---- */

static const char *letter_name(char letter)
{
    switch (letter) {
    case 's':
        return "text";
    case 'b':
    case 'x':
        return "data";
    case 'V':
    case 'H':
        return "list of texts";
    case 'v':
    case 'm':
        return letter == 'v' ? "data in several pieces" : "message";
    case 'A':
        return "socket address";
    case 'a':
    case 'o':
        return "room for the answer";
    case 'y':
    case 'f':
        return "descriptors to wait for";
    case 'p':
        return "address";
    case '*':
        return "pointer";
    case 'T':
    case 'M':
    case 'u':
        return "time";
    case 'k':
    case 'K':
        return "signals";
    case 'Q':
        return "signal and how it comes";
    case 'n':
        return "room for the message";
    case 'B':
        return "nodes";
    case 'G':
        return "groups";
    case 'h':
        return "file handle";
    case 'z':
        return "scheduling";
    case 'l':
        return "limit";
    case 'E':
        return "epoll event";
    case 'q':
        return "offset";
    default:
        return "number";
    }
}

/* Of these the log has a hash only. */
static bool is_hashed(char letter)
{
    return strchr("bxvmAyfnVHBGhz", letter) != NULL;
}

struct argument {
    const uint8_t *at; /* its bytes in the encoding; NULL: there are none */
    size_t len;
};

/* The next argument of an encoding; walks as tf_args_encode() wrote it. */
static struct argument next_argument(char letter, const uint8_t **at, const uint8_t *end)
{
    struct argument a = {NULL, 0};
    uint64_t v;
    if (!tf_call_is_read(letter) || end - *at < 8)
        return a;
    memcpy(&v, *at, 8);
    a.at = *at;
    a.len = 8;
    if (letter == 's' && (uint32_t)v != 0xffffffffu)
        a.len += ((uint32_t)v + 7ull) & ~7ull;
    else if (letter == 'V' && end - *at >= 16) { /* behind the hash, the strings */
        memcpy(&v, *at + 8, 8);
        a.len += 8 + (((uint32_t)v + 7ull) & ~7ull);
    } else if (tf_call_in_size(letter) && v)
        a.len += (tf_call_in_size(letter) + 7) & ~7ull;
    if (a.len > (size_t)(end - *at))
        a.len = (size_t)(end - *at);
    *at += a.len;
    return a;
}

static char *argument_text(char letter, struct argument a)
{
    int64_t v;
    if (!a.at)
        return strdup("nothing");
    memcpy(&v, a.at, 8);
    if (letter == 's' && (uint32_t)v == 0xffffffffu)
        return strdup("NULL");
    if (letter == 's')
        return tf_quoted(a.at + 8, (uint32_t)v < a.len - 8 ? (uint32_t)v : a.len - 8, false);
    if (is_hashed(letter))
        return tf_text("hash %016llx", (unsigned long long)v);
    if (tf_call_in_size(letter))
        return v ? tf_hex(a.at + 8, a.len - 8) : strdup("NULL");
    if (letter == 'p')
        return v ? tf_text("%#llx", (unsigned long long)v) : strdup("NULL");
    if (letter == '*')
        return strdup(v ? "a pointer" : "NULL");
    return tf_text("%lld", (long long)v);
}

/* Adds each argument in which the two differ. Returns how many are known by a hash only. */
size_t tf_compare_arguments(struct tf_divergence *d, unsigned call, const uint8_t *has, size_t has_len,
                            const uint8_t *did, size_t did_len, bool *structures)
{
    const struct tf_call_row *row = tf_call_row(call);
    const char *sig = row ? row->sig : NULL;
    const uint8_t *h = has, *h_end = has + has_len, *p = did, *p_end = did + did_len;
    size_t hashed = 0;
    *structures = true;
    for (size_t i = 0; sig && sig[i]; i++) {
        struct argument a = next_argument(sig[i], &h, h_end), b = next_argument(sig[i], &p, p_end);
        if (a.len == b.len && (!a.len || memcmp(a.at, b.at, a.len) == 0))
            continue;
        hashed += is_hashed(sig[i]);
        *structures &= sig[i] == 'm' || sig[i] == 'A';
        tf_add_unlike(d, tf_text("argument %zu (%s)", i + 1, letter_name(sig[i])), argument_text(sig[i], a),
                      argument_text(sig[i], b));
    }
    /* What a special call adds: the structure behind its pointer. */
    if (sig && (h_end - h != p_end - p || (h < h_end && memcmp(h, p, (size_t)(h_end - h)) != 0)))
        tf_add_unlike(d, tf_text("the structure that an argument points to"), tf_hex(h, (size_t)(h_end - h)),
                      tf_hex(p, (size_t)(p_end - p)));
    return hashed;
}

/* Two functions that ran first at the same place. */
void tf_compare_codes(struct tf_divergence *d, const uint8_t *has, size_t has_len, const uint8_t *did,
                      size_t did_len)
{
    const char *has_file, *has_name, *did_file, *did_name;
    tf_code_names(has, has_len, &has_file, &has_name);
    tf_code_names(did, did_len, &did_file, &did_name);
    if (strcmp(has_name, did_name) != 0)
        tf_add_unlike(d, strdup("function"), strdup(has_name), strdup(did_name));
    if (strcmp(has_file, did_file) != 0)
        tf_add_unlike(d, strdup("file"), strdup(has_file), strdup(did_file));
    if (!d->unlike_n && has_len >= 8 && did_len >= 8) {
        uint64_t a, b;
        memcpy(&a, has, 8);
        memcpy(&b, did, 8);
        tf_add_unlike(d, strdup("its instructions, lines and names"),
                      tf_text("hash %016llx", (unsigned long long)a),
                      tf_text("hash %016llx", (unsigned long long)b));
    }
}
