//! `tinkex completions` and `tinkex man`: files to install beside the program.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use tinkex::fs::write_atomically;

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
        Some(directory) => {
            let mut program = program.disable_help_subcommand(true);
            program.build();
            write_pages(&program, directory)
                .map_err(|error| Failure::unwritable(format_args!("manual pages to {}", directory.display()), &error))
        }
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page).map_err(Failure::stdout)?;
            app.output.raw(&String::from_utf8_lossy(&page).trim_end())
        }
    }
}

/// Writes the page of a command, after those of its commands.
fn write_pages(program: &Command, directory: &Path) -> io::Result<()> {
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(command, directory)?;
    }
    let (man, mut page) = (Man::new(program.clone()), Vec::new());
    man.render(&mut page)?;
    write_atomically(&directory.join(man.get_filename()), &page)
}
