//! The examples, which `cargo test` has built.

use std::env;
use std::path::PathBuf;

/// The program of this example.
pub fn example(name: &str) -> PathBuf {
    let mut program = env::current_exe().unwrap();
    program.pop();
    program.pop();
    let program = program.join("examples").join(name);
    assert!(
        program.exists(),
        "the example {name} must be built: `cargo test` with its features builds it, `--test it` alone does not"
    );
    program
}
