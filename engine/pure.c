/*
 * pure.c: expressions as small programs that are evaluated without Python's help. See pure.h.
 *
 * The program. Bytes; numbers in the machine's byte order, at any address. It starts with the format's
 * version (u8) and the stack that it needs (u8, in values). Then instructions for a stack machine follow, an
 * opcode (u8) and its operands:
 *
 *   OBJECT                            the object that the program is about is pushed
 *   NAME text, ATTR text              a variable is pushed; an attribute takes its object's place
 *   NONE, FALSE, TRUE, INT i64, FLOAT f64, STR text, BYTES u32 length and bytes,
 *   BIG u8 negative, u32 count, u32 digits of 30 bits, the lowest first      constants
 *   SUBSCRIPT                         object, key -> item
 *   SLICE u8                          object, lower if bit 0, upper if bit 1 -> slice, of step 1
 *   UNARY u8, BINARY u8               the operation as a character, '/' doubled being 'd', '**' 'p', '<<'
 * 'l',
 *                                     '>>' 'r'
 *   COMPARE u8                        enum comparison
 *   CHAIN u8, u32                     the same inside a < b < c: if it is false, False takes the place of
 * both and it goes on at the offset, else the second one stays NOT JUMP u32, JUMP_IF_FALSE u32       to the
 * offset, counted from the start; the second takes the value away AND u32, OR u32                   jump and
 * keep the value if it is false (true), else take it away TUPLE u16, LIST u16, SET u16      so many values ->
 * one CALL u8, u8, text                 enum builtin, count of arguments; text is the name to be looked up
 *   END
 *
 * A text is u8 bytes per character, u32 characters, i64 the hash that Python gives it, and the characters.
 * Hashes are secret to a run, and so programs are good for processes of one run only.
 *
 * Values. Numbers, strings and the like are taken out of their objects into struct value; all else is looked
 * at where it is. References are borrowed and not counted: nobody else runs meanwhile. What is made on the
 * way lives in static memory until the next evaluation.
 *
 * Truth about objects of the program's own classes is taken from type slots: a slot that is the one of
 * object, list, dict... does what it does there. Any other slot may run Python code: TF_PURE_CANNOT.
 */
#include "engine/compat.h"
#include <internal/pycore_dict.h>
#include <internal/pycore_long.h>
#include <internal/pycore_moduleobject.h>
#include <internal/pycore_object.h>
#include <internal/pycore_typeobject.h>
#include <math.h>
#include <structmember.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/local.h"
#include "engine/pure_local.h"

#define MAX_DEPTH 16 /* of lists in lists that are compared or hashed */
#define ARENA 1024   /* values that tuples, lists and slices made on the way hold together */

/* ---- Values. */

static struct value stack[MAX_STACK], arena[ARENA];
static size_t arena_used;

static struct value of_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .object = b ? Py_True : Py_False, .i = b};
}

static struct value of_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}

static struct value of_float(double d)
{
    return (struct value){.kind = V_FLOAT, .d = d};
}

static struct value of_none(void)
{
    return (struct value){.kind = V_NONE, .object = Py_None};
}

static void take_int(PyLongObject *l, struct value *v)
{
#if TF_PY311
    Py_ssize_t size = Py_SIZE(l);
    const digit *digits = l->ob_digit;
    bool negative = size < 0;
    size_t n = (size_t)(negative ? -size : size);
#else
    const digit *digits = l->long_value.ob_digit;
    bool negative = _PyLong_IsNegative(l);
    size_t n = (size_t)_PyLong_DigitCount(l);
#endif
    uint64_t u = 0;
    bool fits = n <= 3;
    for (size_t i = n; fits && i-- > 0;) {
        fits = u >> (64 - PyLong_SHIFT) == 0;
        u = u << PyLong_SHIFT | digits[i];
    }
    if (fits && u <= (uint64_t)INT64_MAX + negative) {
        v->kind = V_INT;
        v->i = negative ? (int64_t)(0 - u) : (int64_t)u;
    } else {
        v->kind = V_BIG;
        v->negative = negative;
        v->big.digits = (const uint8_t *)digits;
        v->big.count = n;
    }
}

static struct value of_object(PyObject *o)
{
    struct value v = {.kind = V_OBJECT, .object = o};
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyLong_Type) {
        take_int((PyLongObject *)o, &v);
    } else if (type == &PyUnicode_Type) {
        if (!PyUnicode_IS_READY(o))
            return v;
        v.kind = V_STR;
        v.width = (uint8_t)PyUnicode_KIND(o);
        v.s.data = PyUnicode_DATA(o);
        v.s.len = (size_t)PyUnicode_GET_LENGTH(o);
        v.s.hash = ((PyASCIIObject *)o)->hash;
    } else if (o == Py_None) {
        v.kind = V_NONE;
    } else if (type == &PyBool_Type) {
        v.kind = V_BOOL;
        v.i = o == Py_True;
    } else if (type == &PyFloat_Type) {
        v.kind = V_FLOAT;
        v.d = PyFloat_AS_DOUBLE(o);
    } else if (type == &PyBytes_Type) {
        v.kind = V_BYTES;
        v.s.data = (const uint8_t *)PyBytes_AS_STRING(o);
        v.s.len = (size_t)PyBytes_GET_SIZE(o);
    } else if (type == &PyComplex_Type) {
        v.kind = V_COMPLEX;
        v.c.real = ((PyComplexObject *)o)->cval.real;
        v.c.imag = ((PyComplexObject *)o)->cval.imag;
    }
    return v;
}

static PyTypeObject *type_of(const struct value *v)
{
    switch (v->kind) {
    case V_NONE:
        return Py_TYPE(Py_None);
    case V_BOOL:
        return &PyBool_Type;
    case V_INT:
    case V_BIG:
        return &PyLong_Type;
    case V_FLOAT:
        return &PyFloat_Type;
    case V_COMPLEX:
        return &PyComplex_Type;
    case V_STR:
        return &PyUnicode_Type;
    case V_BYTES:
        return &PyBytes_Type;
    case V_TUPLE:
        return &PyTuple_Type;
    case V_LIST:
        return &PyList_Type;
    case V_SET:
        return &PySet_Type;
    }
    return Py_TYPE(v->object);
}

static bool is_integer(const struct value *v)
{
    return v->kind == V_INT || v->kind == V_BOOL;
}

static bool is_number(const struct value *v)
{
    return is_integer(v) || v->kind == V_BIG || v->kind == V_FLOAT;
}

static bool is_scalar(const struct value *v)
{
    return v->kind <= V_BYTES;
}

static uint32_t char_at(const struct value *s, size_t i)
{
    uint16_t two;
    uint32_t four;
    switch (s->width) {
    case 1:
        return s->s.data[i];
    case 2:
        memcpy(&two, s->s.data + 2 * i, sizeof(two));
        return two;
    }
    memcpy(&four, s->s.data + 4 * i, sizeof(four));
    return four;
}

/* The bytes per character that Python would give a string with these characters. */
static uint8_t narrowest(const struct value *s)
{
    uint32_t all = 0;
    if (!s->loose || s->width == 1)
        return s->width;
    for (size_t i = 0; i < s->s.len; i++)
        all |= char_at(s, i);
    return all < 0x100 ? 1 : all < 0x10000 ? 2 : 4;
}

/* Tuples and lists, made here or not, by items. */
struct view {
    bool list;
    size_t count;
    PyObject **objects; /* one of the two */
    const struct value *values;
};

/* Is it exactly a tuple or a list? */
static bool view_of(const struct value *v, struct view *view)
{
    if (v->kind == V_TUPLE || v->kind == V_LIST) {
        *view = (struct view){v->kind == V_LIST, v->seq.count, NULL, v->seq.items};
        return true;
    }
    if (v->kind != V_OBJECT)
        return false;
    if (PyTuple_CheckExact(v->object))
        *view = (struct view){false, (size_t)Py_SIZE(v->object), ((PyTupleObject *)v->object)->ob_item, NULL};
    else if (PyList_CheckExact(v->object))
        *view = (struct view){true, (size_t)Py_SIZE(v->object), ((PyListObject *)v->object)->ob_item, NULL};
    else
        return false;
    return true;
}

static struct value view_item(const struct view *view, size_t i)
{
    return view->objects ? of_object(view->objects[i]) : view->values[i];
}

/* ---- Comparisons. */

static enum tf_pure compare(const struct value *a, const struct value *b, int op, int depth, bool *result);

static enum tf_pure by_order(int order, int op, bool *result)
{
    switch (op) {
    case Py_LT:
        *result = order < 0;
        break;
    case Py_LE:
        *result = order <= 0;
        break;
    case Py_EQ:
        *result = order == 0;
        break;
    case Py_NE:
        *result = order != 0;
        break;
    case Py_GT:
        *result = order > 0;
        break;
    default:
        *result = order >= 0;
    }
    return TF_PURE_OK;
}

static int order_of_int_and_float(int64_t i, double d)
{
    if (d >= 0x1p63)
        return -1;
    if (d < -0x1p63)
        return 1;
    int64_t whole = (int64_t)d;
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static int order_of_bigs(const struct value *a, const struct value *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    int sign = a->negative ? -1 : 1;
    if (a->big.count != b->big.count)
        return a->big.count < b->big.count ? -sign : sign;
    for (size_t i = a->big.count; i-- > 0;) {
        digit x, y;
        memcpy(&x, a->big.digits + i * sizeof(digit), sizeof(digit));
        memcpy(&y, b->big.digits + i * sizeof(digit), sizeof(digit));
        if (x != y)
            return x < y ? -sign : sign;
    }
    return 0;
}

static enum tf_pure compare_numbers(const struct value *a, const struct value *b, int op, bool *result)
{
    if (is_integer(a) && is_integer(b))
        return by_order((a->i > b->i) - (a->i < b->i), op, result);
    if ((a->kind == V_FLOAT && isnan(a->d)) || (b->kind == V_FLOAT && isnan(b->d))) {
        *result = op == Py_NE;
        return TF_PURE_OK;
    }
    if (a->kind == V_FLOAT && b->kind == V_FLOAT)
        return by_order((a->d > b->d) - (a->d < b->d), op, result);
    if (a->kind == V_BIG && b->kind == V_BIG)
        return by_order(order_of_bigs(a, b), op, result);
    if (a->kind == V_BIG && is_integer(b))
        return by_order(a->negative ? -1 : 1, op, result);
    if (b->kind == V_BIG && is_integer(a))
        return by_order(b->negative ? 1 : -1, op, result);
    if (is_integer(a))
        return by_order(order_of_int_and_float(a->i, b->d), op, result);
    if (is_integer(b))
        return by_order(-order_of_int_and_float(b->i, a->d), op, result);
    double d = a->kind == V_FLOAT ? a->d : b->d;
    if (fabs(d) < 0x1p63) {
        const struct value *big = a->kind == V_BIG ? a : b;
        int order = big->negative ? -1 : 1;
        return by_order(big == a ? order : -order, op, result);
    }
    return TF_PURE_CANNOT;
}

static bool same_text(const struct value *a, const struct value *b)
{
    if (a->s.len != b->s.len)
        return false;
    if (a->width == b->width)
        return memcmp(a->s.data, b->s.data, a->s.len * a->width) == 0;
    if (!a->loose && !b->loose)
        return false;
    for (size_t i = 0; i < a->s.len; i++)
        if (char_at(a, i) != char_at(b, i))
            return false;
    return true;
}

static enum tf_pure compare_texts(const struct value *a, const struct value *b, int op, bool *result)
{
    if (op == Py_EQ || op == Py_NE) {
        *result = same_text(a, b) == (op == Py_EQ);
        return TF_PURE_OK;
    }
    size_t len = a->s.len < b->s.len ? a->s.len : b->s.len;
    for (size_t i = 0; i < len; i++) {
        uint32_t x = char_at(a, i), y = char_at(b, i);
        if (x != y)
            return by_order(x < y ? -1 : 1, op, result);
    }
    return by_order((a->s.len > b->s.len) - (a->s.len < b->s.len), op, result);
}

static enum tf_pure compare_bytes(const struct value *a, const struct value *b, int op, bool *result)
{
    size_t len = a->s.len < b->s.len ? a->s.len : b->s.len;
    int order = memcmp(a->s.data, b->s.data, len);
    return by_order(order ? order : (a->s.len > b->s.len) - (a->s.len < b->s.len), op, result);
}

/* As containers compare: what is the same object is equal. */
static enum tf_pure same_or_equal(const struct value *a, const struct value *b, int depth, bool *result)
{
    if (a->object && a->object == b->object) {
        *result = true;
        return TF_PURE_OK;
    }
    return compare(a, b, Py_EQ, depth, result);
}

static enum tf_pure compare_views(const struct view *a, const struct view *b, int op, int depth, bool *result)
{
    if (depth >= MAX_DEPTH)
        return TF_PURE_CANNOT;
    if (a->list && a->count != b->count && (op == Py_EQ || op == Py_NE)) {
        *result = op == Py_NE;
        return TF_PURE_OK;
    }
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        struct value x = view_item(a, i), y = view_item(b, i);
        bool same;
        enum tf_pure r = same_or_equal(&x, &y, depth + 1, &same);
        if (r != TF_PURE_OK)
            return r;
        if (same)
            continue;
        if (op == Py_EQ || op == Py_NE) {
            *result = op == Py_NE;
            return TF_PURE_OK;
        }
        return compare(&x, &y, op, depth + 1, result);
    }
    return by_order((a->count > b->count) - (a->count < b->count), op, result);
}

/* ---- Hash tables. */

#define HASH_BITS 61
#define HASH_MODULUS (((uint64_t)1 << HASH_BITS) - 1)

static Py_hash_t signed_hash(uint64_t h, bool negative)
{
    Py_hash_t result = negative ? -(Py_hash_t)h : (Py_hash_t)h;
    return result == -1 ? -2 : result;
}

static Py_hash_t hash_of_big(const struct value *v)
{
    uint64_t h = 0;
    for (size_t i = v->big.count; i-- > 0;) {
        digit d;
        memcpy(&d, v->big.digits + i * sizeof(digit), sizeof(digit));
        h = ((h << PyLong_SHIFT) & HASH_MODULUS) | (h >> (HASH_BITS - PyLong_SHIFT));
        h += d;
        if (h >= HASH_MODULUS)
            h -= HASH_MODULUS;
    }
    return signed_hash(h, v->negative);
}

static enum tf_pure hash_of(const struct value *v, int depth, Py_hash_t *hash);

/* As tuplehash() does. */
static enum tf_pure hash_of_tuple(const struct view *view, int depth, Py_hash_t *hash)
{
    uint64_t acc = 2870177450012600261u;
    if (depth >= MAX_DEPTH)
        return TF_PURE_CANNOT;
    for (size_t i = 0; i < view->count; i++) {
        struct value item = view_item(view, i);
        Py_hash_t lane;
        enum tf_pure r = hash_of(&item, depth + 1, &lane);
        if (r != TF_PURE_OK)
            return r;
        acc += (uint64_t)lane * 14029467366897019727u;
        acc = acc << 31 | acc >> 33;
        acc *= 11400714785074694791u;
    }
    acc += view->count ^ (2870177450012600261u ^ 3527539u);
    *hash = acc == UINT64_MAX ? 1546275796 : (Py_hash_t)acc;
    return TF_PURE_OK;
}

/* Copies the characters into the width that Python would give them: the low bytes come first. */
static size_t narrow(const struct value *v, size_t from, uint8_t width, uint8_t *bytes, size_t room)
{
    size_t n = 0;
    for (size_t i = from; i < v->s.len && n + width <= room; i++, n += width) {
        uint32_t c = char_at(v, i);
        memcpy(bytes + n, &c, width);
    }
    return n;
}

static enum tf_pure hash_of_narrowed(const struct value *v, Py_hash_t *hash)
{
    uint8_t bytes[256], width = narrowest(v);
    if (v->s.len * width > sizeof(bytes))
        return TF_PURE_CANNOT;
    *hash = _Py_HashBytes(bytes, (Py_ssize_t)narrow(v, 0, width, bytes, sizeof(bytes)));
    return TF_PURE_OK;
}

/* RAISES: not hashable. */
static enum tf_pure hash_of(const struct value *v, int depth, Py_hash_t *hash)
{
    struct view view;
    switch (v->kind) {
    case V_NONE:
        *hash = Py_TYPE(Py_None)->tp_hash(Py_None); /* of its address, or constant */
        return TF_PURE_OK;
    case V_BOOL:
    case V_INT: {
        uint64_t size = v->i < 0 ? 0 - (uint64_t)v->i : (uint64_t)v->i;
        *hash = signed_hash(size % HASH_MODULUS, v->i < 0);
        return TF_PURE_OK;
    }
    case V_BIG:
        *hash = hash_of_big(v);
        return TF_PURE_OK;
    case V_FLOAT:
        if (isnan(v->d) && !v->object) /* of its address */
            return TF_PURE_CANNOT;
        *hash = _Py_HashDouble(v->object, v->d);
        return TF_PURE_OK;
    case V_STR:
        *hash = v->s.hash;
        if (*hash != -1)
            return TF_PURE_OK;
        if (narrowest(v) != v->width)
            return hash_of_narrowed(v, hash);
        *hash = _Py_HashBytes(v->s.data, (Py_ssize_t)(v->s.len * v->width));
        return TF_PURE_OK;
    case V_BYTES:
        *hash = _Py_HashBytes(v->s.data, (Py_ssize_t)v->s.len);
        return TF_PURE_OK;
    case V_COMPLEX:
        return TF_PURE_CANNOT;
    }
    if (view_of(v, &view))
        return view.list ? TF_PURE_RAISES : hash_of_tuple(&view, depth, hash);
    if (v->kind != V_OBJECT || PyDict_CheckExact(v->object) || Py_IS_TYPE(v->object, &PySet_Type))
        return TF_PURE_RAISES;
    if (Py_TYPE(v->object)->tp_hash != PyBaseObject_Type.tp_hash)
        return TF_PURE_CANNOT;
    *hash = PyBaseObject_Type.tp_hash(v->object); /* of its address */
    return TF_PURE_OK;
}

static Py_ssize_t key_index(const PyDictKeysObject *keys, size_t i)
{
    if (keys->dk_log2_size < 8)
        return ((const int8_t *)keys->dk_indices)[i];
    if (keys->dk_log2_size < 16)
        return ((const int16_t *)keys->dk_indices)[i];
    if (keys->dk_log2_size < 32)
        return ((const int32_t *)keys->dk_indices)[i];
    return ((const int64_t *)keys->dk_indices)[i];
}

/* Is this key of a table, with the same hash, the one? */
static inline enum tf_pure is_key(PyObject *candidate, const struct value *key, int depth, bool *same)
{
    struct value v = of_object(candidate);
    if (TF_LIKELY(v.kind == V_STR && key->kind == V_STR)) {
        *same = same_text(&v, key);
        return TF_PURE_OK;
    }
    return same_or_equal(&v, key, depth, same);
}

/* Finds a key as lookdict() does; the Python versions agree in it. RAISES: it is not there. */
static enum tf_pure find_key(PyDictKeysObject *keys, const struct value *key, Py_hash_t hash, int depth,
                             Py_ssize_t *index)
{
    size_t mask = ((size_t)1 << keys->dk_log2_size) - 1, perturb = (size_t)hash, i = (size_t)hash & mask;
    const char *entries = keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes);
    for (;; perturb >>= 5, i = (i * 5 + perturb + 1) & mask) {
        Py_ssize_t ix = key_index(keys, i);
        if (ix == DKIX_EMPTY)
            return TF_PURE_RAISES;
        if (ix < 0)
            continue;
        PyObject *candidate;
        Py_hash_t candidate_hash;
        if (DK_IS_UNICODE(keys)) {
            candidate = ((const PyDictUnicodeEntry *)entries)[ix].me_key;
            candidate_hash = ((PyASCIIObject *)candidate)->hash;
        } else {
            candidate = ((const PyDictKeyEntry *)entries)[ix].me_key;
            candidate_hash = ((const PyDictKeyEntry *)entries)[ix].me_hash;
        }
        bool same = false;
        if (candidate_hash == hash && is_key(candidate, key, depth, &same) != TF_PURE_OK)
            return TF_PURE_CANNOT;
        if (same) {
            *index = ix;
            return TF_PURE_OK;
        }
    }
}

/* The entry's key and value, borrowed; both NULL for a hole. */
static void dict_entry(const PyDictObject *dict, Py_ssize_t ix, PyObject **key, PyObject **value)
{
    PyDictKeysObject *keys = dict->ma_keys;
    const char *entries = keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes);
    if (DK_IS_UNICODE(keys)) {
        *key = ((const PyDictUnicodeEntry *)entries)[ix].me_key;
        *value = dict->ma_values ? dict->ma_values->values[ix]
                                 : ((const PyDictUnicodeEntry *)entries)[ix].me_value;
    } else {
        *key = ((const PyDictKeyEntry *)entries)[ix].me_key;
        *value = ((const PyDictKeyEntry *)entries)[ix].me_value;
    }
    if (!*value)
        *key = NULL;
}

static enum tf_pure find_in_dict(PyObject *dict, const struct value *key, Py_hash_t hash, int depth,
                                 PyObject **value)
{
    Py_ssize_t ix;
    enum tf_pure r = find_key(((PyDictObject *)dict)->ma_keys, key, hash, depth, &ix);
    if (r != TF_PURE_OK)
        return r;
    PyObject *unused;
    dict_entry((PyDictObject *)dict, ix, &unused, value);
    return *value ? TF_PURE_OK : TF_PURE_RAISES;
}

/* The same for a set. */
static enum tf_pure find_in_set(PySetObject *set, const struct value *key, Py_hash_t hash, int depth)
{
    size_t mask = (size_t)set->mask, perturb = (size_t)hash, i = (size_t)hash & mask;
    for (;; perturb >>= 5, i = (i * 5 + 1 + perturb) & mask) {
        const setentry *entry = set->table + i;
        for (int probes = i + 9 <= mask ? 9 : 0; probes >= 0; probes--, entry++) {
            bool same = false;
            if (entry->hash == 0 && !entry->key)
                return TF_PURE_RAISES;
            if (entry->hash == hash && entry->key && is_key(entry->key, key, depth, &same) != TF_PURE_OK)
                return TF_PURE_CANNOT;
            if (same)
                return TF_PURE_OK;
        }
    }
}

static bool set_entry(const PySetObject *set, Py_ssize_t i, const setentry **entry)
{
    *entry = set->table + i;
    return (*entry)->key && (*entry)->hash != -1; /* -1: was removed */
}

static enum tf_pure compare_dicts(PyObject *a, PyObject *b, int depth, bool *equal)
{
    PyDictObject *d = (PyDictObject *)a;
    *equal = d->ma_used == ((PyDictObject *)b)->ma_used;
    if (depth >= MAX_DEPTH)
        return TF_PURE_CANNOT;
    for (Py_ssize_t i = 0; *equal && i < d->ma_keys->dk_nentries; i++) {
        PyObject *key, *mine, *other;
        dict_entry(d, i, &key, &mine);
        if (!key)
            continue;
        struct value k = of_object(key), x = of_object(mine);
        Py_hash_t hash;
        enum tf_pure r = hash_of(&k, depth + 1, &hash);
        if (r == TF_PURE_OK)
            r = find_in_dict(b, &k, hash, depth + 1, &other);
        if (r == TF_PURE_RAISES) { /* not there */
            *equal = false;
            return TF_PURE_OK;
        }
        if (r == TF_PURE_OK) {
            struct value y = of_object(other);
            r = same_or_equal(&x, &y, depth + 1, equal);
        }
        if (r != TF_PURE_OK)
            return r;
    }
    return TF_PURE_OK;
}

static enum tf_pure compare_sets(PySetObject *a, PySetObject *b, int depth, bool *equal)
{
    *equal = a->used == b->used;
    for (Py_ssize_t i = 0; *equal && i <= a->mask; i++) {
        const setentry *entry;
        if (!set_entry(a, i, &entry))
            continue;
        struct value key = of_object(entry->key);
        enum tf_pure r = find_in_set(b, &key, entry->hash, depth + 1);
        if (r == TF_PURE_CANNOT)
            return r;
        *equal = r == TF_PURE_OK;
    }
    return TF_PURE_OK;
}

/* ---- Comparisons, continued. */

static bool is_any_set(const struct value *v)
{
    return v->kind == V_OBJECT && PyAnySet_CheckExact(v->object);
}

/* Does it leave a comparison with what is of another kind to the other one? */
static bool is_plain(const struct value *v)
{
    return v->kind != V_OBJECT || PyTuple_CheckExact(v->object) || PyList_CheckExact(v->object) ||
           PyDict_CheckExact(v->object) || PyAnySet_CheckExact(v->object) ||
           Py_TYPE(v->object)->tp_richcompare == PyBaseObject_Type.tp_richcompare;
}

static enum tf_pure compare(const struct value *a, const struct value *b, int op, int depth, bool *result)
{
    struct view x, y;
    bool equality = op == Py_EQ || op == Py_NE, equal;
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b, op, result);
    if (a->kind == V_STR && b->kind == V_STR)
        return compare_texts(a, b, op, result);
    if (a->kind == V_BYTES && b->kind == V_BYTES)
        return compare_bytes(a, b, op, result);
    if (a->kind == V_SET || b->kind == V_SET || !is_plain(a) || !is_plain(b))
        return TF_PURE_CANNOT;
    if (a->kind == V_COMPLEX || b->kind == V_COMPLEX) {
        if (!equality || is_number(a) || is_number(b))
            return TF_PURE_CANNOT;
        equal = a->kind == b->kind && a->c.real == b->c.real && a->c.imag == b->c.imag;
        *result = equal == (op == Py_EQ);
        return TF_PURE_OK;
    }
    if (view_of(a, &x) && view_of(b, &y) && x.list == y.list)
        return compare_views(&x, &y, op, depth, result);
    enum tf_pure r = TF_PURE_OK;
    if (is_any_set(a) && is_any_set(b))
        r = equality ? compare_sets((PySetObject *)a->object, (PySetObject *)b->object, depth, &equal)
                     : TF_PURE_CANNOT;
    else if (equality && a->kind == V_OBJECT && b->kind == V_OBJECT && PyDict_CheckExact(a->object) &&
             PyDict_CheckExact(b->object))
        r = compare_dicts(a->object, b->object, depth, &equal);
    else if ((a->kind == V_BYTES || b->kind == V_BYTES) && PyInterpreterState_Main()->config.bytes_warning)
        r = TF_PURE_CANNOT;
    else if (!equality)
        r = TF_PURE_RAISES;
    else /* two of a kind that are not one object are dealt with above, except None */
        equal = a->kind == b->kind && (a->kind == V_NONE || (a->object && a->object == b->object));
    if (r == TF_PURE_OK)
        *result = equal == (op == Py_EQ);
    return r;
}

static enum tf_pure is_same(const struct value *a, const struct value *b, bool *result)
{
    if (a->object && b->object)
        *result = a->object == b->object;
    else if (type_of(a) != type_of(b))
        *result = false;
    else
        return TF_PURE_CANNOT; /* small ints, strings of one character and so on are shared, or not */
    return TF_PURE_OK;
}

/* Is the text in the other? */
static bool text_in(const struct value *part, const struct value *whole)
{
    if (part->width == whole->width && part->width == 1)
        return part->s.len == 0 || memmem(whole->s.data, whole->s.len, part->s.data, part->s.len);
    for (size_t i = 0; i + part->s.len <= whole->s.len; i++) {
        size_t k = 0;
        while (k < part->s.len && char_at(whole, i + k) == char_at(part, k))
            k++;
        if (k == part->s.len)
            return true;
    }
    return false;
}

static bool is_dict(const struct value *v)
{
    return v->kind == V_OBJECT && PyDict_Check(v->object);
}

static enum tf_pure find_in_type(PyTypeObject *type, const struct value *name, PyObject **value);
static struct value of_text(const char *text, size_t len);

/* Is the object's method the one of the built-in type? The slots of list's and dict's subclasses look for it
 * in any case. */
static bool inherits(PyObject *o, PyTypeObject *base, const char *method)
{
    struct value name = of_text(method, strlen(method));
    PyObject *own, *theirs;
    return hash_of(&name, 0, &name.s.hash) == TF_PURE_OK &&
           find_in_type(Py_TYPE(o), &name, &own) == TF_PURE_OK &&
           find_in_type(base, &name, &theirs) == TF_PURE_OK && own == theirs;
}

static enum tf_pure contains(const struct value *v, const struct value *item, bool *result)
{
    struct view view;
    Py_hash_t hash;
    enum tf_pure r;
    *result = false;
    if (v->kind == V_STR) {
        if (item->kind == V_STR)
            *result = text_in(item, v);
        else
            return is_scalar(item) ? TF_PURE_RAISES : TF_PURE_CANNOT;
        return TF_PURE_OK;
    }
    if (v->kind == V_BYTES) {
        if (item->kind == V_BYTES)
            *result = item->s.len == 0 || memmem(v->s.data, v->s.len, item->s.data, item->s.len);
        else if (!is_integer(item))
            return is_scalar(item) ? TF_PURE_RAISES : TF_PURE_CANNOT;
        else if (item->i < 0 || item->i > 255)
            return TF_PURE_RAISES;
        else
            *result = memchr(v->s.data, (int)item->i, v->s.len) != NULL;
        return TF_PURE_OK;
    }
    if (is_scalar(v))
        return v->kind == V_COMPLEX ? TF_PURE_CANNOT : TF_PURE_RAISES;
    bool hashed = v->kind == V_SET;
    if (!hashed && !view_of(v, &view)) {
        hashed = true;
        if (!is_any_set(v) && !(is_dict(v) && (PyDict_CheckExact(v->object) ||
                                               inherits(v->object, &PyDict_Type, "__contains__"))))
            return TF_PURE_CANNOT;
    } else if (hashed) {
        view = (struct view){false, v->seq.count, NULL, v->seq.items};
    }
    if (hashed) {
        if ((item->kind == V_SET || is_any_set(item)) &&
            !is_dict(v)) /* a set is looked for as if it were frozen */
            return TF_PURE_CANNOT;
        r = hash_of(item, 0, &hash);
        if (r != TF_PURE_OK)
            return r;
        if (v->kind == V_OBJECT) {
            PyObject *found;
            r = is_dict(v) ? find_in_dict(v->object, item, hash, 0, &found)
                           : find_in_set((PySetObject *)v->object, item, hash, 0);
            *result = r == TF_PURE_OK;
            return r == TF_PURE_CANNOT ? r : TF_PURE_OK;
        }
    }
    for (size_t i = 0; i < view.count && !*result; i++) {
        struct value x = view_item(&view, i);
        r = same_or_equal(&x, item, 0, result);
        if (r != TF_PURE_OK)
            return r;
    }
    return TF_PURE_OK;
}

/* ---- Size and truth. */

static PyTypeObject *const sized[] = {&PyList_Type,      &PyTuple_Type,     &PyDict_Type,    &PySet_Type,
                                      &PyFrozenSet_Type, &PyByteArray_Type, &PyUnicode_Type, &PyBytes_Type};

/* Is it the deque of the standard library? Only types that are made in C have a module or are static. */
static bool is_deque(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    return strcmp(type->tp_name, "collections.deque") == 0 &&
           (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || ((PyHeapTypeObject *)type)->ht_module);
}

/* The length by one of the two slots. RAISES: there is no such slot. */
static enum tf_pure slot_length(PyObject *o, lenfunc sq, lenfunc mp, Py_ssize_t *length)
{
    if (!sq && !mp)
        return TF_PURE_RAISES;
    if (PyUnicode_Check(o) && !PyUnicode_IS_READY(o)) /* 3.11: asking for the length makes it ready */
        return TF_PURE_CANNOT;
    for (size_t i = 0; i < sizeof(sized) / sizeof(sized[0]); i++) {
        PyTypeObject *t = sized[i];
        lenfunc known_sq = t->tp_as_sequence ? t->tp_as_sequence->sq_length : NULL;
        lenfunc known_mp = t->tp_as_mapping ? t->tp_as_mapping->mp_length : NULL;
        lenfunc slot = sq ? sq : mp;
        if (slot == known_sq || slot == known_mp) {
            *length = slot(o); /* reads a field */
            return TF_PURE_OK;
        }
    }
    if (is_deque(o)) {
        *length = Py_SIZE(o);
        return TF_PURE_OK;
    }
    return TF_PURE_CANNOT;
}

/* RAISES: it has no length. */
static enum tf_pure length_of(const struct value *v, Py_ssize_t *length)
{
    if (v->kind == V_STR || v->kind == V_BYTES) {
        *length = (Py_ssize_t)v->s.len;
        return TF_PURE_OK;
    }
    if (v->kind == V_TUPLE || v->kind == V_LIST) {
        *length = (Py_ssize_t)v->seq.count;
        return TF_PURE_OK;
    }
    if (v->kind == V_SET)
        return TF_PURE_CANNOT;
    if (v->kind != V_OBJECT)
        return TF_PURE_RAISES;
    PyTypeObject *t = Py_TYPE(v->object);
    return slot_length(v->object, t->tp_as_sequence ? t->tp_as_sequence->sq_length : NULL,
                       t->tp_as_mapping ? t->tp_as_mapping->mp_length : NULL, length);
}

static enum tf_pure truth_of(const struct value *v, bool *truth)
{
    switch (v->kind) {
    case V_NONE:
        *truth = false;
        return TF_PURE_OK;
    case V_BOOL:
    case V_INT:
        *truth = v->i != 0;
        return TF_PURE_OK;
    case V_BIG:
        *truth = true;
        return TF_PURE_OK;
    case V_FLOAT:
        *truth = v->d != 0;
        return TF_PURE_OK;
    case V_COMPLEX:
        *truth = v->c.real != 0 || v->c.imag != 0;
        return TF_PURE_OK;
    case V_STR:
    case V_BYTES:
        *truth = v->s.len != 0;
        return TF_PURE_OK;
    case V_TUPLE:
    case V_LIST:
    case V_SET:
        *truth = v->seq.count != 0;
        return TF_PURE_OK;
    }
    PyTypeObject *t = Py_TYPE(v->object);
    if (t->tp_as_number && t->tp_as_number->nb_bool)
        return TF_PURE_CANNOT;
    lenfunc mp = t->tp_as_mapping ? t->tp_as_mapping->mp_length : NULL;
    Py_ssize_t length;
    enum tf_pure r = slot_length(v->object,
                                 mp                  ? NULL
                                 : t->tp_as_sequence ? t->tp_as_sequence->sq_length
                                                     : NULL,
                                 mp, &length);
    *truth = r == TF_PURE_RAISES || length != 0;
    return r == TF_PURE_CANNOT ? r : TF_PURE_OK;
}

/* ---- Names. */

static enum tf_pure find_in_builtins(PyObject *dict, const struct value *name, PyObject **value)
{
    if (dict && PyModule_Check(dict))
        dict = ((PyModuleObject *)dict)->md_dict;
    if (!dict || !PyDict_CheckExact(dict))
        return TF_PURE_CANNOT;
    return find_in_dict(dict, name, name->s.hash, 0, value);
}

/* Variables as tf_inspect() sees them: one that is not bound gives way to a global one. */
static enum tf_pure load_name(const struct tf_pure_scope *scope, const struct value *name, PyObject **value)
{
    tf_frame *f = scope->frame;
    PyObject *globals = scope->globals, *names = scope->builtins;
    enum tf_pure r;
    if (f) {
        PyCodeObject *co = tf_frame_code(f);
        if (!(co->co_flags & CO_OPTIMIZED) && f->f_locals) {
            if (!PyDict_CheckExact(f->f_locals))
                return TF_PURE_CANNOT;
            r = find_in_dict(f->f_locals, name, name->s.hash, 0, value);
            if (r != TF_PURE_RAISES)
                return r;
        }
        for (int i = co->co_nlocalsplus; i-- > 0;) {
            PyObject *text = PyTuple_GET_ITEM(co->co_localsplusnames, i);
            Py_hash_t hash = ((PyASCIIObject *)text)->hash;
            if (hash != name->s.hash && hash != -1)
                continue;
            struct value v = of_object(text);
            if (v.kind != V_STR || !same_text(&v, name))
                continue;
            *value = tf_frame_local(f, co, i);
            if (*value)
                return TF_PURE_OK;
        }
        globals = f->f_globals;
        names = f->f_builtins;
    }
    if (!globals || !PyDict_CheckExact(globals))
        return TF_PURE_CANNOT;
    r = find_in_dict(globals, name, name->s.hash, 0, value);
    return r == TF_PURE_RAISES ? find_in_builtins(names, name, value) : r;
}

/* ---- Attributes. */

static PyObject *type_dict(PyTypeObject *type)
{
#if TF_PY311
    return type->tp_dict;
#else
    return _PyType_GetDict(type); /* borrowed */
#endif
}

/* As _PyType_Lookup(), without its cache. RAISES: not there. */
static enum tf_pure find_in_type(PyTypeObject *type, const struct value *name, PyObject **value)
{
    PyObject *mro = type->tp_mro;
    if (!mro || !PyTuple_CheckExact(mro))
        return TF_PURE_CANNOT;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i),
                 *dict = PyType_Check(base) ? type_dict((PyTypeObject *)base) : NULL;
        if (!dict || !PyDict_Check(dict))
            return TF_PURE_CANNOT;
        enum tf_pure r = find_in_dict(dict, name, name->s.hash, 0, value);
        if (r != TF_PURE_RAISES)
            return r;
    }
    return TF_PURE_RAISES;
}

static enum tf_pure find_in_values(PyTypeObject *type, PyDictValues *values, const struct value *name,
                                   PyObject **value)
{
    Py_ssize_t ix;
    enum tf_pure r = find_key(((PyHeapTypeObject *)type)->ht_cached_keys, name, name->s.hash, 0, &ix);
    if (r != TF_PURE_OK)
        return r;
    *value = values->values[ix];
    return *value ? TF_PURE_OK : TF_PURE_RAISES;
}

/* The instance's own attribute. Its __dict__ is not made. */
static enum tf_pure find_in_instance(PyObject *o, const struct value *name, PyObject **value)
{
    PyTypeObject *t = Py_TYPE(o);
    PyObject *dict = NULL;
    if (t->tp_flags & Py_TPFLAGS_MANAGED_DICT) {
#if TF_PY311
        PyDictValues *values = *_PyObject_ValuesPointer(o);
        if (values)
            return find_in_values(t, values, name, value);
        dict = *_PyObject_ManagedDictPointer(o);
#elif TF_PY312
        PyDictOrValues held = *_PyObject_DictOrValuesPointer(o);
        if (_PyDictOrValues_IsValues(held))
            return find_in_values(t, _PyDictOrValues_GetValues(held), name, value);
        dict = _PyDictOrValues_GetDict(held);
#else
        if ((t->tp_flags & Py_TPFLAGS_INLINE_VALUES) && _PyObject_InlineValues(o)->valid)
            return find_in_values(t, _PyObject_InlineValues(o), name, value);
        dict = (PyObject *)_PyObject_GetManagedDict(o);
#endif
    } else if (t->tp_dictoffset) {
        Py_ssize_t offset = t->tp_dictoffset;
        if (offset < 0) { /* counted from the end */
            if (PyLong_Check(o))
                return TF_PURE_CANNOT;
            Py_ssize_t size = Py_SIZE(o);
            offset += (Py_ssize_t)_PyObject_VAR_SIZE(t, size < 0 ? -size : size);
        }
        dict = *(PyObject **)((char *)o + offset);
    }
    if (!dict)
        return TF_PURE_RAISES;
    return PyDict_Check(dict) ? find_in_dict(dict, name, name->s.hash, 0, value) : TF_PURE_CANNOT;
}

static enum tf_pure read_member(PyObject *o, const PyMemberDef *m, struct value *result)
{
    const char *at = (const char *)o + m->offset;
    PyObject *object;
    if (m->flags & ~READONLY)
        return TF_PURE_CANNOT;
    switch (m->type) {
    case T_OBJECT_EX:
    case T_OBJECT:
        memcpy(&object, at, sizeof(object));
        if (!object && m->type == T_OBJECT_EX)
            return TF_PURE_RAISES;
        *result = object ? of_object(object) : of_none();
        return TF_PURE_OK;
    case T_INT:
        *result = of_int(*(const int *)at);
        return TF_PURE_OK;
    case T_UINT:
        *result = of_int(*(const unsigned *)at);
        return TF_PURE_OK;
    case T_LONG:
    case T_LONGLONG:
    case T_PYSSIZET:
        *result = of_int(*(const long *)at);
        return TF_PURE_OK;
    case T_DOUBLE:
        *result = of_float(*(const double *)at);
        return TF_PURE_OK;
    case T_BOOL:
        *result = of_bool(*at != 0);
        return TF_PURE_OK;
    }
    return TF_PURE_CANNOT;
}

static struct value of_text(const char *text, size_t len)
{
    return (struct value){
        .kind = V_STR, .width = 1, .s = {.data = (const uint8_t *)text, .len = len, .hash = -1}};
}

static bool is_text(const struct value *s, const char *text)
{
    return s->width == 1 && s->s.len == strlen(text) && memcmp(s->s.data, text, s->s.len) == 0;
}

/* Of the attributes that C code computes, those whose value is at hand. */
static enum tf_pure read_getset(const struct value *v, PyDescrObject *descr, const struct value *name,
                                struct value *result)
{
    PyObject *o = v->object;
    if (descr->d_type == &PyBaseObject_Type && is_text(name, "__class__")) {
        *result = of_object((PyObject *)type_of(v));
        return TF_PURE_OK;
    }
    bool qualified = is_text(name, "__qualname__");
    if (o && (qualified || is_text(name, "__name__"))) {
        if (descr->d_type == &PyFunction_Type && Py_IS_TYPE(o, &PyFunction_Type)) {
            PyFunctionObject *f = (PyFunctionObject *)o;
            *result = of_object(qualified ? f->func_qualname : f->func_name);
            return TF_PURE_OK;
        }
        if (descr->d_type == &PyType_Type && PyType_Check(o)) {
            PyTypeObject *t = (PyTypeObject *)o;
            PyHeapTypeObject *heap = (PyHeapTypeObject *)o;
            const char *dot = strrchr(t->tp_name, '.'), *text = dot ? dot + 1 : t->tp_name;
            if (t->tp_flags & Py_TPFLAGS_HEAPTYPE)
                *result = of_object(qualified ? heap->ht_qualname : heap->ht_name);
            else
                *result = of_text(text, strlen(text));
            return TF_PURE_OK;
        }
    }
    if (o && (PyObject *)descr->d_type == PyExc_BaseException && is_text(name, "args") &&
        PyExceptionInstance_Check(o)) {
        PyObject *args = ((PyBaseExceptionObject *)o)->args;
        *result = args ? of_object(args) : of_none();
        return TF_PURE_OK;
    }
    return TF_PURE_CANNOT;
}

/* What a data descriptor gives. */
static enum tf_pure read_descriptor(const struct value *v, PyObject *descr, const struct value *name,
                                    struct value *result)
{
    PyTypeObject *kind = Py_TYPE(descr);
    PyObject *o = v->object;
    if (kind == &PyGetSetDescr_Type)
        return read_getset(v, (PyDescrObject *)descr, name, result);
    if (kind == &PyMemberDescr_Type && o && PyObject_TypeCheck(o, ((PyDescrObject *)descr)->d_type))
        return read_member(o, ((PyMemberDescrObject *)descr)->d_member, result);
    /* A field of a named tuple: the index is the first that its descriptor holds. */
    const char *dot = strrchr(kind->tp_name, '.');
    if (dot && strcmp(dot, "._tuplegetter") == 0 && o && PyTuple_Check(o) &&
        (!(kind->tp_flags & Py_TPFLAGS_HEAPTYPE) || ((PyHeapTypeObject *)kind)->ht_module)) {
        Py_ssize_t index;
        memcpy(&index, (char *)descr + sizeof(PyObject), sizeof(index));
        if (index < 0 || index >= PyTuple_GET_SIZE(o))
            return TF_PURE_CANNOT;
        *result = of_object(PyTuple_GET_ITEM(o, index));
        return TF_PURE_OK;
    }
    return TF_PURE_CANNOT;
}

static bool is_data_descriptor(PyObject *o)
{
    return Py_TYPE(o)->tp_descr_get && Py_TYPE(o)->tp_descr_set;
}

/* As type_getattro() does. */
static enum tf_pure type_attribute(const struct value *v, const struct value *name, struct value *result)
{
    PyObject *meta = NULL, *own = NULL;
    enum tf_pure found_meta = find_in_type(Py_TYPE(v->object), name, &meta);
    if (found_meta == TF_PURE_CANNOT)
        return TF_PURE_CANNOT;
    if (found_meta == TF_PURE_OK && is_data_descriptor(meta))
        return read_descriptor(v, meta, name, result);
    enum tf_pure r = find_in_type((PyTypeObject *)v->object, name, &own);
    if (r == TF_PURE_CANNOT)
        return r;
    PyObject *value = r == TF_PURE_OK ? own : meta;
    if (!value || (r != TF_PURE_OK && found_meta != TF_PURE_OK))
        return TF_PURE_RAISES;
    /* A function in a class is itself. */
    if (Py_TYPE(value)->tp_descr_get && !(r == TF_PURE_OK && Py_IS_TYPE(value, &PyFunction_Type)))
        return TF_PURE_CANNOT;
    *result = of_object(value);
    return TF_PURE_OK;
}

/* As PyObject_GenericGetAttr() does. */
static enum tf_pure attribute(const struct value *v, const struct value *name, struct value *result)
{
    PyTypeObject *type = type_of(v);
    getattrofunc getattro = type->tp_getattro;
    bool module = getattro == PyModule_Type.tp_getattro;
    if (v->kind == V_OBJECT && getattro == PyType_Type.tp_getattro && PyType_Check(v->object))
        return type_attribute(v, name, result);
    if (getattro != PyBaseObject_Type.tp_getattro && !module)
        return TF_PURE_CANNOT;
    PyObject *descr = NULL, *value = NULL;
    enum tf_pure found = find_in_type(type, name, &descr);
    if (found == TF_PURE_CANNOT)
        return found;
    if (found == TF_PURE_OK && is_data_descriptor(descr))
        return read_descriptor(v, descr, name, result);
    if (v->kind == V_OBJECT) {
        enum tf_pure r = find_in_instance(v->object, name, &value);
        if (r == TF_PURE_OK)
            *result = of_object(value);
        if (r != TF_PURE_RAISES)
            return r;
    }
    if (found == TF_PURE_OK) {
        if (Py_TYPE(descr)->tp_descr_get)
            return TF_PURE_CANNOT;
        *result = of_object(descr);
        return TF_PURE_OK;
    }
    if (module) { /* it may have a __getattr__ */
        PyObject *dict = ((PyModuleObject *)v->object)->md_dict;
        struct value hook = of_text("__getattr__", 11);
        Py_hash_t hash;
        if (!dict || hash_of(&hook, 0, &hash) != TF_PURE_OK ||
            find_in_dict(dict, &hook, hash, 0, &value) != TF_PURE_RAISES)
            return TF_PURE_CANNOT;
    }
    return TF_PURE_RAISES;
}

/* ---- Items. */

static enum tf_pure subscript(const struct value *v, const struct value *key, struct value *result)
{
    PyObject *o = v->object;
    if (v->kind == V_SET)
        return TF_PURE_CANNOT;
    if (is_dict(v) && (PyDict_CheckExact(o) || inherits(o, &PyDict_Type, "__getitem__"))) {
        Py_hash_t hash;
        PyObject *value;
        enum tf_pure r = hash_of(key, 0, &hash);
        if (r == TF_PURE_OK)
            r = find_in_dict(o, key, hash, 0, &value);
        if (r == TF_PURE_OK)
            *result = of_object(value);
        else if (r == TF_PURE_RAISES && !PyDict_CheckExact(o)) /* there may be __missing__ */
            return TF_PURE_CANNOT;
        return r;
    }
    struct view view = {0};
    size_t count;
    if (v->kind == V_STR || v->kind == V_BYTES) {
        count = v->s.len;
    } else if (view_of(v, &view)) {
        count = view.count;
    } else if (v->kind == V_OBJECT && PyTuple_Check(o) && inherits(o, &PyTuple_Type, "__getitem__")) {
        view.objects = ((PyTupleObject *)o)->ob_item;
        count = (size_t)Py_SIZE(o);
    } else if (v->kind == V_OBJECT && PyList_Check(o) && inherits(o, &PyList_Type, "__getitem__")) {
        view.objects = ((PyListObject *)o)->ob_item;
        count = (size_t)Py_SIZE(o);
    } else {
        return v->kind == V_OBJECT ? TF_PURE_CANNOT : TF_PURE_RAISES;
    }
    if (!is_integer(key))
        return is_scalar(key) ? TF_PURE_RAISES : TF_PURE_CANNOT;
    int64_t i = key->i < 0 ? key->i + (int64_t)count : key->i;
    if (i < 0 || i >= (int64_t)count)
        return TF_PURE_RAISES;
    if (v->kind == V_STR) {
        *result = *v;
        result->object = NULL;
        result->loose = true;
        result->s.data += (size_t)i * v->width;
        result->s.len = 1;
        result->s.hash = -1;
    } else if (v->kind == V_BYTES) {
        *result = of_int(v->s.data[i]);
    } else {
        *result = view_item(&view, (size_t)i);
    }
    return TF_PURE_OK;
}

static enum tf_pure bound(const struct value *v, size_t count, size_t missing, size_t *at)
{
    if (!v || v->kind == V_NONE) {
        *at = missing;
        return TF_PURE_OK;
    }
    if (v->kind == V_BIG) {
        *at = v->negative ? 0 : count;
        return TF_PURE_OK;
    }
    if (!is_integer(v))
        return is_scalar(v) ? TF_PURE_RAISES : TF_PURE_CANNOT;
    int64_t i = v->i < 0 ? v->i + (int64_t)count : v->i;
    *at = i < 0 ? 0 : i > (int64_t)count ? count : (size_t)i;
    return TF_PURE_OK;
}

static enum tf_pure make_sequence(int kind, const struct value *items, size_t count, struct value *result)
{
    if (count > ARENA - arena_used)
        return TF_PURE_CANNOT;
    struct value *copy = arena + arena_used;
    arena_used += count;
    if (items)
        memcpy(copy, items, count * sizeof(*copy));
    *result = (struct value){.kind = (uint8_t)kind, .seq = {copy, count}};
    return TF_PURE_OK;
}

/* A set display fails with what is not hashable. */
static enum tf_pure make_set(const struct value *items, size_t count, struct value *result)
{
    for (size_t i = 0; i < count; i++) {
        Py_hash_t hash;
        enum tf_pure r = hash_of(&items[i], 0, &hash);
        if (r != TF_PURE_OK)
            return r;
    }
    return make_sequence(V_SET, items, count, result);
}

static enum tf_pure slice(const struct value *v, const struct value *lower, const struct value *upper,
                          struct value *result)
{
    struct view view;
    bool text = v->kind == V_STR || v->kind == V_BYTES;
    if (!text && !view_of(v, &view))
        return TF_PURE_CANNOT;
    size_t count = text ? v->s.len : view.count, from, to;
    enum tf_pure r = bound(lower, count, 0, &from);
    if (r == TF_PURE_OK)
        r = bound(upper, count, count, &to);
    if (r != TF_PURE_OK)
        return r;
    if (to < from)
        to = from;
    if (text) {
        *result = *v;
        result->object = NULL;
        result->loose = true;
        result->s.data += from * (v->kind == V_STR ? v->width : 1);
        result->s.len = to - from;
        result->s.hash = -1;
        return TF_PURE_OK;
    }
    r = make_sequence(view.list ? V_LIST : V_TUPLE, NULL, to - from, result);
    if (r != TF_PURE_OK)
        return r;
    for (size_t i = from; i < to; i++)
        arena[arena_used - (to - from) + (i - from)] = view_item(&view, i);
    return TF_PURE_OK;
}

/* ---- Arithmetic. */

#define EXACT ((int64_t)1 << 53) /* ints up to here are floats exactly */

static enum tf_pure power(int64_t base, int64_t exponent, struct value *result)
{
    int64_t product = 1;
    while (exponent) {
        if ((exponent & 1) && __builtin_mul_overflow(product, base, &product))
            return TF_PURE_CANNOT;
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return TF_PURE_CANNOT;
    }
    *result = of_int(product);
    return TF_PURE_OK;
}

static enum tf_pure int_arithmetic(int op, const struct value *x, const struct value *y, struct value *result)
{
    int64_t a = x->i, b = y->i, c;
    bool bools = x->kind == V_BOOL && y->kind == V_BOOL;
    switch (op) {
    case '+':
        if (__builtin_add_overflow(a, b, &c))
            return TF_PURE_CANNOT;
        break;
    case '-':
        if (__builtin_sub_overflow(a, b, &c))
            return TF_PURE_CANNOT;
        break;
    case '*':
        if (__builtin_mul_overflow(a, b, &c))
            return TF_PURE_CANNOT;
        break;
    case '/':
        if (b == 0)
            return TF_PURE_RAISES;
        if (a > EXACT || a < -EXACT || b > EXACT || b < -EXACT)
            return TF_PURE_CANNOT;
        *result = of_float((double)a / (double)b);
        return TF_PURE_OK;
    case 'd':
    case '%':
        if (b == 0)
            return TF_PURE_RAISES;
        if (b == -1) { /* the quotient may be too large */
            if (op == 'd' && a == INT64_MIN)
                return TF_PURE_CANNOT;
            c = op == 'd' ? -a : 0;
            break;
        }
        c = op == 'd' ? a / b : a % b;
        if (a % b != 0 && (a % b < 0) != (b < 0)) /* towards minus infinity */
            c += op == 'd' ? -1 : b;
        break;
    case 'p':
        if (b >= 0)
            return power(a, b, result);
        return a == 0 ? TF_PURE_RAISES : TF_PURE_CANNOT;
    case 'l':
        if (b < 0)
            return TF_PURE_RAISES;
        if (a != 0 && (b > 62 || __builtin_mul_overflow(a, (int64_t)1 << b, &c)))
            return TF_PURE_CANNOT;
        c = a == 0 ? 0 : c;
        break;
    case 'r':
        if (b < 0)
            return TF_PURE_RAISES;
        c = b > 63 ? (a < 0 ? -1 : 0) : a >> b;
        break;
    case '&':
        c = a & b;
        break;
    case '|':
        c = a | b;
        break;
    case '^':
        c = a ^ b;
        break;
    default:
        return TF_PURE_CANNOT;
    }
    *result = bools && (op == '&' || op == '|' || op == '^') ? of_bool(c) : of_int(c);
    return TF_PURE_OK;
}

static enum tf_pure float_arithmetic(int op, double a, double b, struct value *result)
{
    double c, mod, quotient;
    switch (op) {
    case '+':
        c = a + b;
        break;
    case '-':
        c = a - b;
        break;
    case '*':
        c = a * b;
        break;
    case '/':
        if (b == 0)
            return TF_PURE_RAISES;
        c = a / b;
        break;
    case 'd':
    case '%': /* as _float_div_mod() does */
        if (b == 0)
            return TF_PURE_RAISES;
        mod = fmod(a, b);
        quotient = (a - mod) / b;
        if (mod != 0) {
            if ((b < 0) != (mod < 0)) {
                mod += b;
                quotient -= 1;
            }
        } else {
            mod = copysign(0, b);
        }
        if (quotient != 0) {
            c = floor(quotient);
            if (quotient - c > 0.5)
                c += 1;
        } else {
            c = copysign(0, a / b);
        }
        if (op == '%')
            c = mod;
        break;
    case 'p':
        if (!isfinite(a) || !isfinite(b) || a <= 0)
            return TF_PURE_CANNOT;
        c = pow(a, b);
        if (!isfinite(c))
            return TF_PURE_CANNOT;
        break;
    case 'l':
    case 'r':
    case '&':
    case '|':
    case '^':
        return TF_PURE_RAISES;
    default:
        return TF_PURE_CANNOT;
    }
    *result = of_float(c);
    return TF_PURE_OK;
}

static enum tf_pure binary(int op, const struct value *a, const struct value *b, struct value *result)
{
    if (is_integer(a) && is_integer(b))
        return int_arithmetic(op, a, b, result);
    if (a->kind == V_BIG || b->kind == V_BIG || a->kind == V_COMPLEX || b->kind == V_COMPLEX ||
        !is_scalar(a) || !is_scalar(b))
        return TF_PURE_CANNOT;
    if (is_number(a) && is_number(b))
        return float_arithmetic(op, a->kind == V_FLOAT ? a->d : (double)a->i,
                                b->kind == V_FLOAT ? b->d : (double)b->i, result);
    /* Strings add up, are repeated and formatted. */
    bool texts = a->kind == V_STR || a->kind == V_BYTES || b->kind == V_STR || b->kind == V_BYTES;
    if (texts && (op == '%' || op == '*' || (op == '+' && a->kind == b->kind)))
        return TF_PURE_CANNOT;
    return TF_PURE_RAISES;
}

static enum tf_pure unary(int op, const struct value *v, struct value *result)
{
    if (v->kind == V_BIG || v->kind == V_COMPLEX || !is_scalar(v))
        return TF_PURE_CANNOT;
    if (!is_number(v) || (op == '~' && v->kind == V_FLOAT))
        return TF_PURE_RAISES;
    if (op == '~') {
        if (v->kind == V_BOOL) /* 3.12 and later warn */
            return TF_PURE_CANNOT;
        *result = of_int(~v->i);
    } else if (op == '+') {
        *result = v->kind == V_BOOL ? of_int(v->i) : *v;
    } else if (v->kind == V_FLOAT) {
        *result = of_float(-v->d);
    } else {
        if (v->i == INT64_MIN)
            return TF_PURE_CANNOT;
        *result = of_int(-v->i);
    }
    return TF_PURE_OK;
}

/* ---- Calls. */

static bool is_true_builtin(PyObject *o, enum builtin which)
{
    switch (which) {
    case B_TYPE:
        return o == (PyObject *)&PyType_Type;
    case B_BOOL:
        return o == (PyObject *)&PyBool_Type;
    case B_INT:
        return o == (PyObject *)&PyLong_Type;
    case B_FLOAT:
        return o == (PyObject *)&PyFloat_Type;
    case B_STR:
        return o == (PyObject *)&PyUnicode_Type;
    default:
        break;
    }
    if (!PyCFunction_CheckExact(o))
        return false;
    PyCFunctionObject *f = (PyCFunctionObject *)o;
    if (!f->m_self || !PyModule_CheckExact(f->m_self))
        return false;
    PyModuleDef *def = ((PyModuleObject *)f->m_self)->md_def;
    return def && strcmp(def->m_name, "builtins") == 0 &&
           strcmp(f->m_ml->ml_name, tf_pure_builtins[which].name) == 0;
}

/* Is __class__ what the type says? */
static bool class_is_type(const struct value *v)
{
    if (v->kind != V_OBJECT)
        return true;
    getattrofunc getattro = Py_TYPE(v->object)->tp_getattro;
    if (getattro != PyBaseObject_Type.tp_getattro && getattro != PyType_Type.tp_getattro &&
        getattro != PyModule_Type.tp_getattro)
        return false;
    struct value name = of_text("__class__", 9);
    PyObject *descr;
    return hash_of(&name, 0, &name.s.hash) == TF_PURE_OK &&
           find_in_type(Py_TYPE(v->object), &name, &descr) == TF_PURE_OK &&
           Py_IS_TYPE(descr, &PyGetSetDescr_Type) && ((PyDescrObject *)descr)->d_type == &PyBaseObject_Type;
}

static enum tf_pure is_instance(const struct value *v, const struct value *classes, int depth, bool *result)
{
    struct view view;
    if (view_of(classes, &view) && !view.list && depth < MAX_DEPTH) {
        *result = false;
        for (size_t i = 0; i < view.count && !*result; i++) {
            struct value one = view_item(&view, i);
            enum tf_pure r = is_instance(v, &one, depth + 1, result);
            if (r != TF_PURE_OK)
                return r;
        }
        return TF_PURE_OK;
    }
    if (classes->kind != V_OBJECT || !PyType_Check(classes->object))
        return TF_PURE_CANNOT;
    PyTypeObject *type = type_of(v), *wanted = (PyTypeObject *)classes->object;
    *result = type == wanted;
    if (*result)
        return TF_PURE_OK;
    if (!PyType_CheckExact(wanted)) /* its metaclass may have a word in it */
        return TF_PURE_CANNOT;
    *result = PyType_IsSubtype(type, wanted);
    return *result || class_is_type(v) ? TF_PURE_OK : TF_PURE_CANNOT;
}

static enum tf_pure least(const struct value *args, size_t count, bool greatest, struct value *result)
{
    struct view view = {false, count, NULL, args};
    if (count == 1 && !view_of(args, &view))
        return is_number(args) || args->kind == V_NONE ? TF_PURE_RAISES : TF_PURE_CANNOT;
    if (view.count == 0)
        return TF_PURE_RAISES;
    struct value best = view_item(&view, 0);
    for (size_t i = 1; i < view.count; i++) {
        struct value item = view_item(&view, i);
        bool better;
        enum tf_pure r = compare(&item, &best, greatest ? Py_GT : Py_LT, 0, &better);
        if (r != TF_PURE_OK)
            return r;
        if (better)
            best = item;
    }
    *result = best;
    return TF_PURE_OK;
}

static enum tf_pure to_int(const struct value *v, struct value *result)
{
    if (v->kind == V_INT || v->kind == V_BIG) {
        *result = *v;
    } else if (v->kind == V_BOOL) {
        *result = of_int(v->i);
    } else if (v->kind == V_FLOAT) {
        if (!isfinite(v->d))
            return TF_PURE_RAISES;
        if (fabs(v->d) >= 0x1p63)
            return TF_PURE_CANNOT;
        *result = of_int((int64_t)v->d);
    } else {
        return v->kind == V_NONE ? TF_PURE_RAISES : TF_PURE_CANNOT;
    }
    return TF_PURE_OK;
}

static enum tf_pure call(enum builtin which, const struct value *args, size_t count, struct value *result)
{
    enum tf_pure r;
    bool truth;
    Py_ssize_t length;
    switch (which) {
    case B_LEN:
        r = length_of(args, &length);
        if (r == TF_PURE_OK)
            *result = of_int(length);
        return r;
    case B_ISINSTANCE:
        r = is_instance(args, args + 1, 0, &truth);
        if (r == TF_PURE_OK)
            *result = of_bool(truth);
        return r;
    case B_ABS:
        if (args->kind == V_FLOAT) {
            *result = of_float(fabs(args->d));
            return TF_PURE_OK;
        }
        if (!is_integer(args) || args->i == INT64_MIN)
            return args->kind == V_NONE || args->kind == V_STR || args->kind == V_BYTES ? TF_PURE_RAISES
                                                                                        : TF_PURE_CANNOT;
        *result = of_int(args->i < 0 ? -args->i : args->i);
        return TF_PURE_OK;
    case B_MIN:
    case B_MAX:
        return least(args, count, which == B_MAX, result);
    case B_TYPE:
        *result = of_object((PyObject *)type_of(args));
        return TF_PURE_OK;
    case B_BOOL:
        r = truth_of(args, &truth);
        if (r == TF_PURE_OK)
            *result = of_bool(truth);
        return r;
    case B_INT:
        return to_int(args, result);
    case B_FLOAT:
        if (!is_integer(args) && args->kind != V_FLOAT)
            return args->kind == V_NONE ? TF_PURE_RAISES : TF_PURE_CANNOT;
        *result = args->kind == V_FLOAT ? *args : of_float((double)args->i);
        return TF_PURE_OK;
    case B_STR:
        if (args->kind != V_STR)
            return TF_PURE_CANNOT;
        *result = *args;
        return TF_PURE_OK;
    default:
        return TF_PURE_CANNOT;
    }
}

/* ---- The machine. */

static uint32_t take_u32(const uint8_t **p)
{
    uint32_t n;
    memcpy(&n, *p, sizeof(n));
    *p += sizeof(n);
    return n;
}

static size_t take_u16(const uint8_t **p)
{
    uint16_t n;
    memcpy(&n, *p, sizeof(n));
    *p += sizeof(n);
    return n;
}

static struct value take_text(const uint8_t **p)
{
    struct value v = {.kind = V_STR, .width = *(*p)++};
    int64_t hash;
    v.s.len = take_u32(p);
    memcpy(&hash, *p, sizeof(hash));
    v.s.hash = hash;
    v.s.data = *p + sizeof(hash);
    *p += sizeof(hash) + v.s.len * v.width;
    return v;
}

static enum tf_pure by_comparison(int op, const struct value *a, const struct value *b, bool *result)
{
    enum tf_pure r;
    switch (op) {
    case IS:
    case IS_NOT:
        r = is_same(a, b, result);
        break;
    case IN:
    case NOT_IN:
        r = contains(b, a, result);
        break;
    default:
        return compare(a, b, op, 0, result);
    }
    if (op == IS_NOT || op == NOT_IN)
        *result = !*result;
    return r;
}

static enum tf_pure run(const uint8_t *program, size_t len, const struct tf_pure_scope *scope,
                        struct value *result)
{
    if (len < 3 || program[0] != FORMAT || program[1] > MAX_STACK)
        return TF_PURE_CANNOT;
    const uint8_t *p = program + 2;
    struct value *top = stack - 1; /* the last value */
    enum tf_pure r = TF_PURE_OK;
    struct value text, value = of_none();
    arena_used = 0;
    while (r == TF_PURE_OK) {
        enum opcode op = *p++;
        PyObject *object;
        uint32_t to;
        size_t n;
        bool truth;
        switch (op) {
        case OP_END:
            *result = *top;
            return TF_PURE_OK;
        case OP_NAME:
            text = take_text(&p);
            r = load_name(scope, &text, &object);
            if (r == TF_PURE_OK)
                *++top = of_object(object);
            break;
        case OP_OBJECT:
            if (!scope->object)
                return TF_PURE_CANNOT;
            *++top = of_object(scope->object);
            break;
        case OP_ATTR:
            text = take_text(&p);
            r = attribute(top, &text, &value);
            *top = value;
            break;
        case OP_NONE:
            *++top = of_none();
            break;
        case OP_FALSE:
        case OP_TRUE:
            *++top = of_bool(op == OP_TRUE);
            break;
        case OP_INT:
            *++top = of_int(0);
            memcpy(&top->i, p, sizeof(top->i));
            p += sizeof(top->i);
            break;
        case OP_FLOAT:
            *++top = of_float(0);
            memcpy(&top->d, p, sizeof(top->d));
            p += sizeof(top->d);
            break;
        case OP_STR:
            *++top = take_text(&p);
            break;
        case OP_BYTES:
            n = take_u32(&p);
            *++top = (struct value){.kind = V_BYTES, .s = {.data = p, .len = n, .hash = -1}};
            p += n;
            break;
        case OP_BIG:
            *++top = (struct value){.kind = V_BIG, .negative = *p++};
            top->big.count = take_u32(&p);
            top->big.digits = p;
            p += top->big.count * sizeof(digit);
            break;
        case OP_SUBSCRIPT:
            r = subscript(top - 1, top, &value);
            *--top = value;
            break;
        case OP_SLICE:
            n = *p++;
            top -= (n & 1) + (n >> 1 & 1);
            r = slice(top, n & 1 ? top + 1 : NULL, n & 2 ? top + 1 + (n & 1) : NULL, &value);
            *top = value;
            break;
        case OP_UNARY:
            r = unary(*p++, top, &value);
            *top = value;
            break;
        case OP_BINARY:
            r = binary(*p++, top - 1, top, &value);
            *--top = value;
            break;
        case OP_COMPARE:
            r = by_comparison(*p++, top - 1, top, &truth);
            if (r == TF_PURE_OK)
                *--top = of_bool(truth);
            break;
        case OP_CHAIN:
            r = by_comparison(*p++, top - 1, top, &truth);
            to = take_u32(&p);
            if (r != TF_PURE_OK)
                break;
            if (truth) {
                top[-1] = top[0];
                top--;
            } else {
                *--top = of_bool(false);
                p = program + to;
            }
            break;
        case OP_NOT:
            r = truth_of(top, &truth);
            if (r == TF_PURE_OK)
                *top = of_bool(!truth);
            break;
        case OP_JUMP:
            to = take_u32(&p);
            p = program + to;
            break;
        case OP_JUMP_IF_FALSE:
        case OP_AND:
        case OP_OR:
            to = take_u32(&p);
            r = truth_of(top, &truth);
            if (r != TF_PURE_OK)
                break;
            if (truth == (op == OP_OR))
                p = program + to;
            if (truth != (op == OP_OR) || op == OP_JUMP_IF_FALSE)
                top--;
            break;
        case OP_TUPLE:
        case OP_LIST:
        case OP_SET:
            n = take_u16(&p);
            top -= n;
            r = op == OP_SET ? make_set(top + 1, n, &value)
                             : make_sequence(op == OP_LIST ? V_LIST : V_TUPLE, top + 1, n, &value);
            *++top = value;
            break;
        case OP_CALL: {
            enum builtin which = *p++;
            n = *p++;
            text = take_text(&p);
            r = load_name(scope, &text, &object);
            if (r == TF_PURE_OK && !is_true_builtin(object, which))
                r = TF_PURE_CANNOT;
            top -= n - 1;
            if (r == TF_PURE_OK)
                r = call(which, top, n, &value);
            if (r == TF_PURE_OK)
                *top = value;
            break;
        }
        default:
            r = TF_PURE_CANNOT;
        }
    }
    return r;
}

enum tf_pure tf_pure_truth(const uint8_t *program, size_t len, const struct tf_pure_scope *scope, bool *truth)
{
    struct value v;
    enum tf_pure r = run(program, len, scope, &v);
    return r == TF_PURE_OK ? truth_of(&v, truth) : r;
}

/* ---- Fingerprints. */

enum seed { SEED_IDENTITY = 100, SEED_PAIR, SEED_ITEMS, SEED_BYTEARRAY };

static uint64_t combine(uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t both[2] = {a, b};
    return XXH3_64bits_withSeed(both, sizeof(both), seed);
}

/* Of the characters, in the width that Python would give them: equal texts are equal. */
static uint64_t text_fingerprint(const struct value *v)
{
    uint8_t width = narrowest(v), bytes[1024];
    if (width == v->width)
        return XXH3_64bits_withSeed(v->s.data, v->s.len * width, V_STR + 8u * width);
    static XXH3_state_t state;
    XXH3_64bits_reset_withSeed(&state, V_STR + 8u * width);
    for (size_t i = 0; i < v->s.len; i += sizeof(bytes) / width)
        XXH3_64bits_update(&state, bytes, narrow(v, i, width, bytes, sizeof(bytes)));
    return XXH3_64bits_digest(&state);
}

/* Scalars by value, what was made here by its items, all else by identity. */
static uint64_t item_fingerprint(const struct value *v)
{
    switch (v->kind) {
    case V_NONE:
        return combine(V_NONE, 0, 0);
    case V_BOOL:
    case V_INT:
        return combine(v->kind, (uint64_t)v->i, 0);
    case V_BIG:
        return XXH3_64bits_withSeed(v->big.digits, v->big.count * sizeof(digit), V_BIG + 8u * v->negative);
    case V_FLOAT:
        return XXH3_64bits_withSeed(&v->d, sizeof(v->d), V_FLOAT);
    case V_COMPLEX:
        return XXH3_64bits_withSeed(&v->c, sizeof(v->c), V_COMPLEX);
    case V_STR:
        return text_fingerprint(v);
    case V_BYTES:
        return XXH3_64bits_withSeed(v->s.data, v->s.len, V_BYTES);
    case V_OBJECT:
        /* With the type: another object may be at the address of one that is gone. */
        return combine(SEED_IDENTITY, (uintptr_t)v->object, (uintptr_t)Py_TYPE(v->object));
    }
    uint64_t h = combine(v->kind, v->seq.count, 0);
    for (size_t i = 0; i < v->seq.count; i++) {
        uint64_t item = item_fingerprint(&v->seq.items[i]);
        h = v->kind == V_SET ? h + combine(SEED_PAIR, item, 0) : combine(SEED_ITEMS, h, item);
    }
    return h;
}

static uint64_t object_item(PyObject *o)
{
    struct value v = of_object(o);
    return item_fingerprint(&v);
}

/* The layout of a deque, private to _collectionsmodule.c but the same in all these versions. */
#define DEQUE_BLOCK 64
struct deque_block {
    struct deque_block *left;
    PyObject *data[DEQUE_BLOCK];
    struct deque_block *right;
};
struct deque {
    PyObject_VAR_HEAD struct deque_block *left_block, *right_block;
    Py_ssize_t left_index, right_index;
    size_t state;
    Py_ssize_t max_length, free_count;
    struct deque_block *free_blocks[16];
    PyObject *weak_references;
};

static uint64_t deque_fingerprint(PyObject *o, uint64_t h)
{
    const struct deque *d = (const struct deque *)o;
    if (Py_TYPE(o)->tp_basicsize != sizeof(*d))
        return h;
    const struct deque_block *block = d->left_block;
    Py_ssize_t at = d->left_index;
    for (Py_ssize_t i = 0; i < Py_SIZE(o); i++) {
        h = combine(SEED_ITEMS, h, object_item(block->data[at]));
        if (++at == DEQUE_BLOCK) {
            block = block->right;
            at = 0;
        }
    }
    return h;
}

static uint64_t value_fingerprint(const struct value *v)
{
    uint64_t h = item_fingerprint(v);
    PyObject *o = v->object;
    if (v->kind != V_OBJECT) {
    } else if (PyTuple_Check(o) || PyList_Check(o)) {
        PyObject **items = PyTuple_Check(o) ? ((PyTupleObject *)o)->ob_item : ((PyListObject *)o)->ob_item;
        h = combine(SEED_ITEMS, h, (uint64_t)Py_SIZE(o));
        for (Py_ssize_t i = 0; i < Py_SIZE(o); i++)
            h = combine(SEED_ITEMS, h, object_item(items[i]));
    } else if (PyDict_Check(o)) {
        PyDictObject *d = (PyDictObject *)o;
        uint64_t sum =
            0; /* the keys of instances share a table whose order is not theirs: as if it had none */
        h = combine(SEED_ITEMS, h, (uint64_t)d->ma_used);
        for (Py_ssize_t i = 0; i < d->ma_keys->dk_nentries; i++) {
            PyObject *key, *value;
            dict_entry(d, i, &key, &value);
            if (key)
                sum += combine(SEED_PAIR, object_item(key), object_item(value));
        }
        h = combine(SEED_ITEMS, h, sum);
    } else if (PyAnySet_Check(o)) {
        PySetObject *s = (PySetObject *)o;
        uint64_t sum = 0; /* the order of a set is not its value */
        h = combine(SEED_ITEMS, h, (uint64_t)s->used);
        for (Py_ssize_t i = 0; i <= s->mask; i++) {
            const setentry *entry;
            if (set_entry(s, i, &entry))
                sum += combine(SEED_PAIR, object_item(entry->key), 0);
        }
        h = combine(SEED_ITEMS, h, sum);
    } else if (PyByteArray_Check(o)) {
        h = combine(SEED_ITEMS, h,
                    XXH3_64bits_withSeed(PyByteArray_AS_STRING(o), (size_t)Py_SIZE(o), SEED_BYTEARRAY));
    } else if (is_deque(o)) {
        h = deque_fingerprint(o, combine(SEED_ITEMS, h, (uint64_t)Py_SIZE(o)));
    }
    return h ? h : 1; /* 0 is "not there" */
}

enum tf_pure tf_pure_fingerprint(const uint8_t *program, size_t len, const struct tf_pure_scope *scope,
                                 uint64_t *fingerprint)
{
    struct value v;
    enum tf_pure r = run(program, len, scope, &v);
    if (r != TF_PURE_CANNOT)
        *fingerprint = r == TF_PURE_OK ? value_fingerprint(&v) : 0;
    return r;
}

uint64_t tf_pure_object_fingerprint(PyObject *object)
{
    struct value v = of_object(object);
    return value_fingerprint(&v);
}

struct value tf_pure_value_of(PyObject *object)
{
    return of_object(object);
}

/* For the tests, which play the core: evaluates in the current function (or in `frame`) of this process. */
__attribute__((visibility("default"))) int
tf_engine_pure_test(const uint8_t *program, size_t len, void *frame, bool *truth, uint64_t *fingerprint)
{
    PyThreadState *ts = tf_this_thread();
    tf_frame *f = frame ? frame : ts ? tf_frame_complete(tf_current_frame(ts)) : NULL;
    if (!f)
        return TF_PURE_CANNOT;
    struct tf_pure_scope scope = {.frame = f};
    enum tf_pure r = tf_pure_truth(program, len, &scope, truth);
    if (r == TF_PURE_CANNOT)
        return r;
    return fingerprint ? tf_pure_fingerprint(program, len, &scope, fingerprint) : r;
}

static bool as_key(PyObject *name, struct value *key)
{
    *key = of_object(name);
    return key->kind == V_STR && hash_of(key, 0, &key->s.hash) == TF_PURE_OK;
}

PyObject *tf_pure_dict_item(PyObject *dict, PyObject *name)
{
    struct value key;
    PyObject *value;
    if (!as_key(name, &key) || find_in_dict(dict, &key, key.s.hash, 0, &value) != TF_PURE_OK)
        return NULL;
    return value;
}

static PyObject *own_attribute(PyObject *o, const struct value *key)
{
    PyObject *value;
    if (PyModule_Check(o)) {
        PyObject *dict = ((PyModuleObject *)o)->md_dict;
        return dict && find_in_dict(dict, key, key->s.hash, 0, &value) == TF_PURE_OK ? value : NULL;
    }
    return find_in_instance(o, key, &value) == TF_PURE_OK ? value : NULL;
}

PyObject *tf_pure_own_attribute(PyObject *o, PyObject *name)
{
    struct value key;
    return as_key(name, &key) ? own_attribute(o, &key) : NULL;
}

PyObject *tf_pure_named_attribute(PyObject *o, const char *name)
{
    struct value key = of_text(name, strlen(name));
    return hash_of(&key, 0, &key.s.hash) == TF_PURE_OK ? own_attribute(o, &key) : NULL;
}
