/*
 * divergence.h: what is known of a replay that parted from its recording. In the supervisor.
 *
 * The last one of a timeline belongs to the timeline until it is taken. It holds what was found at once: what
 * both sides had, and up to where everything was equal. Who shows it asks for more, which takes time:
 * tf_divergence_locate() for the Python stack where frame events differ, tf_divergence_causes() for what has
 * changed since the recording, tf_divergence_again() for a second replay.
 */
#ifndef TF_DIVERGENCE_H
#define TF_DIVERGENCE_H

#include "replay/timeline.h"

#define TF_DIVERGENCE_CALLS 5u /* outside calls before it that are shown, if nothing else is asked for */
#define TF_DIVERGENCE_CALLS_MAX 1000u

/* One thing in which the two sides differ; texts for people. */
struct tf_unlike {
    char *what, *recorded, *did;
};
/* Frame events up to the first that differs; did is NULL where both have the same. */
struct tf_event_pair {
    uint64_t frame;
    char *recorded, *did;
};
struct tf_call_before {
    uint64_t seq, frame;
    char *text;
};
/* Something that may have made the difference, and what says so. */
struct tf_cause {
    char *what, *basis;
};
enum tf_again {
    TF_AGAIN_NOT_TRIED,
    TF_AGAIN_SAME,   /* a second replay from the start did the same */
    TF_AGAIN_OTHER,  /* it differed otherwise */
    TF_AGAIN_EQUAL,  /* it went on past the place */
    TF_AGAIN_FAILED, /* it could not be made */
};

struct tf_divergence {
    enum tf_diverged kind;
    bool searching;       /* it was a copy that searched */
    uint64_t frame;       /* everything is equal up to this frame event */
    uint64_t outside;     /* and so many outside events */
    char *text;           /* one sentence */
    char *then;           /* EVENT, found by an outside call that differs as well: that sentence; or NULL */
    char *recorded, *did; /* what both sides had; NULL: nothing that could be shown */
    struct tf_unlike *unlike;
    size_t unlike_n;
    char *note; /* what cannot be shown, or NULL */
    struct tf_event_pair *events;
    size_t events_n;
    char *stack;         /* lines "FILE:LINE in FUNCTION", innermost first; "" if no Python function runs */
    bool stack_recorded; /* they are the recording's functions, without lines */
    struct tf_call_before *calls; /* oldest first */
    size_t calls_n;
    struct tf_cause *causes; /* most likely first */
    size_t causes_n;
    bool causes_known;
    enum tf_again again;
    char *again_text;       /* what the second replay did, or why there is none */
    unsigned again_n;       /* how many replays did the same, or the first that did not */
    char *counter;          /* where the last of them has read the time stamp counter, or NULL */
    uint64_t counter_first; /* after which frame event it did so first */

    /* For telling two of them apart, and for looking further. */
    uint64_t offset; /* of the first outside event that was not compared as equal */
    uint32_t call;
    uint64_t print;  /* digest of what the program did */
    uint32_t *words; /* EVENT: the event words from the first that differs on */
    uint32_t words_n;
    bool in_structure; /* nothing differs but bytes of a structure that may have holes */
    bool located;
};

/* Of the timeline's last replay or search; NULL: it did not diverge. */
struct tf_divergence *tf_timeline_divergence(struct tf_timeline *timeline);
/* The same, and it is the caller's. */
struct tf_divergence *tf_timeline_take_divergence(struct tf_timeline *timeline);
void tf_divergence_free(struct tf_divergence *divergence);

/* How many outside calls before a divergence its report shall have. */
void tf_timeline_report_calls(struct tf_timeline *timeline, size_t n);
/* Where the frame events differ: finds the Python stack in front of the first that does, by replaying up to
 * it; does nothing otherwise. The present stays. */
void tf_divergence_locate(struct tf_timeline *timeline, struct tf_divergence *divergence);
/* Replays again, from the start to behind the place. The present stays. TF_E_CANCELLED. */
int tf_divergence_again(struct tf_timeline *timeline, struct tf_divergence *divergence, struct tf_err *err);
/* What may have made the difference. thorough: all mapped files are read; else those whose size or time is
 * another one. */
int tf_divergence_causes(struct tf_timeline *timeline, struct tf_divergence *divergence, bool thorough,
                         struct tf_err *err);
const char *tf_divergence_kind(enum tf_diverged kind); /* one word or two, as in docs/json.md */

#endif
