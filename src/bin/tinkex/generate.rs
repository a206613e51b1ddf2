//! `tinkex completions` and `tinkex man`: files to install beside the program.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::app::App;
use crate::failure::Failure;

/// Generate a completion script for a shell.
///
/// Example: `tinkex completions bash > ~/.local/share/bash-completion/completions/tinkex`
#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    /// Shell to generate the script for.
    shell: Shell,
}

/// Generate manual pages.
///
/// Without --dir, prints the page of `tinkex` itself.
#[derive(Args, Debug)]
pub(crate) struct ManOptions {
    /// Write tinkex.1 and one page per command to this directory, creating it if necessary.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(app: &App, mut program: Command, options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program, "tinkex", &mut script);
    app.output.raw(&String::from_utf8_lossy(&script).trim_end())
}

pub(crate) fn man(app: &App, program: Command, options: &ManOptions) -> Result<(), Failure> {
    match &options.dir {
        Some(directory) => fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(program, directory))
            .map_err(|error| Failure::failed(format!("cannot write manual pages to {}: {error}", directory.display()))),
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page).map_err(Failure::stdout)?;
            app.output.raw(&String::from_utf8_lossy(&page).trim_end())
        }
    }
}
