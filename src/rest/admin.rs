//! What the administrators of an organization may read: the audit log, and what the service charges for.

use super::client::RestClient;
use super::endpoint;
use crate::error::{Error, Result};
use crate::rules::billing_period::check_billing_period;
use crate::types::{
    AuditEventType, AuditLogResponse, BillingUsageResponse, CurrentCheckpointStorageUsageResponse, Query, Timestamp,
};

impl RestClient {
    /// The audit log of the organization: all of it, or of one day in the form `2025-11-01`.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request if the day
    /// is not a date.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::types::AuditEventType;
    ///
    /// for entry in rest.get_audit_log(&AuditEventType::Checkpoints, Some("2026-09-30"))?.entries {
    ///     println!("{} {:?}", entry.timestamp, entry.tinker_path);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_audit_log(&self, event_type: &AuditEventType, day: Option<&str>) -> Result<AuditLogResponse> {
        let operation = "get_audit_log";
        let is_date = |day: &str| day.len() == 10 && day.contains('-') && day.parse::<Timestamp>().is_ok();
        if let Some(day) = day.filter(|day| !is_date(day)) {
            return Err(Error::invalid_input(format!("{day:?} is not a day"))
                .with_operation(operation)
                .with_hint("use a date, such as 2025-11-01"));
        }
        let query = Query::new().field("event_type", event_type.as_str()).field("day", day);
        self.get(operation, "audit".to_owned(), Some(query))
    }

    /// What was used, and its estimated cost, from this whole hour until before that one, at most 14 days.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request for another
    /// period.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::types::Timestamp;
    ///
    /// let (start, end) = ("2025-11-01".parse::<Timestamp>()?, "2025-11-08".parse::<Timestamp>()?);
    /// let usage = rest.get_billing_usage(&start, &end)?;
    /// let cost: f64 = usage.data.iter().filter_map(|event| event.estimated_cost_usd).sum();
    /// println!("${cost:.2}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_billing_usage(
        &self,
        starting_on: &Timestamp,
        ending_before: &Timestamp,
    ) -> Result<BillingUsageResponse> {
        let operation = "get_billing_usage";
        let [start, end] = [starting_on, ending_before].map(|time| (time.unix_seconds(), time.subsec_nanos()));
        check_billing_period(start, end).map_err(|error| error.with_operation(operation))?;
        let in_utc = |time: &Timestamp| Timestamp::from(time.system_time()).to_string();
        let query =
            Query::new().field("starting_on", in_utc(starting_on)).field("ending_before", in_utc(ending_before));
        self.get(operation, "billing/usage/events".to_owned(), Some(query))
    }

    /// The storage that checkpoints take now, of all projects or of one.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for usage in rest.get_current_checkpoint_storage_usage(None)?.data {
    ///     println!("{:?}: {} GB", usage.user_email, usage.size_gigabytes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_current_checkpoint_storage_usage(
        &self,
        project_id: Option<&str>,
    ) -> Result<CurrentCheckpointStorageUsageResponse> {
        let operation = "get_current_checkpoint_storage_usage";
        project_id.map_or(Ok(()), |project| endpoint::require_id(operation, "project", project))?;
        let query = Query::new().field("project_id", project_id);
        self.get(operation, "billing/usage/checkpoints/current".to_owned(), Some(query))
    }
}
