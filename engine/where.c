/*
 * where.c: the Python stack as text, for messages. May run in a signal handler, in the middle of anything
 * that Python does while it holds the GIL: nothing is allocated, no object is touched but code objects and
 * their strings.
 */
#include "engine/local.h"

#define MAX_LINES 20

static size_t put_number(char *buf, size_t size, int number)
{
    char digits[12];
    size_t n = 0, len = 0;
    unsigned v = number < 0 ? 0 : (unsigned)number;
    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n && len + 1 < size)
        buf[len++] = digits[--n];
    return len;
}

static size_t put_text(char *buf, size_t size, const char *text)
{
    size_t len = 0;
    while (text[len] && len + 1 < size) {
        buf[len] = text[len];
        len++;
    }
    return len;
}

size_t tf_where(char *buf, size_t size)
{
    size_t n = 0;
    if (size == 0)
        return 0;
    buf[0] = 0;
    PyThreadState *ts = tf_this_thread();
    if (!ts) /* in a call that waits: it has given the GIL away */
        ts = PyGILState_GetThisThreadState();
    if (!ts)
        return 0;
#if !TF_PY313
    if (!ts->cframe)
        return 0;
#endif
    tf_frame *f = tf_frame_complete(tf_current_frame(ts));
    for (int lines = 0; f && lines < MAX_LINES; lines++) {
        PyCodeObject *co = tf_frame_code(f);
        if (n + 64 > size)
            break;
        n += tf_utf8(co->co_filename, buf + n, size - n - 48);
        n += put_text(buf + n, size - n, ":");
        n += put_number(buf + n, size - n, tf_frame_line(f));
        n += put_text(buf + n, size - n, " in ");
        n += tf_utf8(co->co_qualname, buf + n, size - n - 2);
        n += put_text(buf + n, size - n, "\n");
        f = tf_frame_complete(f->previous);
    }
    buf[n] = 0;
    return n;
}
