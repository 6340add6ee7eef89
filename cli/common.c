/* common.c: see common.h. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/common.h"

int tf_find_recording(const char *given, char *out, size_t size, struct tf_err *err)
{
    struct timespec newest = {0, 0};
    if (given) {
        snprintf(out, size, "%s", given);
        return 0;
    }
    out[0] = 0;
    DIR *folder = opendir(".");
    struct dirent *e;
    while (folder && (e = readdir(folder))) {
        struct stat st;
        size_t n = strlen(e->d_name);
        if (n < 9 || strcmp(e->d_name + n - 9, ".timefork") != 0 || stat(e->d_name, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (out[0] && (st.st_mtim.tv_sec < newest.tv_sec ||
                       (st.st_mtim.tv_sec == newest.tv_sec && st.st_mtim.tv_nsec <= newest.tv_nsec)))
            continue;
        newest = st.st_mtim;
        snprintf(out, size, "%s", e->d_name);
    }
    if (folder)
        closedir(folder);
    if (!out[0])
        return tf_err_set(err, TF_E_NOTFOUND,
                          "there is no recording (*.timefork) in this folder: name one, or make one with 'timefork record SCRIPT'");
    return 0;
}

char *tf_human_size(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(buf, size, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

char *tf_human_count(uint64_t n, char *buf, size_t size)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t k = 0;
    for (int i = 0; i < len && k + 2 < size; i++) {
        if (i && (len - i) % 3 == 0)
            buf[k++] = ',';
        buf[k++] = digits[i];
    }
    buf[k] = 0;
    return buf;
}
