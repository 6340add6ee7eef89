"""Code that has no file: exec, eval, compile, lambdas, and modules loaded from text."""
import importlib.util
import types

space = {}
exec("def made(n):\n    return [made(n - 1)] if n else []\n", space)
print(space["made"](4), eval("sum(i * i for i in range(10))"), (lambda a, *b, **c: (a, b, c))(1, 2, k=3))
module = types.ModuleType("dynamic")
exec(compile("X = 3\ndef f(y):\n    return X * y\n", "<dynamic>", "exec"), module.__dict__)
print(module.f(5))
with open("plugin.py", "w") as f:
    f.write("VALUE = 42\ndef ask():\n    return VALUE\n")
spec = importlib.util.spec_from_file_location("plugin", "plugin.py")
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
print(plugin.ask())
match {"kind": "move", "by": [1, 2]}:
    case {"kind": "move", "by": [x, y]}:
        print(x + y)
