/*
 * machine.c: see machine.h. The supervisor asks; it runs on the same processors and under the same kernel as
 * the program.
 *
 * Of the processor: libraries choose between versions of a function by its features (glibc's ifuncs do before
 * the first instruction of the program), and no call tells.
 */
#include "store/machine.h"

#include <cpuid.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xxhash.h>
#include "store/db.h"

#define NOTES_MAX (1u << 20)

/* ---- facts ---- */

struct facts {
    struct tf_fact *v;
    size_t n;
    bool no_memory;
};

static void add(struct facts *f, const char *key, const char *value, size_t len)
{
    struct tf_fact *more = realloc(f->v, (f->n + 1) * sizeof *more);
    if (!more) {
        f->no_memory = true;
        return;
    }
    f->v = more;
    f->v[f->n] = (struct tf_fact){strdup(key), strndup(value, len)};
    if (!f->v[f->n].key || !f->v[f->n].value)
        f->no_memory = true;
    f->n++;
}

static void add_number(struct facts *f, const char *key, unsigned long long value, const char *format)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    add(f, key, text, strlen(text));
}

const char *tf_fact(const struct tf_fact *facts, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(facts[i].key, key) == 0)
            return facts[i].value;
    return NULL;
}

void tf_facts_free(struct tf_fact *facts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(facts[i].key);
        free(facts[i].value);
    }
    free(facts);
}

/* The beginning of a file of the kernel's, with a NUL behind it; its length. */
static size_t read_file(const char *path, char *buf, size_t size)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    buf[len] = 0;
    return len;
}

/* The line "NAME : VALUE" of the first processor in /proc/cpuinfo. */
static void add_cpuinfo(struct facts *f, const char *key, const char *cpuinfo, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = cpuinfo; *line && *line != '\n'; line += line[strcspn(line, "\n")] == '\n') {
        const char *colon = strchr(line, ':');
        if (strncmp(line, name, n) == 0 && (line[n] == '\t' || line[n] == ' ' || line[n] == ':') && colon) {
            colon += 1 + strspn(colon + 1, " \t");
            add(f, key, colon, strcspn(colon, "\n"));
            return;
        }
        line += strcspn(line, "\n");
    }
}

/* Which register states the kernel lets programs use: bit 2 is AVX, bits 5 to 7 AVX-512. */
static void add_xcr0(struct facts *f)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    add_number(f, "xcr0", (unsigned long long)high << 32 | low, "%#llx");
}

static void add_limit(struct facts *f, const char *key, int which)
{
    struct rlimit limit;
    if (getrlimit(which, &limit))
        return;
    if (limit.rlim_cur == RLIM_INFINITY)
        add(f, key, "unlimited", 9);
    else
        add_number(f, key, limit.rlim_cur, "%llu bytes");
}

int tf_machine_now(struct tf_fact **out, size_t *n, struct tf_err *err)
{
    static const char *const settings[] = {"vm/overcommit_memory", "vm/legacy_va_layout", "vm/mmap_min_addr",
                                           "vm/max_map_count"};
    struct facts f = {0};
    struct utsname uts;
    char text[16384];

    *out = NULL;
    *n = 0;
    read_file("/proc/cpuinfo", text, sizeof text);
    add_cpuinfo(&f, "cpu model", text, "model name");
    add_cpuinfo(&f, "cpu flags", text, "flags");
    add_xcr0(&f);
    add_number(&f, "hwcap", getauxval(AT_HWCAP), "%#llx");
    add_number(&f, "hwcap2", getauxval(AT_HWCAP2), "%#llx");
    if (uname(&uts) == 0) {
        add(&f, "kernel", uts.release, strlen(uts.release));
        add(&f, "kernel build", uts.version, strlen(uts.version));
    }
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/%s", settings[i]);
        size_t len = read_file(path, text, sizeof text);
        while (len && text[len - 1] == '\n')
            len--;
        if (len)
            add(&f, settings[i], text, len);
    }
    add_limit(&f, "address space limit", RLIMIT_AS);
    add_limit(&f, "data limit", RLIMIT_DATA);
    add(&f, "timefork", TF_VERSION, strlen(TF_VERSION));
    if (f.no_memory) {
        tf_facts_free(f.v, f.n);
        return tf_db_memory(err);
    }
    *out = f.v;
    *n = f.n;
    return 0;
}

int tf_store_machine(struct tf_store *store, const struct tf_run *run, struct tf_fact **out, size_t *n,
                     struct tf_err *err)
{
    struct facts f = {0};
    struct tf_lineage lineage;
    sqlite3_stmt *stmt = NULL;
    *out = NULL;
    *n = 0;
    if (!tf_db_has_table(store, "machine"))
        return 0;
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(store, "SELECT key, value FROM machine WHERE run = ? ORDER BY key", &stmt, err);
    if (!rc) /* a forked process is on the machine of the one that began */
        sqlite3_bind_int64(stmt, 1, lineage.n ? lineage.v[0].run : run->rowid);
    tf_lineage_free(&lineage);
    if (rc)
        return rc;
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        char *key = tf_db_text(stmt, 0), *value = tf_db_text(stmt, 1);
        if (key && value)
            add(&f, key, value, strlen(value));
        else
            f.no_memory = true;
        free(key);
        free(value);
    }
    sqlite3_finalize(stmt);
    if (rc == 0 && f.no_memory)
        rc = tf_db_memory(err);
    if (rc) {
        tf_facts_free(f.v, f.n);
        return rc;
    }
    *out = f.v;
    *n = f.n;
    return 0;
}

/* ---- files ---- */

/* Looks for the note in a segment of notes. */
static bool find_note(const uint8_t *notes, size_t len, char *text)
{
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= len;) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        size_t name = ((size_t)note.n_namesz + 3) & ~3ul, desc = ((size_t)note.n_descsz + 3) & ~3ul;
        if (name > len - at || desc > len - at - name)
            return false;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + at, "GNU", 4) == 0) {
            size_t n =
                note.n_descsz < (TF_BUILD_ID_TEXT - 1) / 2 ? note.n_descsz : (TF_BUILD_ID_TEXT - 1) / 2;
            for (size_t i = 0; i < n; i++)
                snprintf(text + 2 * i, 3, "%02x", notes[at + name + i]);
            return n > 0;
        }
        at += name + desc;
    }
    return false;
}

const char *tf_build_id(const char *path, char *text)
{
    Elf64_Ehdr elf;
    Elf64_Phdr part;
    bool found = false;
    *text = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return text;
    if (pread(fd, &elf, sizeof elf, 0) == sizeof elf && memcmp(elf.e_ident, ELFMAG, SELFMAG) == 0 &&
        elf.e_ident[EI_CLASS] == ELFCLASS64 && elf.e_phentsize == sizeof part)
        for (unsigned i = 0; !found && i < elf.e_phnum; i++) {
            off_t at = (off_t)(elf.e_phoff + i * sizeof part);
            if (pread(fd, &part, sizeof part, at) != sizeof part)
                break;
            if (part.p_type != PT_NOTE || !part.p_filesz || part.p_filesz > NOTES_MAX)
                continue;
            uint8_t *notes = malloc(part.p_filesz);
            if (notes && pread(fd, notes, part.p_filesz, (off_t)part.p_offset) == (ssize_t)part.p_filesz)
                found = find_note(notes, part.p_filesz, text);
            free(notes);
        }
    close(fd);
    return text;
}

int tf_file_digest(const char *path, uint64_t *digest, uint64_t *size, int64_t *mtime_ns)
{
    /* The interpreter is asked for twice. */
    static struct stat last;
    static uint64_t last_digest;
    struct stat st;
    char buf[65536];
    ssize_t n = -1;
    XXH3_state_t *state = XXH3_createState();
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (!state || fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
        goto out;
    XXH3_64bits_reset(state);
    if (st.st_ino == last.st_ino && st.st_dev == last.st_dev && st.st_size == last.st_size &&
        memcmp(&st.st_ctim, &last.st_ctim, sizeof st.st_ctim) == 0) {
        n = 0;
    } else {
        while ((n = read(fd, buf, sizeof buf)) > 0)
            XXH3_64bits_update(state, buf, (size_t)n);
        last_digest = XXH3_64bits_digest(state);
        last = st;
        if (n < 0)
            last.st_ino = 0;
    }
    *digest = last_digest;
    *size = (uint64_t)st.st_size;
    *mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
out:
    XXH3_freeState(state);
    if (fd >= 0)
        close(fd);
    return n == 0 ? 0 : -1;
}
