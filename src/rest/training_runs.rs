//! Training runs.

use super::client::{RestClient, page};
use super::{Pages, endpoint};
use crate::error::Result;
use crate::types::{Query, TrainingRun, TrainingRunsResponse};

impl RestClient {
    /// A training run.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{}", rest.get_training_run("run-1")?.base_model);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_training_run(&self, training_run_id: &str) -> Result<TrainingRun> {
        let operation = "get_training_run";
        self.get(operation, endpoint::run(operation, training_run_id)?, Some(self.scoped(Query::new())))
    }

    /// The training run that a checkpoint was saved from.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let run = rest.get_training_run_by_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// println!("{}", run.training_run_id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_training_run_by_tinker_path(&self, tinker_path: &str) -> Result<TrainingRun> {
        let operation = "get_training_run_by_tinker_path";
        self.get(operation, endpoint::run_of(operation, tinker_path)?, Some(self.scoped(Query::new())))
    }

    /// Up to `limit` of the user's training runs, without the first `offset`. The Python client's default limit is 20.
    /// [`training_runs`](RestClient::training_runs) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let page = rest.list_training_runs(20, 0)?;
    /// println!("{} of {} runs", page.training_runs.len(), page.cursor.total_count);
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_training_runs(&self, limit: u64, offset: u64) -> Result<TrainingRunsResponse> {
        self.get("list_training_runs", "training_runs".to_owned(), Some(self.scoped(page(limit, offset))))
    }

    /// All of the user's training runs, fetched page by page while they are read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for run in rest.training_runs() {
    ///     println!("{}", run?.training_run_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn training_runs(&self) -> Pages<TrainingRun> {
        Pages::new(self, |rest, limit, offset| {
            let page = rest.list_training_runs(limit, offset)?;
            Ok((page.training_runs, Some(page.cursor.total_count)))
        })
    }

    /// Like [`list_training_runs`](RestClient::list_training_runs), only runs of this project.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let page = rest.list_training_runs_of_project("project-1", 20, 0)?;
    /// println!("{} runs", page.cursor.total_count);
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_training_runs_of_project(
        &self,
        project_id: &str,
        limit: u64,
        offset: u64,
    ) -> Result<TrainingRunsResponse> {
        let operation = "list_training_runs_of_project";
        endpoint::require_id(operation, "project", project_id)?;
        let query = self.scoped(page(limit, offset)).field("project_id", project_id);
        self.get(operation, "training_runs".to_owned(), Some(query))
    }

    /// Like [`training_runs`](RestClient::training_runs), only runs of this project.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for run in rest.training_runs_of_project("project-1") {
    ///     println!("{}", run?.training_run_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn training_runs_of_project(&self, project_id: impl Into<String>) -> Pages<TrainingRun> {
        let project_id = project_id.into();
        Pages::new(self, move |rest, limit, offset| {
            let page = rest.list_training_runs_of_project(&project_id, limit, offset)?;
            Ok((page.training_runs, Some(page.cursor.total_count)))
        })
    }
}
