/* CRIU with a process of our own: dumped, restored more than once, as root and as an ordinary user; what is
 * said when it cannot be; and that nothing is left behind. Skipped where there is no criu, or none that
 * works. */
#include "store_fixture.h"

#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "checkpoint/criu.h"

#define NOBODY 65534
#define MEMORY (4u << 20)

/* Where tests find a criu: that of the user, that of ./setup, that of the system. */
static void choose_criu(void)
{
    char exe[512], folder[600];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (getenv(TF_CRIU_ENV) || n < 0)
        return;
    exe[n] = 0;
    for (int i = 0; i < 2 && strrchr(exe, '/'); i++)
        *strrchr(exe, '/') = 0;
    snprintf(folder, sizeof folder, "%s/criu", exe);
    if (access(folder, R_OK) == 0)
        setenv(TF_CRIU_ENV, folder, 1);
}

/* ---- a process that can be dumped ---- */

struct process {
    pid_t pid;
    int socket;
};
struct answer {
    uint32_t sum;
    pid_t pid;
};

static int receive_fd(int socket)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(socket, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return fd;
}

static void send_fd(int socket, int fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    assert_int_equal(sendmsg(socket, &msg, 0), 1);
}

/* s: the sum of its memory; c: a copy serves a socket of its own. */
static _Noreturn void serve(int socket, const uint32_t *memory)
{
    char what;
    while (read(socket, &what, 1) == 1) {
        struct answer answer = {.pid = (pid_t)syscall(SYS_getpid)};
        if (what == 'c') {
            int own = receive_fd(socket);
            pid_t copy = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
            if (copy == 0) {
                close(socket);
                socket = own;
            } else {
                close(own);
                continue;
            }
            answer.pid = (pid_t)syscall(SYS_getpid);
        }
        for (size_t i = 0; i < MEMORY / 4; i++)
            answer.sum += memory[i];
        if (write(socket, &answer, sizeof answer) != sizeof answer)
            break;
    }
    _exit(0);
}

static struct answer ask(int socket)
{
    struct answer answer;
    assert_int_equal(write(socket, "s", 1), 1);
    assert_int_equal(read(socket, &answer, sizeof answer), sizeof answer);
    return answer;
}

/* map: a file to map, or NULL; extra: a descriptor too many. */
static struct process start_process(bool user_ns, const char *map, bool extra)
{
    int pair[2];
    struct process process;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    process.pid = fork();
    assert_true(process.pid >= 0);
    if (process.pid == 0) {
        uint32_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (uint32_t i = 0; i < MEMORY / 4; i++)
            memory[i] = i * 2654435761u;
        if (map) {
            int fd = open(map, O_RDONLY);
            if (fd < 0 || mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
                _exit(1);
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setsid();
        if (chdir("/") < 0 || dup2(pair[1], 0) < 0)
            _exit(1);
        close_range(extra ? 2 : 1, ~0u, 0);
        if (user_ns && unshare(CLONE_NEWUSER) < 0)
            _exit(1);
        serve(0, memory);
    }
    close(pair[1]);
    process.socket = pair[0];
    ask(process.socket); /* it has got so far */
    return process;
}

static void end_process(struct process process)
{
    kill(process.pid, SIGKILL);
    waitpid(process.pid, NULL, 0);
    close(process.socket);
}

static bool works(struct tf_criu *criu)
{
    struct tf_err err = {0};
#ifdef __SANITIZE_ADDRESS__
    print_message("skipped: a process with the sanitizer's memory is not dumped\n");
    return false;
#endif
    if (tf_criu_find(criu, &err)) {
        print_message("skipped: %s\n", err.msg);
        return false;
    }
    if (tf_criu_probe(criu, &err)) {
        print_message("skipped: criu does not work here: %s\n", err.msg);
        tf_criu_clear(criu);
        return false;
    }
    return true;
}

static bool ended(int socket)
{
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    char byte;
    return poll(&ready, 1, 5000) == 1 && read(socket, &byte, 1) <= 0;
}

/* ---- tests ---- */

static void round_trip(const struct tf_criu *criu)
{
    struct tf_criu_dump dump;
    struct answer was, is, copy;
    int sockets[2], pair[2], one = 1;
    pid_t keepers[2];
    struct stat st;
    struct process process = start_process(!criu->privileged, NULL, false);
    was = ask(process.socket);
    ok(tf_criu_dump_start(criu, process.pid, &dump, err));
    assert_int_equal(stat(dump.folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    ok(tf_criu_dump_poll(&dump, true, err));
    assert_true(ended(process.socket));
    end_process(process);
    int cancel = eventfd(1, EFD_CLOEXEC);
    refused(tf_criu_restore_unless(criu, dump.folder, cancel, &sockets[0], &keepers[0], err), TF_E_CANCELLED,
            "not complete");
    close(cancel);
    /* Twice at once, from one image. */
    for (int i = 0; i < 2; i++)
        ok(tf_criu_restore(criu, dump.folder, &sockets[i], &keepers[i], err));
    char *folder = strdup(dump.folder);
    tf_criu_dump_end(&dump);
    assert_true(stat(folder, &st) < 0 && errno == ENOENT);
    free(folder);
    for (int i = 0; i < 2; i++) {
        is = ask(sockets[i]);
        assert_int_equal(is.sum, was.sum);
        assert_int_equal(is.pid, was.pid);
    }
    /* A copy lives on when its maker ends, and is known by its pid out here. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one), 0);
    assert_int_equal(write(sockets[0], "c", 1), 1);
    send_fd(sockets[0], pair[1]);
    close(pair[1]);
    pid_t outer = tf_criu_sender(pair[0]);
    assert_int_equal(read(pair[0], &copy, sizeof copy), sizeof copy);
    assert_int_equal(copy.sum, was.sum);
    assert_int_not_equal(copy.pid, was.pid);
    assert_true(outer > 0);
    close(sockets[0]);
    assert_int_equal(ask(pair[0]).sum, was.sum);
    assert_int_equal(kill(outer, SIGKILL), 0);
    assert_true(ended(pair[0]));
    close(pair[0]);
    /* The last one has ended, so the keeper ends; the other is ended with all that it keeps. */
    assert_int_equal(waitpid(keepers[0], NULL, 0), keepers[0]);
    kill(keepers[1], SIGKILL);
    assert_true(ended(sockets[1]));
    close(sockets[1]);
    assert_int_equal(waitpid(keepers[1], NULL, 0), keepers[1]);
}

static void test_round_trip(void **state)
{
    struct tf_criu criu;
    (void)state;
    if (!works(&criu))
        skip();
    round_trip(&criu);
    tf_criu_clear(&criu);
}

/* In a child that has become an ordinary user. 77: skipped. */
static void test_ordinary_user(void **state)
{
    int status;
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: not root, so the test before was that of an ordinary user\n");
        skip();
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct tf_criu criu;
        if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) {
            print_message("skipped: this root cannot become user %d: %s\n", NOBODY, strerror(errno));
            fflush(stdout);
            _exit(77);
        }
        if (prctl(PR_SET_DUMPABLE, 1))
            _exit(1);
        if (!works(&criu)) {
            fflush(stdout);
            _exit(77);
        }
        if (criu.privileged)
            _exit(2);
        round_trip(&criu);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void test_refusals(void **state)
{
    struct tf_criu criu;
    struct tf_criu_dump dump;
    int socket;
    pid_t keeper;
    char file[256];
    (void)state;
    if (!works(&criu))
        skip();
    struct process process = start_process(!criu.privileged, NULL, true);
    refused(tf_criu_dump_start(&criu, process.pid, &dump, err), TF_E_USAGE, "1 sockets and 1 other");
    end_process(process);
    refused(tf_criu_dump_start(&criu, process.pid, &dump, err), TF_E_IO, "cannot be dumped");
    refused(tf_criu_restore(&criu, fx_dir, &socket, &keeper, err), TF_E_FORMAT, "not a file of a checkpoint");
    if (!criu.privileged) {
        process = start_process(false, NULL, false);
        refused(tf_criu_dump_start(&criu, process.pid, &dump, err), TF_E_IO, "it has none of its own");
        end_process(process);
    }
    /* A file that changes between the two. */
    snprintf(file, sizeof file, "%s/mapped", fx_dir);
    fx_write(file, "first", 5);
    process = start_process(!criu.privileged, file, false);
    ok(tf_criu_dump_start(&criu, process.pid, &dump, err));
    ok(tf_criu_dump_poll(&dump, true, err));
    end_process(process);
    unlink(file);
    fx_write(file, "another", 7);
    refused(tf_criu_restore(&criu, dump.folder, &socket, &keeper, err), TF_E_IO, "mapped");
    refused(tf_criu_restore(&criu, dump.folder, &socket, &keeper, err), TF_E_IO, "has changed since");
    unlink(file);
    refused(tf_criu_restore(&criu, dump.folder, &socket, &keeper, err), TF_E_IO, "is gone");
    tf_criu_dump_end(&dump);
    tf_criu_clear(&criu);
}

/* A supervisor that is killed leaves neither a folder nor a process. */
static void test_killed(void **state)
{
    struct tf_criu criu;
    struct {
        pid_t keeper;
        char folder[128];
    } told;
    int fds[2], status;
    (void)state;
    if (!works(&criu))
        skip();
    assert_int_equal(pipe(fds), 0);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        struct tf_criu_dump dump;
        int socket;
        struct process process = start_process(!criu.privileged, NULL, false);
        ok(tf_criu_dump_start(&criu, process.pid, &dump, err));
        ok(tf_criu_dump_poll(&dump, true, err));
        ok(tf_criu_restore(&criu, dump.folder, &socket, &told.keeper, err));
        snprintf(told.folder, sizeof told.folder, "%s", dump.folder);
        if (write(fds[1], &told, sizeof told) != sizeof told)
            _exit(1);
        pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &told, sizeof told), sizeof told);
    close(fds[0]);
    int keeper = (int)syscall(SYS_pidfd_open, told.keeper, 0);
    assert_true(keeper >= 0);
    assert_int_equal(access(told.folder, F_OK), 0);
    kill(supervisor, SIGKILL);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    struct pollfd gone = {.fd = keeper, .events = POLLIN};
    assert_int_equal(poll(&gone, 1, 10000), 1);
    close(keeper);
    for (int i = 0; i < 1000 && access(told.folder, F_OK) == 0; i++)
        usleep(10000);
    assert_int_not_equal(access(told.folder, F_OK), 0);
    tf_criu_clear(&criu);
}

static void test_find(void **state)
{
    struct tf_criu criu;
    char program[256], *was = getenv(TF_CRIU_ENV) ? strdup(getenv(TF_CRIU_ENV)) : NULL;
    static const char old[] = "#!/bin/sh\necho Version: 3.17.1\n", good[] = "#!/bin/sh\necho Version: 4.2\n",
                      none[] = "#!/bin/sh\nexit 1\n";
    (void)state;
    snprintf(program, sizeof program, "%s/criu", fx_dir);
    setenv(TF_CRIU_ENV, "", 1);
    refused(tf_criu_find(&criu, err), TF_E_NOTFOUND, "TIMEFORK_CRIU is empty");
    setenv(TF_CRIU_ENV, "/nowhere", 1);
    refused(tf_criu_find(&criu, err), TF_E_NOTFOUND, "neither the program criu nor");
    setenv(TF_CRIU_ENV, program, 1);
    fx_write(program, old, sizeof old - 1);
    chmod(program, 0755);
    refused(tf_criu_find(&criu, err), TF_E_NOTFOUND, "3.17.1");
    fx_write(program, none, sizeof none - 1);
    refused(tf_criu_find(&criu, err), TF_E_NOTFOUND, "does not start");
    fx_write(program, good, sizeof good - 1);
    ok(tf_criu_find(&criu, err));
    assert_string_equal(criu.version, "4.2");
    assert_string_equal(criu.path, program);
    refused(tf_criu_probe(&criu, err), TF_E_IO, ""); /* it dumps nothing */
    tf_criu_clear(&criu);
    unlink(program);
    if (was)
        setenv(TF_CRIU_ENV, was, 1);
    else
        unsetenv(TF_CRIU_ENV);
    free(was);
}

/* Where folders are made, and that those of who was killed go. */
static void test_folders(void **state)
{
    char *folder, *other, file[256];
    int fds[2], n;
    struct stat st;
    (void)state;
    refused(tf_criu_folder(1ull << 60, &folder, err), TF_E_FULL, "TMPDIR names another one");
    ok(tf_criu_folder(1000, &folder, err));
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(pipe(fds), 0);
    pid_t killed = fork();
    if (killed == 0) {
        ok(tf_criu_folder(1000, &other, err));
        snprintf(file, sizeof file, "%s/x", other);
        fx_write(file, "x", 1);
        if (write(fds[1], other, strlen(other)) < 0)
            _exit(1);
        pause();
    }
    close(fds[1]);
    n = (int)read(fds[0], file, sizeof file - 1);
    assert_true(n > 0);
    file[n] = 0;
    close(fds[0]);
    ok(tf_criu_folder(1000, &other, err)); /* both live */
    tf_criu_folder_remove(other);
    assert_int_equal(stat(file, &st), 0);
    kill(killed, SIGKILL);
    waitpid(killed, NULL, 0);
    ok(tf_criu_folder(1000, &other, err));
    assert_true(stat(file, &st) < 0 && errno == ENOENT);
    assert_int_equal(stat(folder, &st), 0);
    tf_criu_folder_remove(other);
    tf_criu_folder_remove(folder);
    tf_criu_folder_remove(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),       cmocka_unit_test(test_folders),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_ordinary_user),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_killed),
    };
    choose_criu();
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
