/* clang-format off */
/*
 * calls.h: the one definition of every system call that timefork covers.
 *
 * Record and replay both read a call's row here, so they cannot drift apart; the supervisor reads it to print
 * calls. A row has a signature, one letter an argument, that says what the kernel reads through it (which is
 * compared in replay) and what it writes through it (which is logged, and given back in replay):
 *
 *   Numbers and addresses
 *   d  32-bit integer: descriptors, flags
 *   i  64-bit integer: lengths, offsets
 *   p  address in the program's memory map: compared
 *   *  other pointer: compared for being NULL (where the stack stands may depend on whether a stop is watched for)
 *   _  ignored
 *
 *   Read by the kernel. All pointers may be NULL; what is hashed, by XXH3-64
 *   s  path or other C string
 *   b  bytes, the next argument says how many: hashed
 *   x  bytes, the argument in front says how many: hashed
 *   v  struct iovec array, next argument the count: hashed
 *   V  NULL-terminated array of strings: hashed, and their text, up to 1 kB         H  the same, hashed only
 *   A  socket address, next argument its length: hashed
 *   m  struct msghdr (sendmsg): hashed
 *   T  timespec or timeval (16 bytes)       M  two of them, or another 32 bytes     D  4 bytes
 *   l  rlimit (16)                          k  signal set (8)                       E  one epoll event (12)
 *   Q  struct sigevent: signal and kind     K  pselect6's pointer to a signal set
 *   B  set of nodes, next argument the number of bits and one more: hashed
 *   G  gid_t array, the argument in front says how many: hashed
 *   h  struct file_handle: hashed           z  struct sched_attr: hashed
 *
 *   Written by the kernel, on success. All pointers may be NULL
 *   r  bytes: as many as the result says
 *   w  struct iovec array, next argument the count: as many bytes as the result says
 *   C  bytes: as many as the next argument says
 *   a  socket address, next argument the pointer to its length (in and out)
 *   o  bytes, next argument the pointer to their length (in and out): getsockopt
 *   e  epoll events: 12 bytes for each that the result says
 *   g  gid_t array: 4 bytes for each that the result says
 *   n  struct msghdr (recvmsg): see call_socket.c; compared is how much room there is
 *   t  16 bytes, also when a signal came    W  4 bytes                P  two ints
 *   S  struct stat (144)                    X  struct statx (256)     F  struct statfs (120)
 *   U  struct rusage (144)                  N  struct utsname (390)   Y  struct sysinfo (112)
 *   Z  struct tms (32)                      O  another 32 bytes       L  rlimit (16)
 *   j  siginfo_t (128)                      J  64 bytes
 *
 *   Read and written
 *   q  8 bytes                              u  16 bytes: a time, of which the rest is written, also when a signal came
 *   y  struct pollfd array, next argument the count
 *   f  fd_set; the first argument says how many bits
 *
 * Encoding of the arguments in the log: each letter's compared part in order: numbers 8 bytes; strings u32
 * length (without NUL; 0xffffffff for NULL), u32 0, bytes padded to 8; hashed bytes 8 bytes; small structures
 * as they are, behind 8 bytes that say whether the pointer was there. The data are the written parts in order
 * of the arguments, without padding, each only as long as was written.
 */
/* clang-format on */
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
/* The row of a system call, or of one of libc's calls that are logged as a whole (TF_CALL_SEM_...); NULL:
 * there is none. */
const struct tf_call_row *tf_call_row(unsigned call);

/* Bytes of a structure that is read, and logged as it is: 0 for letters that are not of that kind. */
size_t tf_call_in_size(char letter);
/* Is there something of an argument in the log that is compared? Not of one that is only written. */
bool tf_call_is_read(char letter);
/* One of the events that say which thread has its turn: nothing came from outside, so lists of what did leave
 * them out. */
bool tf_call_is_turn(unsigned call);
/* Name of a system call, covered or not; "syscall 999" forms go to buf. */
const char *tf_call_name(unsigned call, char *buf, size_t size);
/* A logged call for people: openat(-100, "/etc/hosts", 524288) = 3. Returns the length, at most size - 1. */
struct tf_outside;
size_t tf_call_format(char *buf, size_t size, const struct tf_outside *event);
/* The same from parts (result may be unknown: known_result 0). */
size_t tf_call_format_args(char *buf, size_t size, unsigned call, const uint8_t *args, size_t args_len);

#endif
