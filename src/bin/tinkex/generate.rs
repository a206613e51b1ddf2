//! `tinkex completions` and `tinkex man`: what an installation adds to the program.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::app::App;
use crate::errors::Failure;

/// Print a shell's completions.
///
/// Such as `tinkex completions bash > ~/.local/share/bash-completion/completions/tinkex`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    shell: Shell,
}

/// Print the manual page, or write one for each command.
#[derive(Args, Debug)]
pub(crate) struct ManOptions {
    /// Write tinkex.1 and one page for each command into this directory, which is made where it is missing.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `program` has all commands.
pub(crate) fn completions(app: &App, mut program: Command, options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program, "tinkex", &mut script);
    app.output.raw(&String::from_utf8_lossy(&script).trim_end())
}

/// `program` has all commands.
pub(crate) fn man(app: &App, program: Command, options: &ManOptions) -> Result<(), Failure> {
    match &options.dir {
        Some(directory) => fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(program, directory))
            .map_err(|error| Failure::failed(format!("{}: {error}", directory.display()))),
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page).map_err(Failure::output)?;
            app.output.raw(&String::from_utf8_lossy(&page).trim_end())
        }
    }
}
