//! `tinkex model`: the models that a service offers.

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::SupportedModel;

use crate::app::App;
use crate::failure::Failure;
use crate::listing::Items;
use crate::output::Table;

/// List the models of the service.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the base models, or those whose name contains a text.
    List {
        /// Part of a name, in upper or lower case.
        #[arg(value_name = "SUBSTRING")]
        part: Option<String>,
    },
}

#[derive(Serialize)]
struct ModelList<'a> {
    models: &'a [SupportedModel],
}

pub(crate) fn run(app: &App, ModelCommand::List { part }: &ModelCommand) -> Result<(), Failure> {
    let mut models = app.rest()?.get_server_capabilities()?.supported_models;
    if let Some(part) = part.as_deref().map(str::to_lowercase) {
        let has_part =
            |model: &SupportedModel| model.model_name.as_ref().is_some_and(|name| name.to_lowercase().contains(&part));
        models.retain(has_part);
    }
    let scope = part.as_deref().map(|part| format!(" with {part:?} in the name")).unwrap_or_default();
    let models = Items::all(models);
    let mut table =
        Table::new(models.title("model", "models", &scope), ["Model", "Max Context", "Trainable", "Sampleable"]);
    for model in &models.items {
        let name = model.model_name.as_deref().unwrap_or(UNKNOWN);
        let context = model.max_context_length.map_or(UNKNOWN.to_owned(), |length| length.to_string());
        table.row([name, &context, yes_or_no(model.trainable), yes_or_no(model.sampleable)]);
    }
    app.output.report(&table, &ModelList { models: &models.items })
}

/// What the service does not say.
const UNKNOWN: &str = "N/A";

fn yes_or_no(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "Yes",
        Some(false) => "No",
        None => UNKNOWN,
    }
}
