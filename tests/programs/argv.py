"""argv, __main__, sys.path[0], flags: as without timefork."""
import os
import sys

import __main__


def show(name, value):
    print(f"{name}: {value!r}")


show("argv", sys.argv)
show("orig", sys.orig_argv[1:])
show("name", __name__)
show("file", os.path.basename(__file__))
show("main", __main__.__dict__ is globals())
show("path", sys.path[0])
show("back", sys._getframe(0).f_back)
show("trace", (sys.gettrace(), sys.getprofile()))
show("flags", sys.flags)
show("executable", sys.executable)
show("prefix", (sys.prefix, sys.base_prefix, sys.exec_prefix))
show("modules", sorted(m for m in sys.modules if "fork" in m))
show("preload", os.environ.get("LD_PRELOAD"))
show("environ", sorted(k for k in os.environ if k.startswith(("TIMEFORK", "TF_"))))
