//! The engine that renders chat templates: minijinja, set up as Hugging Face's `transformers` sets up jinja2.

mod budget;
mod date;
mod failure;
mod filters;
mod functions;
mod growth;
mod json;
mod methods;
mod operators;
mod output;
mod python;
mod scan;
mod slices;
mod source;
mod tests;
mod text;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::error::{Error, Result};
use budget::{Paid, Spending};
use failure::Raised;
use output::{LimitedOutput, MAX_TEXT};

pub(super) use date::DateTime;
#[cfg(feature = "pretrained")]
pub(super) use source::has_name;

/// How many instructions a rendering may take: seconds of work, some thousand times more than a long conversation needs.
const FUEL: u64 = 20_000_000;
/// How many bytes the source of a template may have.
const MAX_SOURCE: usize = 4 << 20;

const NAME: &str = "chat template";

/// A parsed template.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
}

impl Engine {
    pub(super) fn new(source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let message = format!("the chat template has {} bytes; at most {MAX_SOURCE} are read", source.len());
            return Err(Error::invalid_input(message));
        }
        if !source::is_shallow(source) {
            return Err(Error::invalid_input("the chat template has expressions that are too long to be read safely"));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, _, value| Ok(python::write_str(&mut Paid(out), value)?));
        environment.set_unknown_method_callback(methods::call);
        environment.add_function("raise_exception", |message: &Value| -> Result<Value, minijinja::Error> {
            let raised = Raised(message.to_string());
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, raised.0.clone()).with_source(raised))
        });
        // It would print the engine's insides.
        environment.remove_global("debug");
        filters::add(&mut environment);
        functions::limit(&mut environment);
        operators::add_to(&mut environment);
        tests::add(&mut environment);
        // What is wrong with a source is said of the source as it is.
        environment.add_template_owned(NAME, source::prepared(source, false)).map_err(failure::syntax)?;
        environment.add_template_owned(NAME, source::prepared(source, true)).map_err(failure::unlimited)?;
        Ok(Engine { environment })
    }

    pub(super) fn render(&self, context: Value) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(failure::syntax)?;
        let mut output = LimitedOutput::new(MAX_TEXT);
        let spending = Spending::new();
        match template.render_captured_to(context, &mut output) {
            Err(_) if output.is_full() => Err(failure::too_long(MAX_TEXT)),
            _ if spending.is_over() => Err(failure::too_much()),
            Ok(_) => output.into_text(),
            Err(error) => Err(failure::rendering(&error, FUEL)),
        }
    }
}
