/* commands.h: one function a command. argv[0] is the command's name. Each returns the exit status of the
 * process. */
#ifndef TF_COMMANDS_H
#define TF_COMMANDS_H

int tf_cmd_record(int argc, char **argv);
int tf_cmd_race(int argc, char **argv);
int tf_cmd_debug(int argc, char **argv);
int tf_cmd_replay(int argc, char **argv);
int tf_cmd_verify(int argc, char **argv);
int tf_cmd_query(int argc, char **argv);
int tf_cmd_checkpoint(int argc, char **argv);
int tf_cmd_info(int argc, char **argv);
int tf_cmd_sessions(int argc, char **argv);
int tf_cmd_clean(int argc, char **argv);
int tf_cmd_doctor(int argc, char **argv);

#endif
