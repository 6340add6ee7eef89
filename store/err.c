/* err.c: see err.h. */
#include "store/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tf_err_set(struct tf_err *err, int code, const char *fmt, ...)
{
    if (err) {
        /* Built aside: an argument may be the message that is being replaced. */
        char msg[sizeof err->msg];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(msg, sizeof msg, fmt, ap);
        va_end(ap);
        memcpy(err->msg, msg, sizeof msg);
        err->code = code;
    }
    return code;
}

int tf_err_prefix(struct tf_err *err, const char *fmt, ...)
{
    if (!err)
        return 0;
    char msg[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n < sizeof msg)
        snprintf(msg + n, sizeof msg - (size_t)n, "%s", err->msg);
    memcpy(err->msg, msg, sizeof msg);
    return err->code;
}
