#include "engine/pure.h"
enum tf_pure tf_pure_truth(const uint8_t *program, size_t len, const struct tf_pure_scope *scope, bool *truth)
{
    (void)program, (void)len, (void)scope, (void)truth;
    return TF_PURE_CANNOT;
}
enum tf_pure tf_pure_fingerprint(const uint8_t *program, size_t len, const struct tf_pure_scope *scope,
                                 uint64_t *fingerprint)
{
    (void)program, (void)len, (void)scope, (void)fingerprint;
    return TF_PURE_CANNOT;
}
