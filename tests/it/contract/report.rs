//! The table of capabilities.

use std::fmt;

use super::Found;

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    capability: &'static str,
    required: bool,
    found: Found,
}

impl Report {
    pub fn add(&mut self, capability: &'static str, required: bool, found: Found) {
        self.rows.push(Row { capability, required, found });
    }

    /// The capabilities that the service does not have.
    #[cfg(feature = "local")]
    pub fn lacks(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.found.is_err()).map(|row| row.capability).collect()
    }

    /// Those of them that every service must have.
    pub fn missing(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.required && row.found.is_err()).map(|row| row.capability).collect()
    }
}

/// One line for each capability: `capability | ok` or `capability | lacks: why`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let result = match &row.found {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("lacks: {}", error.to_string().replace('\n', " ")),
            };
            writeln!(f, "{:<40} | {result}", row.capability)?;
        }
        Ok(())
    }
}
