/* parent.c: see parent.h. */
#include <stdio.h>
#include <string.h>
#include "checkpoint/parent.h"

pid_t tf_parent_of(pid_t pid)
{
    char path[64], line[1024];
    pid_t parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fgets(line, sizeof line, file)) {
        const char *at = strrchr(line, ')'); /* the name may hold anything */
        if (!at || sscanf(at + 1, " %*c %d", &parent) != 1)
            parent = 0;
    }
    fclose(file);
    return parent;
}
