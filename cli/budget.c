/* budget.c: see budget.h. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "checkpoint/policy.h"
#include "cli/budget.h"
#include "cli/common.h"

enum { MOST_CHECKPOINTS = 1000 }; /* each is a process, with a descriptor here */

struct tf_checkpoint_opts tf_checkpoint_opts_default(void)
{
    return (struct tf_checkpoint_opts){.cost = tf_timeline_opts_default()};
}

bool tf_size_parse(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMG";
    size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] ? strchr(units, toupper((unsigned char)text[digits])) : NULL;
    char number[24];
    if (!digits || digits >= sizeof number || (text[digits] && (!unit || text[digits + 1])))
        return false;
    memcpy(number, text, digits);
    number[digits] = 0;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (!tf_number(number, 0, bytes) || *bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return true;
}

static int bad(const char *option, const char *value, const char *expected)
{
    tf_say("%s %s: %s is expected", option, value, expected);
    return -1;
}

int tf_checkpoint_option(int argc, char **argv, struct tf_checkpoint_opts *opts)
{
    const char *option = argv[0], *value = argv[1];
    bool budget = strcmp(option, "--checkpoint-budget") == 0, max = strcmp(option, "--max-checkpoints") == 0,
         memory = strcmp(option, "--checkpoint-memory") == 0;
    if (!budget && !max && !memory)
        return 0;
    if (argc < 2) {
        tf_say("%s needs a value", option);
        return -1;
    }
    if (budget) {
        char *end;
        double percent = strtod(value, &end);
        if (end == value || *end || !isfinite(percent) || percent < 0 || percent > 100)
            return bad(option, value, "a percentage from 0 to 100, as 5 or 2.5,");
        opts->cost.budget = percent / 100;
    } else if (max) {
        uint64_t n;
        if (!tf_number(value, 1, &n) || n > MOST_CHECKPOINTS)
            return bad(option, value, "a number from 1 (no checkpoint but the start) to 1000");
        opts->cost.limits.max = (size_t)n;
    } else {
        uint64_t bytes;
        if (!tf_size_parse(value, &bytes) || bytes < 1 << 20)
            return bad(option, value, "a size of at least 1M, as 512M or 2G,");
        opts->cost.limits.bytes = bytes;
    }
    opts->given = option;
    return 2;
}
