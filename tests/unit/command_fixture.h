/*
 * command_fixture.h: doing a command in this process and reading what it said. Each test program includes it
 * once.
 */
#ifndef TF_COMMAND_FIXTURE_H
#define TF_COMMAND_FIXTURE_H

#include "store_fixture.h"

#include <jansson.h>

#include "cli/commands.h"

static char said[1 << 16]; /* standard output, then standard error, of the last command */

/* Does a command; its exit status. */
#define command(fn, ...) run_command(fn, (char *[]){__VA_ARGS__, NULL})
static UNUSED int run_command(int (*fn)(int, char **), char **argv)
{
    const char *files[2] = {fx_path("stdout"), fx_path("stderr")};
    int argc = 0, old[2], status;
    size_t at = 0;
    while (argv[argc])
        argc++;
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        int fd = open(files[i], O_RDWR | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        old[i] = dup(i + 1);
        dup2(fd, i + 1);
        close(fd);
    }
    status = fn(argc, argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        size_t len;
        dup2(old[i], i + 1);
        close(old[i]);
        char *text = fx_read(files[i], &len);
        assert_true(at + len < sizeof said);
        memcpy(said + at, text, len);
        at += len;
        free(text);
    }
    said[at] = 0;
    return status;
}

#define says(text)                                                                                           \
    do {                                                                                                     \
        if (!strstr(said, text))                                                                             \
            fail_msg("it does not say '%s':\n%s", text, said);                                               \
    } while (0)
#define says_not(text)                                                                                       \
    do {                                                                                                     \
        if (strstr(said, text))                                                                              \
            fail_msg("it says '%s':\n%s", text, said);                                                       \
    } while (0)

/* The n-th line (from 0) of what was said, as JSON. */
static UNUSED json_t *line(int n)
{
    const char *p = said;
    json_error_t why;
    while (n--) {
        p = strchr(p, '\n');
        assert_non_null(p);
        p++;
    }
    json_t *o = json_loadb(p, strcspn(p, "\n"), 0, &why);
    if (!o)
        fail_msg("no JSON: %s", p);
    return o;
}
static UNUSED int64_t number(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    if (!json_is_integer(v))
        fail_msg("%s is no number: %s", key, said);
    return json_integer_value(v);
}
static UNUSED const char *text(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_null(v) ? "(null)" : json_string_value(v);
}

#endif
