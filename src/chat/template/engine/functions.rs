//! Functions with limits.

use minijinja::value::Rest;
use minijinja::{Environment, Error, State, Value};

use super::budget;

/// What a namespace is charged. A template can link namespaces to a chain, and a chain of too many would fill the stack when it is
/// dropped: so there are at most 1024.
const NAMESPACE: usize = 256 << 10;

/// The functions that keep their arguments take none that are too deep.
pub(super) fn limit(environment: &mut Environment<'_>) {
    for (name, price) in [("dict", 0), ("namespace", NAMESPACE)] {
        let found = environment.globals().find(|(known, _)| *known == name).map(|(_, function)| function);
        let Some(function) = found else { continue };
        environment.add_function(name, move |state: &State<'_, '_>, arguments: Rest<Value>| -> Result<Value, Error> {
            budget::charge(price)?;
            arguments.iter().try_for_each(|argument| budget::check_depth(argument, 1))?;
            budget::made(function.call(state, &arguments)?)
        });
    }
}
