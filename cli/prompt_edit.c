/*
 * prompt_edit.c: the prompt on a terminal, by libedit: line editing, history, completion, Ctrl-C.
 *
 * The terminal never makes signals of keys here: Ctrl-C would go to the replaying processes as well, which
 * are in the same process group and have the signal handlers of the program. At the prompt it is a key like
 * any other; while a command runs, a thread listens for it.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "cli/prompt.h"

#define HISTORY_SIZE 2000
#define COMPLETE_TIMEOUT_MS 1000
#define LIST_MAX 200
#define TICK_MS 200

#define CTRL_C 3
#define CTRL_BACKSLASH 28

struct tf_edit {
    struct tf_prompt *p;
    EditLine *el;
    History *history;
    char *history_file, *line;
    bool cleared;                   /* Ctrl-C ended the line */
    struct termios cooked, running; /* as it was; while a command runs */
    /* While a command runs. */
    pthread_t thread;
    bool watching;
    int done; /* eventfd: the command has ended */
    volatile bool *cancel;
    void (*tick)(struct tf_prompt *p);
    char ahead[1024]; /* typed meanwhile: for the next line */
    size_t ahead_len;
};

/* ---- history ---- */

static void make_folders(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

/* NULL: there is no place for it. */
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (state && *state == '/') {
        if (asprintf(&path, "%s/timefork/history", state) < 0)
            return NULL;
    } else if (!home || *home != '/' || asprintf(&path, "%s/.local/state/timefork/history", home) < 0) {
        return NULL;
    }
    return path;
}

static void save_history(struct tf_edit *e)
{
    HistEvent event;
    if (!e->history_file)
        return;
    make_folders(e->history_file);
    mode_t before = umask(0077);
    if (history(e->history, &event, H_SAVE, e->history_file) >= 0)
        (void)!chmod(e->history_file, 0600); /* it may have been there, open to others */
    umask(before);
}

/* ---- completion ---- */

struct candidates {
    char **v;
    size_t n, room;
    const char *prefix;
    size_t prefix_len;
    const char *first; /* of commands of two words: the first; else NULL */
};

static void add(void *ctx, const char *text)
{
    struct candidates *c = ctx;
    if (strncmp(text, c->prefix, c->prefix_len) != 0)
        return;
    if (c->n == c->room) {
        size_t room = c->room ? c->room * 2 : 64;
        char **more = realloc(c->v, room * sizeof *more);
        if (!more)
            return;
        c->v = more;
        c->room = room;
    }
    c->v[c->n] = strdup(text);
    c->n += c->v[c->n] != NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct candidates *c)
{
    size_t kept = 0;
    if (c->n)
        qsort(c->v, c->n, sizeof *c->v, by_text);
    for (size_t i = 0; i < c->n; i++) {
        if (kept && strcmp(c->v[kept - 1], c->v[i]) == 0)
            free(c->v[i]);
        else
            c->v[kept++] = c->v[i];
    }
    c->n = kept;
}

static void clear(struct candidates *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->v[i]);
    free(c->v);
    *c = (struct candidates){0};
}

static void add_command(void *ctx, const struct tf_command *command)
{
    struct candidates *c = ctx;
    const char *space = strchr(command->name, ' ');
    if (!c->first && !space)
        add(c, command->name);
    else if (c->first && space && strncmp(command->name, c->first, (size_t)(space - command->name)) == 0 &&
             c->first[space - command->name] == 0)
        add(c, space + 1);
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 128;
}

/* Where the operand begins that ends at text[len]: names, dots, calls, subscripts. */
static size_t operand_start(const char *text, size_t len)
{
    size_t at = len;
    while (at > 0) {
        char c = text[at - 1];
        if (is_name(c) || c == '.') {
            at--;
        } else if (c == ')' || c == ']') {
            int depth = 0;
            size_t back = at;
            while (back > 0) {
                c = text[--back];
                depth += c == ')' || c == ']' ? 1 : c == '(' || c == '[' ? -1 : 0;
                if (depth == 0)
                    break;
            }
            if (depth)
                break;
            at = back;
        } else {
            break;
        }
    }
    return at;
}

/* Names of the selected function, or attributes of what stands in front of the last dot. */
static void complete_expr(struct tf_edit *e, const char *text, struct candidates *c)
{
    size_t len = strlen(text), dot = len;
    while (dot > 0 && is_name(text[dot - 1]))
        dot--;
    c->prefix = text + dot;
    c->prefix_len = len - dot;
    char *base = strdup("");
    if (dot > 0 && text[dot - 1] == '.') {
        size_t start = operand_start(text, dot - 1);
        free(base);
        base = strndup(text + start, dot - 1 - start);
        if (base && !*base) { /* of a string, a number: not known here */
            free(base);
            return;
        }
    } else if (isdigit((unsigned char)*c->prefix)) {
        free(base);
        return;
    }
    struct tf_err err;
    json_t *name, *names = base ? tf_answer_completions(e->p->timeline, base, e->p->frame,
                                                        tf_prompt_whose(e->p), COMPLETE_TIMEOUT_MS, &err)
                                : NULL;
    size_t i;
    json_array_foreach(names, i, name)
    {
        const char *t = json_string_value(name);
        if (*t != '_' || c->prefix_len) /* what is private is completed once it is begun */
            add(c, t);
    }
    json_decref(names);
    free(base);
}

/* What could follow the text in front of the cursor. *space: a blank follows what is complete. */
static void complete(struct tf_edit *e, const char *text, struct candidates *c, bool *space)
{
    const struct tf_command *command;
    const char *args, *name;
    struct tf_err err;
    json_t *value;
    text += strspn(text, " \t");
    size_t first = strcspn(text, " \t");
    *space = true;
    c->prefix = text;
    c->prefix_len = first;
    if (!text[first]) {
        tf_prompt_each_command(add_command, c);
        return;
    }
    char *word = strndup(text, first);
    if (word && tf_prompt_find(word, &command, &args, &err) == 0) {
        /* The second word of a command that has one? */
        const char *second = text + first + strspn(text + first, " \t");
        if (!strpbrk(second, " \t")) {
            c->first = command->name;
            c->prefix = second;
            c->prefix_len = strlen(second);
            tf_prompt_each_command(add_command, c);
        }
    }
    free(word);
    if (c->n)
        return;
    if (tf_prompt_find(text, &command, &args, &err))
        return;
    const char *last = args + strlen(args), *condition;
    while (last > args && !isspace((unsigned char)last[-1]))
        last--;
    enum tf_completes what = command->completes;
    /* "break PLACE if EXPR" */
    if (what == TF_COMPLETES_PLACE && (condition = strstr(args, " if ")) && condition + 4 <= last) {
        what = TF_COMPLETES_EXPR;
        args = condition + 4;
    }
    c->first = NULL;
    if (what != TF_COMPLETES_NOTHING && what != TF_COMPLETES_EXPR) {
        c->prefix = last;
        c->prefix_len = strlen(last);
    }
    switch (what) {
    case TF_COMPLETES_EXPR:
        *space = false;
        complete_expr(e, args, c);
        break;
    case TF_COMPLETES_PLACE:
        tf_place_complete(e->p, last, add, c);
        if (strcmp(command->name, "goto") != 0)
            break;
        add(c, "start");
        add(c, "end");
        /* fall through */
    case TF_COMPLETES_BOOKMARK:
        json_object_foreach(e->p->bookmarks, name, value) add(c, name);
        break;
    case TF_COMPLETES_THREAD: {
        size_t threads;
        const struct tf_thread_row *row = tf_timeline_threads(e->p->timeline, &threads);
        for (size_t i = 0; i < threads; i++) {
            char number[16];
            snprintf(number, sizeof number, "%u", row[i].number);
            add(c, number);
        }
        if (strcmp(command->name, "thread apply") != 0)
            break;
        add(c, "all");
    }
        /* fall through */
    case TF_COMPLETES_COMMAND:
        tf_prompt_each_command(add_command, c);
        break;
    case TF_COMPLETES_NOTHING:
        break;
    }
}

static void list(struct tf_edit *e, const struct candidates *c)
{
    struct winsize size = {0};
    FILE *out = e->p->out;
    size_t width = 0, shown = c->n < LIST_MAX ? c->n : LIST_MAX;
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    for (size_t i = 0; i < shown; i++)
        if (strlen(c->v[i]) > width)
            width = strlen(c->v[i]);
    size_t columns = (size.ws_col ? size.ws_col : 80) / (width + 2);
    if (!columns)
        columns = 1;
    size_t rows = (shown + columns - 1) / columns;
    fputc('\n', out);
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = row; i < shown; i += rows)
            fprintf(out, "%-*s", i + rows < shown ? (int)width + 2 : 0, c->v[i]);
        fputc('\n', out);
    }
    if (shown < c->n)
        fprintf(out, "(%zu more)\n", c->n - shown);
    fflush(out);
}

static struct tf_edit *edit_of(EditLine *el)
{
    struct tf_edit *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return e;
}

static unsigned char on_tab(EditLine *el, int key)
{
    struct tf_edit *e = edit_of(el);
    const LineInfo *line = el_line(el);
    struct candidates c = {0};
    bool space;
    unsigned char result = CC_REFRESH;
    (void)key;
    char *text = strndup(line->buffer, (size_t)(line->cursor - line->buffer));
    if (!text)
        return CC_ERROR;
    complete(e, text, &c, &space);
    sort(&c);
    /* As far as all of them agree. */
    size_t common = c.n ? strlen(c.v[0]) : 0;
    for (size_t i = 1; i < c.n; i++)
        for (size_t k = 0; k < common; k++)
            if (c.v[0][k] != c.v[i][k])
                common = k;
    while (c.n > 1 && common && ((unsigned char)c.v[0][common] & 0xc0) == 0x80)
        common--;
    if (!c.n) {
        result = CC_ERROR;
    } else if (c.n == 1 || common > c.prefix_len) {
        char *more = NULL;
        if (asprintf(&more, "%.*s%s", (int)(common - c.prefix_len), c.v[0] + c.prefix_len,
                     c.n == 1 && space ? " " : "") < 0 ||
            (*more && el_insertstr(el, more)))
            result = CC_ERROR;
        free(more);
    } else {
        list(e, &c);
        result = CC_REDISPLAY;
    }
    clear(&c);
    free(text);
    return result;
}

/* ---- keys ---- */

static unsigned char on_ctrl_c(EditLine *el, int key)
{
    struct tf_edit *e = edit_of(el);
    (void)key;
    e->cleared = true;
    fputs("^C\n", e->p->out);
    fflush(e->p->out);
    return CC_NEWLINE;
}

/* Only the prompt stops; the replaying processes have nothing to do meanwhile. */
static unsigned char on_ctrl_z(EditLine *el, int key)
{
    (void)key;
    struct tf_edit *e = edit_of(el);
    el_set(el, EL_PREP_TERM, 0);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &e->cooked);
    raise(SIGTSTP);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &e->running);
    el_set(el, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

static char *prompt_text(EditLine *el)
{
    static char plain[] = "(timefork) ", coloured[] = "\1\033[1m\1(timefork)\1\033[0m\1 ";
    return edit_of(el)->p->colour ? coloured : plain;
}

/* ---- while a command runs ---- */

static void *watch(void *ctx)
{
    struct tf_edit *e = ctx;
    struct pollfd fds[2] = {{.fd = e->done, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        char c;
        int ready = poll(fds, 2, TICK_MS);
        if (ready == 0)
            e->tick(e->p);
        if (ready < 0 && errno != EINTR)
            return NULL;
        if (ready <= 0)
            continue;
        if (fds[0].revents)
            return NULL;
        if (!fds[1].revents)
            continue;
        if (read(STDIN_FILENO, &c, 1) != 1) {
            fds[1].fd = -1; /* the terminal is gone; the prompt will find out */
            continue;
        }
        if (c == CTRL_C) {
            *e->cancel = true;
            e->ahead_len = 0;
        } else if (c == CTRL_BACKSLASH) {
            kill(getpid(), SIGQUIT); /* the way out when a command does not end */
        } else if (e->ahead_len + 1 < sizeof e->ahead) {
            e->ahead[e->ahead_len++] = c;
        }
    }
}

void tf_edit_watch(struct tf_edit *e, volatile bool *cancel, void (*tick)(struct tf_prompt *p))
{
    uint64_t ignored;
    if (e->done < 0)
        return;
    while (read(e->done, &ignored, sizeof ignored) > 0)
        ;
    e->cancel = cancel;
    e->tick = tick;
    e->watching = pthread_create(&e->thread, NULL, watch, e) == 0;
}

void tf_edit_unwatch(struct tf_edit *e)
{
    uint64_t one = 1;
    if (!e->watching)
        return;
    (void)!write(e->done, &one, sizeof one);
    pthread_join(e->thread, NULL);
    e->watching = false;
}

/* ---- lines ---- */

static struct termios as_it_was;

/* Who is ended from outside does not leave a terminal behind that shows nothing. */
static void on_end(int sig)
{
    tcsetattr(STDIN_FILENO, TCSANOW, &as_it_was);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void catch_ends(void)
{
    static const int signals[] = {SIGTERM, SIGQUIT, SIGABRT};
    struct sigaction action = {.sa_handler = on_end}, before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(signals[i], &action, NULL);
}

struct tf_edit *tf_edit_open(struct tf_prompt *p)
{
    HistEvent event;
    struct tf_edit *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->p = p;
    e->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    tcgetattr(STDIN_FILENO, &e->cooked);
    as_it_was = e->cooked;
    catch_ends();
    /* In the C locale libedit drops what is not ASCII from a line without a word; terminals have UTF-8. */
    const char *locale = setlocale(LC_CTYPE, "");
    if (!locale || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    e->el = el_init("timefork", stdin, stdout, stderr);
    e->history = history_init();
    if (!e->el || !e->history) {
        tf_edit_close(e);
        return NULL;
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT_ESC, prompt_text, '\1');
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_SIGNAL, 0);
    /* Also between lines, so that no key is ever a signal. */
    el_set(e->el, EL_SETTY, "-d", "-isig", NULL);
    el_set(e->el, EL_SETTY, "-x", "-isig", "-icanon", "-echo", NULL);
    e->running = e->cooked;
    e->running.c_lflag &= ~(tcflag_t)(ISIG | ICANON | ECHO);
    e->running.c_cc[VMIN] = 1;
    e->running.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &e->running);
    el_set(e->el, EL_ADDFN, "tf-complete", "Completes commands, places, names", on_tab);
    el_set(e->el, EL_ADDFN, "tf-clear", "Clears the line", on_ctrl_c);
    el_set(e->el, EL_ADDFN, "tf-stop", "Stops the prompt", on_ctrl_z);
    el_set(e->el, EL_BIND, "\t", "tf-complete", NULL);
    el_set(e->el, EL_BIND, "^C", "tf-clear", NULL);
    el_set(e->el, EL_BIND, "^Z", "tf-stop", NULL);
    el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(e->el, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
    el_source(e->el, NULL);
    history(e->history, &event, H_SETSIZE, HISTORY_SIZE);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->el, EL_HIST, history, e->history);
    e->history_file = history_path();
    if (e->history_file)
        history(e->history, &event, H_LOAD, e->history_file);
    return e;
}

const char *tf_edit_read(struct tf_edit *e)
{
    HistEvent event;
    for (;;) {
        int n = 0;
        fflush(e->p->out);
        e->cleared = false;
        el_resize(e->el);
        if (e->ahead_len) {
            e->ahead[e->ahead_len] = 0;
            el_push(e->el, e->ahead);
            e->ahead_len = 0;
        }
        const char *line = el_gets(e->el, &n);
        if (e->cleared || (n < 0 && errno == EINTR))
            continue;
        if (!line || n <= 0) {
            fputc('\n', e->p->out);
            return NULL;
        }
        free(e->line);
        e->line = strndup(line, strcspn(line, "\n"));
        if (e->line && e->line[strspn(e->line, " \t")])
            history(e->history, &event, H_ENTER, e->line);
        return e->line;
    }
}

void tf_edit_close(struct tf_edit *e)
{
    if (e->history && e->el)
        save_history(e);
    if (e->el)
        el_end(e->el);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &e->cooked);
    if (e->history)
        history_end(e->history);
    if (e->done >= 0)
        close(e->done);
    free(e->history_file);
    free(e->line);
    free(e);
}
