//! Runs the program and compares its output with golden files.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

pub use crate::support::KEY;
use crate::support::clear_environment;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tinkex");

/// The program with these arguments, separated by spaces, in an environment with only the API key.
pub fn tinkex(words: &str) -> Program {
    tinkex_with(words.split_whitespace())
}

/// The program with these arguments, which may contain spaces.
pub fn tinkex_with<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Program {
    let mut command = with_default_signals(PROGRAM);
    command.args(arguments);
    Program::new(command)
}

/// A command line in a shell, in the same environment.
pub fn shell(line: &str) -> Program {
    let mut command = with_default_signals("sh");
    command.arg("-c").arg(format!("exec {line}"));
    Program::new(command)
}

const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,TERM";

/// The program ignores the signals that this process ignores, as one in the background does. A test that sends them would wait
/// for ever.
fn with_default_signals(program: &str) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap_or_default();
    // SIGHUP is 1, SIGINT 2 and SIGTERM 15.
    if ignored & 0x4003 == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, program]);
    command
}

/// A command line for [`shell`] that starts the program with a signal ignored, such as `SIGHUP`.
pub fn ignoring(signal: &str, arguments: &str) -> String {
    let name = signal.trim_start_matches("SIG");
    format!(r#"sh -c "trap '' {name}; exec {PROGRAM} {arguments}""#)
}

pub struct Program {
    pub command: Command,
}

impl Program {
    fn new(mut command: Command) -> Self {
        // Tests do not download tokenizers.
        clear_environment(&mut command).env("TINKER_API_KEY", KEY).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
        Program { command }
    }

    /// Runs in this directory.
    pub fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Uses this service.
    pub fn at(self, url: &str) -> Self {
        self.env("TINKER_BASE_URL", url)
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts it with stdout and stderr piped.
    pub fn start(mut self) -> Child {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it until it exits.
    pub fn run(mut self) -> Done {
        let output = self.command.output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        Done::new(words(&self.command), output.status.code(), stdout, stderr)
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Done {
    pub words: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn new(words: String, code: Option<i32>, stdout: String, stderr: String) -> Self {
        let done = Done { words, code, stdout, stderr };
        assert!(!done.stdout.contains(KEY) && !done.stderr.contains(KEY), "the output contains the key: {done:?}");
        done
    }

    /// The JSON document on stdout of a successful run, which may show progress on stderr.
    pub fn document(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON document on stdout of a successful run with an empty stderr.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stderr, "", "{self:?}");
        self.document()
    }
}

/// The arguments, separated by spaces.
pub fn words(command: &Command) -> String {
    let all: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let is_wrapped = all.first().is_some_and(|first| first == DEFAULT_SIGNALS);
    all[if is_wrapped { 2 } else { 0 }..].join(" ")
}

pub fn read_to_end(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Values that differ between test runs, and their placeholders in the golden files.
#[derive(Default)]
pub struct Volatile(Vec<(String, String)>);

impl Volatile {
    /// Replaces a value with this name, padded to the same length so that tables stay aligned.
    pub fn value(mut self, value: &str, name: &str) -> Self {
        self.0.push((value.to_owned(), format!("{name:-<0$}", value.len())));
        self
    }

    /// Replaces the address of a server.
    pub fn url(self, url: &str) -> Self {
        let address = url.trim_start_matches("http://").to_owned();
        self.value(&address, "HOST-AND-PORT")
    }

    fn hide(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name));
        known.lines().map(|line| hide_numbers(line) + "\n").collect()
    }
}

/// Replaces timestamps in a document, durations, and OS error numbers.
fn hide_numbers(line: &str) -> String {
    for name in ["\"time\": \"", "\"last_request_time\": \""] {
        if let Some((before, after)) = line.split_once(name) {
            return format!("{before}{name}TIME{}", after.trim_start_matches(|c: char| c != '"'));
        }
    }
    if let Some((before, (_, after))) =
        line.split_once(" tries in ").and_then(|(before, after)| Some((before, after.split_once(" s")?)))
    {
        return hide_numbers(&format!("{before} tries within N s{after}"));
    }
    // Error numbers differ between operating systems.
    if let Some((before, after)) = line.split_once("(os error ") {
        return format!("{before}(os error N{}", after.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    // The number of digits of a duration varies, and with it the padding in a table.
    match line.split_once(" ms") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{before}N ms{}", after.trim_start())
        }
        None => line.to_owned(),
    }
}

/// Compares these runs with a golden file.
pub fn golden(name: &str, runs: &[Done], volatile: &Volatile) {
    let mut seen = String::new();
    for Done { words, code, stdout, stderr } in runs {
        let code = code.map_or("none".to_owned(), |code| code.to_string());
        writeln!(seen, "$ tinkex {words}\n{stdout}").unwrap();
        if !stderr.is_empty() {
            writeln!(seen, "stderr:\n{stderr}").unwrap();
        }
        writeln!(seen, "exit code {code}\n").unwrap();
    }
    let seen = volatile.hide(&seen);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/golden").join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &seen).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(seen == expected, "{} differs; seen:\n{seen}", file.display());
}
