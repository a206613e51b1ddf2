//! The example `device` where something that it takes for granted is missing: files, threads, a home.

use std::path::Path;
use std::process::{Command, Output};
use std::{fs, thread};

use tempfile::tempdir;
use tinkex::local::LocalServer;

use crate::support::{clear_environment, example};

/// The example after this shell command. It makes two steps, and has no variables but the two of the client.
fn after(shell: &str, program: &Path, server: &LocalServer) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} exec \"$0\" 2 2 16")]).arg(program);
    clear_environment(&mut command).env("TINKER_BASE_URL", server.base_url()).env("TINKER_API_KEY", "tml-device");
    command
}

/// What it printed, without its memory, if it succeeded; otherwise the first line of the error, after those about waits.
fn outcome(output: &Output) -> Result<String, String> {
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let first = error.lines().find(|line| line.starts_with("Error: "));
        return Err(first.unwrap_or(&error).to_owned());
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines.lines().filter(|line| !line.starts_with("memory: ")).map(|line| format!("{line}\n")).collect())
}

fn run(command: &mut Command) -> Result<String, String> {
    outcome(&command.output().unwrap())
}

#[test]
fn no_home_and_no_writable_directory_are_needed() {
    let server = LocalServer::start().unwrap();
    let usual = run(&mut after("", &example("device"), &server)).unwrap();
    assert_eq!(usual.lines().count(), 5, "{usual}");
    assert_eq!(run(after("", &example("device"), &server).current_dir("/proc").env("HOME", "/proc/none")), Ok(usual));
}

#[test]
fn four_descriptors_are_enough() {
    let server = LocalServer::start().unwrap();
    let usual = run(&mut after("", &example("device"), &server)).unwrap();
    // Of these, three are the standard streams: one connection at a time.
    for files in [4, 5, 8, 16] {
        let lines = run(&mut after(&format!("ulimit -n {files} &&"), &example("device"), &server));
        assert_eq!(lines, Ok(usual.clone()), "{files} descriptors");
    }
}

/// Root may start any number of threads, so that another user runs a copy of the example.
#[cfg(target_os = "linux")]
#[test]
fn too_few_threads_are_named_at_once() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    /// Users that nobody is.
    const FIRST_USER: u32 = 54_321;

    let server = LocalServer::start().unwrap();
    let usual = run(&mut after("", &example("device"), &server)).unwrap();
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("device");
    fs::copy(example("device"), &copy).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    // The limit counts all threads of a user, so each has one of its own.
    let runs: Vec<_> = (1..=9)
        .map(|threads| {
            let mut command = after(&format!("prlimit --nproc={threads} --pid $$ &&"), &copy, &server);
            if is_root {
                command.uid(FIRST_USER + threads);
            }
            (threads, thread::spawn(move || run(&mut command)))
        })
        .collect();
    for (threads, outcome) in runs {
        match outcome.join().unwrap() {
            Ok(lines) => assert_eq!(lines, usual, "{threads} threads"),
            Err(error) => assert!(error.contains("thread could"), "{threads} threads: {error}"),
        }
    }
}
