/* pure_prepare.c: makes programs of expressions (pure.h). In a fork: everything is allowed. */
#include "engine/pure_local.h"

const struct tf_pure_builtin tf_pure_builtins[B_COUNT] = {
    [B_LEN] = {"len", 1, 1},     [B_ISINSTANCE] = {"isinstance", 2, 2},
    [B_ABS] = {"abs", 1, 1},     [B_MIN] = {"min", 1, 50},
    [B_MAX] = {"max", 1, 50},    [B_TYPE] = {"type", 1, 1},
    [B_BOOL] = {"bool", 1, 1},   [B_INT] = {"int", 1, 1},
    [B_FLOAT] = {"float", 1, 1}, [B_STR] = {"str", 1, 1},
};

struct output {
    uint8_t *data;
    size_t len, room;
    size_t stack; /* values that it needs */
    int nesting;
};

static void put(struct output *o, const void *data, size_t len)
{
    if (o->len + len > o->room) {
        o->room = 2 * o->room + len + 64;
        o->data = realloc(o->data, o->room);
        if (!o->data)
            Py_FatalError("timefork: no memory for an expression");
    }
    memcpy(o->data + o->len, data, len);
    o->len += len;
}

static void put_u8(struct output *o, int n)
{
    put(o, &(uint8_t){(uint8_t)n}, 1);
}

static void put_u16(struct output *o, size_t n)
{
    put(o, &(uint16_t){(uint16_t)n}, 2);
}

static void put_u32(struct output *o, size_t n)
{
    put(o, &(uint32_t){(uint32_t)n}, 4);
}

/* Where a jump's target is put later. */
static size_t put_jump(struct output *o, int op)
{
    put_u8(o, op);
    put_u32(o, 0);
    return o->len - 4;
}

static void land(struct output *o, size_t jump)
{
    memcpy(o->data + jump, &(uint32_t){(uint32_t)o->len}, 4);
}

static void put_text(struct output *o, PyObject *str)
{
    struct value v = tf_pure_value_of(str);
    int64_t hash = PyObject_Hash(str);
    put_u8(o, v.width);
    put_u32(o, v.s.len);
    put(o, &hash, sizeof(hash));
    put(o, v.s.data, v.s.len * v.width);
}

static const char *class_name(PyObject *node)
{
    const char *dot = strrchr(Py_TYPE(node)->tp_name, '.');
    return dot ? dot + 1 : Py_TYPE(node)->tp_name;
}

static bool is_node(PyObject *node, const char *name)
{
    return node && strcmp(class_name(node), name) == 0;
}

/* A part of a node. The node keeps it alive. */
static PyObject *part(PyObject *node, const char *name)
{
    PyObject *value = PyObject_GetAttrString(node, name);
    if (!value)
        PyErr_Clear();
    Py_XDECREF(value);
    return value;
}

static enum tf_pure put_constant(struct output *o, PyObject *constant)
{
    if (!constant || constant == Py_Ellipsis || PyComplex_CheckExact(constant))
        return TF_PURE_CANNOT;
    struct value v = tf_pure_value_of(constant);
    switch (v.kind) {
    case V_NONE:
        put_u8(o, OP_NONE);
        break;
    case V_BOOL:
        put_u8(o, v.i ? OP_TRUE : OP_FALSE);
        break;
    case V_INT:
        put_u8(o, OP_INT);
        put(o, &v.i, sizeof(v.i));
        break;
    case V_BIG:
        put_u8(o, OP_BIG);
        put_u8(o, v.negative);
        put_u32(o, v.big.count);
        put(o, v.big.digits, v.big.count * sizeof(digit));
        break;
    case V_FLOAT:
        put_u8(o, OP_FLOAT);
        put(o, &v.d, sizeof(v.d));
        break;
    case V_STR:
        put_u8(o, OP_STR);
        put_text(o, constant);
        break;
    case V_BYTES:
        put_u8(o, OP_BYTES);
        put_u32(o, v.s.len);
        put(o, v.s.data, v.s.len);
        break;
    default:
        return TF_PURE_CANNOT;
    }
    return TF_PURE_OK;
}

static enum tf_pure put_node(struct output *o, PyObject *node, size_t depth);

static enum tf_pure put_name(struct output *o, PyObject *node)
{
    /* Those that an evaluated expression has besides, and one that the compiler replaces. */
    static const char *const special[] = {"__debug__", "__builtins__", "__return__", "__exception__"};
    PyObject *name = part(node, "id");
    if (!name || !PyUnicode_CheckExact(name))
        return TF_PURE_CANNOT;
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        if (PyUnicode_CompareWithASCIIString(name, special[i]) == 0)
            return TF_PURE_CANNOT;
    put_u8(o, OP_NAME);
    put_text(o, name);
    return TF_PURE_OK;
}

static enum tf_pure put_subscript(struct output *o, PyObject *node, size_t depth)
{
    PyObject *key = part(node, "slice");
    enum tf_pure r = put_node(o, part(node, "value"), depth);
    if (r != TF_PURE_OK)
        return r;
    if (!is_node(key, "Slice")) {
        r = put_node(o, key, depth + 1);
        put_u8(o, OP_SUBSCRIPT);
        return r;
    }
    PyObject *lower = part(key, "lower"), *upper = part(key, "upper"), *step = part(key, "step");
    if (step && step != Py_None)
        return TF_PURE_CANNOT;
    int flags = 0;
    if (lower && lower != Py_None) {
        flags |= 1;
        r = put_node(o, lower, ++depth);
    }
    if (r == TF_PURE_OK && upper && upper != Py_None) {
        flags |= 2;
        r = put_node(o, upper, depth + 1);
    }
    put_u8(o, OP_SLICE);
    put_u8(o, flags);
    return r;
}

struct operation {
    const char *name;
    int code;
};

static int operation(const struct operation *table, PyObject *node)
{
    for (; table->name; table++)
        if (is_node(node, table->name))
            return table->code;
    return -1;
}

static const struct operation unaries[] = {{"UAdd", '+'}, {"USub", '-'}, {"Invert", '~'}, {"Not", '!'}, {0}};
static const struct operation binaries[] = {
    {"Add", '+'}, {"Sub", '-'},    {"Mult", '*'},   {"Div", '/'},    {"FloorDiv", 'd'}, {"Mod", '%'},
    {"Pow", 'p'}, {"LShift", 'l'}, {"RShift", 'r'}, {"BitAnd", '&'}, {"BitOr", '|'},    {"BitXor", '^'},
    {0}};
static const struct operation comparisons[] = {{"Lt", Py_LT},
                                               {"LtE", Py_LE},
                                               {"Eq", Py_EQ},
                                               {"NotEq", Py_NE},
                                               {"Gt", Py_GT},
                                               {"GtE", Py_GE},
                                               {"Is", IS},
                                               {"IsNot", IS_NOT},
                                               {"In", IN},
                                               {"NotIn", NOT_IN},
                                               {0}};

static enum tf_pure put_unary(struct output *o, PyObject *node, size_t depth)
{
    PyObject *operand = part(node, "operand");
    int op = operation(unaries, part(node, "op"));
    if (op < 0 || !operand)
        return TF_PURE_CANNOT;
    if (op == '-' && is_node(operand, "Constant")) {
        PyObject *constant = part(operand, "value");
        if (constant && (PyLong_CheckExact(constant) || PyFloat_CheckExact(constant)))
            return put_constant(o, PyNumber_Negative(constant));
    }
    enum tf_pure r = put_node(o, operand, depth);
    put_u8(o, op == '!' ? OP_NOT : OP_UNARY);
    if (op != '!')
        put_u8(o, op);
    return r;
}

static enum tf_pure put_compare(struct output *o, PyObject *node, size_t depth)
{
    PyObject *ops = part(node, "ops"), *others = part(node, "comparators");
    if (!ops || !others || !PyList_Check(ops) || !PyList_Check(others) ||
        PyList_GET_SIZE(ops) != PyList_GET_SIZE(others))
        return TF_PURE_CANNOT;
    Py_ssize_t n = PyList_GET_SIZE(ops);
    size_t jumps[MAX_NESTING];
    if (n > MAX_NESTING)
        return TF_PURE_CANNOT;
    enum tf_pure r = put_node(o, part(node, "left"), depth);
    for (Py_ssize_t i = 0; i < n && r == TF_PURE_OK; i++) {
        int op = operation(comparisons, PyList_GET_ITEM(ops, i));
        if (op < 0)
            return TF_PURE_CANNOT;
        r = put_node(o, PyList_GET_ITEM(others, i), depth + 1);
        put_u8(o, i == n - 1 ? OP_COMPARE : OP_CHAIN);
        put_u8(o, op);
        if (i < n - 1) {
            put_u32(o, 0);
            jumps[i] = o->len - 4;
        }
    }
    for (Py_ssize_t i = 0; i < n - 1 && r == TF_PURE_OK; i++)
        land(o, jumps[i]);
    return r;
}

static enum tf_pure put_bool(struct output *o, PyObject *node, size_t depth)
{
    PyObject *values = part(node, "values");
    int op = is_node(part(node, "op"), "And") ? OP_AND : OP_OR;
    size_t jumps[MAX_NESTING], n = 0;
    if (!values || !PyList_Check(values) || PyList_GET_SIZE(values) > MAX_NESTING)
        return TF_PURE_CANNOT;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(values); i++) {
        if (i)
            jumps[n++] = put_jump(o, op);
        enum tf_pure r = put_node(o, PyList_GET_ITEM(values, i), depth);
        if (r != TF_PURE_OK)
            return r;
    }
    while (n)
        land(o, jumps[--n]);
    return TF_PURE_OK;
}

static enum tf_pure put_conditional(struct output *o, PyObject *node, size_t depth)
{
    enum tf_pure r = put_node(o, part(node, "test"), depth);
    if (r != TF_PURE_OK)
        return r;
    size_t otherwise = put_jump(o, OP_JUMP_IF_FALSE);
    r = put_node(o, part(node, "body"), depth);
    if (r != TF_PURE_OK)
        return r;
    size_t end = put_jump(o, OP_JUMP);
    land(o, otherwise);
    r = put_node(o, part(node, "orelse"), depth);
    land(o, end);
    return r;
}

static enum tf_pure put_items(struct output *o, PyObject *list, size_t depth)
{
    enum tf_pure r = list && PyList_Check(list) ? TF_PURE_OK : TF_PURE_CANNOT;
    for (Py_ssize_t i = 0; r == TF_PURE_OK && i < PyList_GET_SIZE(list); i++)
        r = put_node(o, PyList_GET_ITEM(list, i), depth + (size_t)i);
    return r;
}

static enum tf_pure put_sequence(struct output *o, PyObject *node, size_t depth, int op)
{
    PyObject *items = part(node, "elts");
    enum tf_pure r = put_items(o, items, depth);
    put_u8(o, op);
    put_u16(o, r == TF_PURE_OK ? (size_t)PyList_GET_SIZE(items) : 0);
    return r;
}

static enum tf_pure put_call(struct output *o, PyObject *node, size_t depth)
{
    PyObject *func = part(node, "func"), *args = part(node, "args"), *keywords = part(node, "keywords");
    if (!is_node(func, "Name") || !args || !PyList_Check(args) ||
        (keywords && (!PyList_Check(keywords) || PyList_GET_SIZE(keywords))))
        return TF_PURE_CANNOT;
    PyObject *name = part(func, "id");
    for (int i = 0; i < B_COUNT; i++) {
        if (!name || PyUnicode_CompareWithASCIIString(name, tf_pure_builtins[i].name) ||
            PyList_GET_SIZE(args) < tf_pure_builtins[i].least ||
            PyList_GET_SIZE(args) > tf_pure_builtins[i].most)
            continue;
        enum tf_pure r = put_items(o, args, depth);
        put_u8(o, OP_CALL);
        put_u8(o, i);
        put_u8(o, (int)PyList_GET_SIZE(args));
        put_text(o, name);
        return r;
    }
    return TF_PURE_CANNOT;
}

/* Puts the instructions that leave the node's value on the stack, above `depth` others. */
static enum tf_pure put_node_inside(struct output *o, PyObject *node, size_t depth)
{
    if (is_node(node, "Constant"))
        return put_constant(o, part(node, "value"));
    if (is_node(node, "Name"))
        return put_name(o, node);
    if (is_node(node, "Attribute")) {
        PyObject *name = part(node, "attr");
        enum tf_pure r = put_node(o, part(node, "value"), depth);
        if (!name || !PyUnicode_CheckExact(name) || r != TF_PURE_OK)
            return TF_PURE_CANNOT;
        put_u8(o, OP_ATTR);
        put_text(o, name);
        return r;
    }
    if (is_node(node, "Subscript"))
        return put_subscript(o, node, depth);
    if (is_node(node, "UnaryOp"))
        return put_unary(o, node, depth);
    if (is_node(node, "BinOp")) {
        int op = operation(binaries, part(node, "op"));
        enum tf_pure r = op < 0 ? TF_PURE_CANNOT : put_node(o, part(node, "left"), depth);
        if (r == TF_PURE_OK)
            r = put_node(o, part(node, "right"), depth + 1);
        put_u8(o, OP_BINARY);
        put_u8(o, op);
        return r;
    }
    if (is_node(node, "Compare"))
        return put_compare(o, node, depth);
    if (is_node(node, "BoolOp"))
        return put_bool(o, node, depth);
    if (is_node(node, "IfExp"))
        return put_conditional(o, node, depth);
    if (is_node(node, "Tuple"))
        return put_sequence(o, node, depth, OP_TUPLE);
    if (is_node(node, "List"))
        return put_sequence(o, node, depth, OP_LIST);
    if (is_node(node, "Set"))
        return put_sequence(o, node, depth, OP_SET);
    if (is_node(node, "Call"))
        return put_call(o, node, depth);
    return TF_PURE_CANNOT;
}

static enum tf_pure put_node(struct output *o, PyObject *node, size_t depth)
{
    if (!node || o->nesting >= MAX_NESTING || depth >= MAX_STACK)
        return TF_PURE_CANNOT;
    if (o->stack < depth + 1)
        o->stack = depth + 1;
    o->nesting++;
    enum tf_pure r = put_node_inside(o, node, depth);
    o->nesting--;
    return r;
}

static bool is_own_variable(tf_frame *f, PyObject *name)
{
    PyCodeObject *co = tf_frame_code(f);
    for (int i = 0; i < co->co_nlocalsplus; i++)
        if (PyUnicode_Compare(name, PyTuple_GET_ITEM(co->co_localsplusnames, i)) == 0)
            return true;
    if ((co->co_flags & CO_OPTIMIZED) || !f->f_locals || f->f_locals == f->f_globals)
        return false;
    int found = PyMapping_HasKey(f->f_locals, name);
    PyErr_Clear();
    return found > 0;
}

/* Is a variable of the function named anywhere in the tree? */
static bool uses_own(PyObject *node, tf_frame *f, int nesting)
{
    bool found = false;
    if (!node || nesting > MAX_NESTING)
        return false;
    if (PyList_Check(node)) {
        for (Py_ssize_t i = 0; !found && i < PyList_GET_SIZE(node); i++)
            found = uses_own(PyList_GET_ITEM(node, i), f, nesting + 1);
        return found;
    }
    if (is_node(node, "Name")) {
        PyObject *name = part(node, "id");
        return name && PyUnicode_Check(name) && is_own_variable(f, name);
    }
    PyObject *fields = PyObject_GetAttrString((PyObject *)Py_TYPE(node), "_fields");
    if (!fields || !PyTuple_Check(fields))
        PyErr_Clear();
    else
        for (Py_ssize_t i = 0; !found && i < PyTuple_GET_SIZE(fields); i++)
            found = uses_own(part(node, PyUnicode_AsUTF8(PyTuple_GET_ITEM(fields, i))), f, nesting + 1);
    Py_XDECREF(fields);
    return found;
}

enum tf_pure tf_pure_prepare(const char *text, size_t len, tf_frame *frame, PyObject **program, bool *local)
{
    *program = NULL;
    *local = false;
    while (len && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')) {
        text++;
        len--;
    }
    if (memchr(text, 0, len)) {
        PyErr_SetString(PyExc_SyntaxError, "source code string cannot contain null bytes");
        return TF_PURE_RAISES;
    }
    enum tf_pure r = TF_PURE_RAISES;
    struct output o = {0};
    PyObject *source = PyBytes_FromStringAndSize(text, (Py_ssize_t)len), *code = NULL, *tree = NULL;
    PyCompilerFlags flags = {.cf_flags =
                                 PyCF_ALLOW_TOP_LEVEL_AWAIT | PyCF_IGNORE_COOKIE | PyCF_SOURCE_IS_UTF8,
                             .cf_feature_version = PY_MINOR_VERSION};
    if (frame)
        flags.cf_flags |= tf_frame_code(frame)->co_flags & PyCF_MASK;
    if (source) /* the compiler finds mistakes that the parser lets through */
        code = Py_CompileStringExFlags(PyBytes_AS_STRING(source), "<timefork>", Py_eval_input, &flags, -1);
    flags.cf_flags |= PyCF_ONLY_AST;
    if (code)
        tree = Py_CompileStringExFlags(PyBytes_AS_STRING(source), "<timefork>", Py_eval_input, &flags, -1);
    if (tree) {
        PyObject *body = part(tree, "body");
        *local = frame && uses_own(body, frame, 0);
        put_u8(&o, FORMAT);
        put_u8(&o, 0);
        r = put_node(&o, body, 0);
        put_u8(&o, OP_END);
        o.data[1] = (uint8_t)o.stack;
        if (r == TF_PURE_OK && o.len < UINT32_MAX) {
            *program = PyBytes_FromStringAndSize((char *)o.data, (Py_ssize_t)o.len);
            if (!*program)
                r = TF_PURE_RAISES;
        }
    }
    free(o.data);
    Py_XDECREF(source);
    Py_XDECREF(code);
    Py_XDECREF(tree);
    return r;
}

void tf_pure_place(const char *text, size_t len, tf_frame *frame, PyObject **object, PyObject **program,
                   PyObject **as_text)
{
    *object = *program = *as_text = NULL;
    while (len && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    if (memchr(text, 0, len) || memchr(text, '\n', len))
        return;
    struct output o = {0};
    uint64_t ignored;
    PyCompilerFlags flags = {.cf_flags = PyCF_ONLY_AST | PyCF_IGNORE_COOKIE | PyCF_SOURCE_IS_UTF8,
                             .cf_feature_version = PY_MINOR_VERSION};
    PyObject *source = PyBytes_FromStringAndSize(text, (Py_ssize_t)len), *key = NULL, *base = NULL;
    PyObject *tree =
        source ? Py_CompileStringExFlags(PyBytes_AS_STRING(source), "<timefork>", Py_eval_input, &flags, -1)
               : NULL;
    PyObject *body = tree ? part(tree, "body") : NULL;
    bool attribute = body && is_node(body, "Attribute");
    if (!body || (!attribute && !is_node(body, "Subscript")))
        goto out;
    PyObject *inner = part(body, "value");
    long first = PyLong_AsLong(part(inner, "col_offset")),
         last = PyLong_AsLong(part(inner, "end_col_offset"));
    if (PyErr_Occurred() || first < 0 || last <= first || (size_t)last > len)
        goto out;
    base = tf_evaluate(frame, NULL, text + first, (size_t)(last - first));
    put_u8(&o, FORMAT);
    put_u8(&o, 2);
    put_u8(&o, OP_OBJECT);
    if (attribute) {
        PyObject *name = part(body, "attr");
        if (!base || !name || !PyUnicode_Check(name))
            goto out;
        put_u8(&o, OP_ATTR);
        put_text(&o, name);
        *as_text = PyUnicode_FromFormat("_.%U", name);
    } else {
        PyObject *slice = part(body, "slice");
        first = PyLong_AsLong(part(slice, "col_offset"));
        last = PyLong_AsLong(part(slice, "end_col_offset"));
        if (!base || PyErr_Occurred() || first < 0 || last <= first || (size_t)last > len)
            goto out;
        key = tf_evaluate(frame, NULL, text + first, (size_t)(last - first));
        if (!key || put_constant(&o, key) != TF_PURE_OK)
            goto out;
        put_u8(&o, OP_SUBSCRIPT);
        *as_text = PyUnicode_FromFormat("_[%R]", key);
    }
    put_u8(&o, OP_END);
    struct tf_pure_scope scope = {.object = base};
    if (*as_text && tf_pure_fingerprint(o.data, o.len, &scope, &ignored) != TF_PURE_CANNOT)
        *program = PyBytes_FromStringAndSize((char *)o.data, (Py_ssize_t)o.len);
    /* One that the expression made will not be there again; and only of what the collector knows can be told
     * that it is gone (tf_object_at). */
    if (*program && Py_REFCNT(base) > 1 && PyObject_IS_GC(base))
        *object = Py_NewRef(base);
out:
    if (!*object) {
        Py_CLEAR(*as_text);
        Py_CLEAR(*program);
    }
    PyErr_Clear();
    free(o.data);
    Py_XDECREF(source);
    Py_XDECREF(tree);
    Py_XDECREF(base);
    Py_XDECREF(key);
}
