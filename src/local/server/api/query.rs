//! The parameters of query strings.

use serde_json::json;

use super::body::unprocessable;
use super::call::Call;
use crate::local::server::http1::{Request, Response};
use crate::local::server::path_segment;
use crate::types::{AccessScope, Timestamp};

impl Call<'_> {
    /// The decoded value of a parameter; `None` if it is absent or empty.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<String>, Response> {
        let mut fields = self.request.query.split('&').filter_map(|field| field.split_once('='));
        let Some((_, value)) = fields.find(|(key, value)| *key == name && !value.is_empty()) else { return Ok(None) };
        let value = path_segment::decode(&value.replace('+', " "));
        value.map(Some).ok_or_else(|| malformed(name, "Input should be percent-encoded UTF-8", "string_unicode"))
    }

    pub(super) fn required_parameter(&self, name: &str) -> Result<String, Response> {
        self.parameter(name)?.ok_or_else(|| malformed(name, "Field required", "missing"))
    }

    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, Response> {
        let time = self.required_parameter(name)?;
        time.parse().map_err(|_| malformed(name, "Input should be a valid datetime", "datetime_parsing"))
    }

    /// Whose resources are listed. Defaults to the key's own, as in 2025.
    pub(super) fn access_scope(&self) -> Result<AccessScope, Response> {
        match self.parameter("access_scope")?.as_deref().map(AccessScope::from) {
            None => Ok(AccessScope::Owned),
            Some(AccessScope::Other(_)) => {
                Err(malformed("access_scope", "Input should be 'owned' or 'accessible'", "literal_error"))
            }
            Some(scope) => Ok(scope),
        }
    }
}

/// The part of a list that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) limit: u64,
}

impl Page {
    /// Parses `limit` and `offset` of a query; other parameters are ignored.
    pub(super) fn parse(request: &Request, default_limit: u64) -> Result<Self, Response> {
        let mut page = Page { offset: 0, limit: default_limit };
        for (name, value) in request.query.split('&').filter_map(|field| field.split_once('=')) {
            let field = match name {
                "limit" => &mut page.limit,
                "offset" => &mut page.offset,
                _ => continue,
            };
            *field = value.parse().map_err(|_| malformed(name, "Input should be a valid integer", "int_parsing"))?;
        }
        Ok(page)
    }

    /// The items on this page.
    pub(super) fn of<T>(&self, items: Vec<T>) -> Vec<T> {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        items.into_iter().skip(size(self.offset)).take(size(self.limit)).collect()
    }
}

/// The error for a parameter in a wrong form.
pub(super) fn malformed(name: &str, message: &str, kind: &str) -> Response {
    unprocessable(vec![json!("query"), json!(name)], message, kind)
}
