int tf_cmd_query(int c, char **v); int tf_cmd_clean(int c, char **v);
int tf_cmd_query(int c, char **v) { (void)c; (void)v; return 1; }
int tf_cmd_clean(int c, char **v) { (void)c; (void)v; return 1; }
