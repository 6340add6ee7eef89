/* search.c: see search.h. */
#include "replay/search.h"
#include "replay/move.h"

int tf_expr_prepare(struct tf_timeline *timeline, const char *text, uint32_t frame, struct tf_expr **out,
                    struct tf_err *err)
{
    (void)timeline, (void)text, (void)frame, (void)out;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
void tf_expr_free(struct tf_expr *expr)
{
    (void)expr;
}
int tf_search_forward(struct tf_timeline *timeline, struct tf_position from, struct tf_position limit,
                      const struct tf_point *points, size_t n, struct tf_hit *hit,
                      const struct tf_search_opts *opts, struct tf_err *err)
{
    (void)timeline, (void)from, (void)limit, (void)points, (void)n, (void)hit, (void)opts;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
int tf_search_backward(struct tf_timeline *timeline, struct tf_position from, struct tf_position limit,
                       const struct tf_point *points, size_t n, struct tf_hit *hit,
                       const struct tf_search_opts *opts, struct tf_err *err)
{
    (void)timeline, (void)from, (void)limit, (void)points, (void)n, (void)hit, (void)opts;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
int tf_search_each(struct tf_timeline *timeline, struct tf_position from, struct tf_position to,
                   const struct tf_point *points, size_t n, int (*fn)(void *ctx, const struct tf_hit *hit),
                   void *ctx, const struct tf_search_opts *opts, struct tf_err *err)
{
    (void)timeline, (void)from, (void)to, (void)points, (void)n, (void)fn, (void)ctx, (void)opts;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
int tf_move(struct tf_timeline *timeline, const struct tf_stop *here, const struct tf_move_req *req,
            struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    (void)timeline, (void)here, (void)req, (void)hit, (void)opts;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
int tf_move_opening(struct tf_timeline *timeline, struct tf_position *out, struct tf_err *err)
{
    (void)timeline, (void)err;
    *out = (struct tf_position){1, 0};
    return 0;
}
int tf_move_call(struct tf_timeline *timeline, const uint32_t *codes, size_t codes_n, uint64_t n,
                 uint64_t *frame, struct tf_err *err)
{
    (void)timeline, (void)codes, (void)codes_n, (void)n, (void)frame;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
int tf_move_time(struct tf_timeline *timeline, uint64_t time_ns, uint64_t *frame, struct tf_err *err)
{
    (void)timeline, (void)time_ns, (void)frame;
    return tf_err_set(err, TF_E_REPLAY, "searching is being built");
}
