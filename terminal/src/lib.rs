//! The terminal side that both programs share: arguments, output, progress, the log, Ctrl-C and exit
//! codes.
//!
//! | module | contents |
//! |---|---|
//! | [`program`] | from the arguments to a parsed command, from its end to the exit code |
//! | [`exit`] | the result of a command, and the list of exit codes |
//! | [`output`] | stdout, stderr, `--json`, `-q`, closed pipes |
//! | [`progress`] | the progress of one long command, as a bar, lines or JSON |
//! | [`logging`] | events on stderr |
//! | [`interrupt`] | Ctrl-C and SIGTERM |
//!
//! Knows no command. The commands are in `src/cli/` (`diskcast`) and `preos::command`
//! (`diskcast-agent`).

pub mod exit;
pub mod interrupt;
pub mod logging;
pub mod output;
pub mod program;
pub mod progress;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
