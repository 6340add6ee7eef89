#!/bin/sh
# For the session tests: `timefork replay ARGS`, without what differs from Python to Python: numbers of events,
# times, and places in the interpreter's own libraries.
timefork replay "$@" 2>&1 | sed -E '
    s/^#[0-9+]+  [0-9.]+ s  /@ /
    s/#[0-9]+(\+[0-9]+)?  /@ /
    s/ at #[0-9]+(\+[0-9]+)?/ at #N/' | awk '
    / at <frozen/ { next }
    /^@ .*\/lib.*\/python/ { library = 1; next }
    library && /^( *[0-9]+ ->|Returns:)/ { next }
    /^Returns: .\"\"\"/ { next }
    { library = 0; print }'
