//! The models that a service offers, for the refusal of one that it does not have.

use strsim::normalized_damerau_levenshtein;
use tinkex::ServiceClient;

use crate::failure::Failure;

/// How many names a hint has.
const MAX_NAMES: usize = 8;

/// The failure to use a base model. If the service does not have it, the hint has those that it has, the nearest first.
pub(crate) fn explain(error: tinkex::Error, service: &ServiceClient, model: &str) -> Failure {
    let is_missing = error.status() == Some(404) && !model.starts_with("tinker://");
    let failure = Failure::from(error);
    if !is_missing {
        return failure;
    }
    let Ok(capabilities) = service.get_server_capabilities() else { return failure };
    let names: Vec<String> = capabilities.supported_models.into_iter().filter_map(|model| model.model_name).collect();
    match hint(model, names) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What to use in place of this model; `None` if the service has it, or names none.
fn hint(model: &str, mut names: Vec<String>) -> Option<String> {
    if names.is_empty() || names.iter().any(|name| name == model) {
        return None;
    }
    let similarity = |name: &str| normalized_damerau_levenshtein(&model.to_lowercase(), &name.to_lowercase());
    names.sort_by(|a, b| similarity(b).total_cmp(&similarity(a)));
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let more = if more == 0 { String::new() } else { format!(", and {more} more, see `tinkex model list`") };
    Some(format!("the service offers {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let offered = names(&["meta/Llama-3-8B", "Qwen/Qwen3-30B", "Qwen/Qwen3-8B"]);
        assert_eq!(
            hint("qwen/qwen3-8b-base", offered.clone()).unwrap(),
            "the service offers Qwen/Qwen3-8B, Qwen/Qwen3-30B, meta/Llama-3-8B"
        );
        assert_eq!(hint("Qwen/Qwen3-8B", offered), None);
        assert_eq!(hint("a", Vec::new()), None);
        let many: Vec<String> = (10..30).map(|number| format!("m/{number}")).collect();
        let hint = hint("m/2", many).unwrap();
        assert!(hint.matches("m/").count() == MAX_NAMES && hint.ends_with(", and 12 more, see `tinkex model list`"));
    }
}
