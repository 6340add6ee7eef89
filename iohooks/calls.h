/*
 * calls.h: the one definition of every system call that timefork covers.
 *
 * Record and replay both read a call's row here, so they cannot drift apart; the supervisor reads it to print
 * calls. A row has a signature, one letter an argument, that says what the kernel reads through it (which is
 * compared in replay) and what it writes through it (which is logged, and given back in replay):
 *
 *   d  32-bit integer: descriptors, flags                i  64-bit integer: lengths, offsets
 *   p  address in the program's memory map: compared     *  other pointer: compared for being NULL (where the
 *   _  ignored                                              stack stands may depend on whether a stop is
 * watched for) s  path or other C string b  bytes read by the kernel, the next argument says how many
 * (compared by XXH3-64) r  bytes written by the kernel: as many as the result says v  struct iovec array read
 * by the kernel, next argument the count; total bytes as the result says (compared up to there in record: all
 * bytes are hashed) w  struct iovec array written by the kernel: as many bytes as the result says T  timespec
 * or timeval in (16 bytes), may be NULL    M  two of them in (32 bytes), may be NULL t  16 bytes out on
 * success, may be NULL              q  8 bytes in and out, may be NULL W  4 bytes out on success, may be NULL
 * P  two ints out on success S  struct stat out (144)   X struct statx out (256) F  struct statfs out (120)
 * U  struct rusage out (144) N  struct utsname out (390) Y struct sysinfo out (112)  Z struct tms out (32) L
 * rlimit out (16)  l rlimit in (16) a  socket address out, next argument the pointer to its length (in and
 * out) A  socket address in, next argument its length o bytes out, next argument the pointer to their length
 * (in and out): getsockopt e  epoll events out: 12 bytes for each that the result says      E  one epoll
 * event in (12 bytes) y  struct pollfd array in and out, next argument the count f  fd_set in and out, may be
 * NULL; the first argument says how many bits m  struct msghdr read (sendmsg)                      n  struct
 * msghdr written (recvmsg) g  gid_t array out: 4 bytes for each that the result says c  bytes out: as many as
 * the previous argument says (sched_getaffinity writes what the result says: r) k  sigset in (8 bytes), may
 * be NULL
 *   V  NULL-terminated array of strings in: hashed, and their text, up to 1 kB   H  the same, hashed only
 *   j  siginfo_t out (128)
 *
 * Encoding of the arguments in the log: each letter's compared part in order: numbers 8 bytes; strings u32
 * length (without NUL; 0xffffffff for NULL), u32 0, bytes padded to 8; hashed bytes 8 bytes; small structures
 * as they are, behind 8 bytes that say whether the pointer was there. The data are the written parts in order
 * of the arguments, without padding, each only as long as was written; nothing when the call failed (but q,
 * a, o, y, f and n as documented at their code).
 */
#ifndef TF_CALLS_H
#define TF_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tf_call_class {
    TF_CLASS_NONE = 0, /* not covered: a replay stops here */
    TF_CLASS_LOG,      /* answered from the log in replay; no effect there */
    TF_CLASS_RUN,     /* changes only the process itself: done again in replay, the result must be the same */
    TF_CLASS_SPECIAL, /* has a function of its own */
};

struct tf_call_row {
    const char *name;
    const char *sig;
    uint8_t cls; /* enum tf_call_class */
};

#define TF_CALL_ROWS 512
extern const struct tf_call_row tf_call_rows[TF_CALL_ROWS];

/* Bytes of a structure that is read, and logged as it is: 0 for letters that are not of that kind. */
size_t tf_call_in_size(char letter);
/* Is there something of an argument in the log that is compared? Not of one that is only written. */
bool tf_call_is_read(char letter);
/* Name of a system call, covered or not; "syscall 999" forms go to buf. */
const char *tf_call_name(unsigned call, char *buf, size_t size);
/* A logged call for people: openat(-100, "/etc/hosts", 524288) = 3. Returns the length, at most size - 1. */
struct tf_outside;
size_t tf_call_format(char *buf, size_t size, const struct tf_outside *event);
/* The same from parts (result may be unknown: known_result 0). */
size_t tf_call_format_args(char *buf, size_t size, unsigned call, const uint8_t *args, size_t args_len);

#endif
