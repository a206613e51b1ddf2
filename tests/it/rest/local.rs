//! The local server's runs and checkpoints, only through the public clients.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tinkex::api::Path;
use tinkex::local::{Fault, LocalServer};
use tinkex::types::{AccessScope, AuditEventType, BillingEventType, LoraConfig, SessionSearch, Timestamp};
use tinkex::{Config, RestClient, ServiceClient};

use super::scene::Directory;

#[test]
fn saved_checkpoints_are_listed_published_and_deleted() {
    let server = LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config.clone()).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default().rank(2)).unwrap();
    let paths = ["a", "b", "c"].map(|name| trainer.save_state(name).unwrap().path);

    let rest = RestClient::new(config).unwrap();
    let run = rest.get_training_run_by_tinker_path(&paths[0]).unwrap();
    assert_eq!((&*run.base_model, run.lora_rank), ("tinkex/bytes-tiny", Some(2)));
    let runs: Vec<_> = rest.training_runs().page_size(1).map(|run| run.unwrap().training_run_id).collect();
    assert_eq!(runs, [&*run.training_run_id]);
    let mut listed: Vec<_> = rest.user_checkpoints().page_size(2).map(|c| c.unwrap().tinker_path).collect();
    listed.sort();
    assert_eq!(listed, paths);
    assert_eq!(rest.list_checkpoints(&run.training_run_id).unwrap().checkpoints.len(), 3);

    rest.publish_checkpoint_from_tinker_path(&paths[0]).unwrap();
    let is_public = || {
        let checkpoints = rest.list_checkpoints(&run.training_run_id).unwrap().checkpoints;
        checkpoints.into_iter().find(|c| c.tinker_path == paths[0]).unwrap().public
    };
    assert!(is_public());
    rest.unpublish_checkpoint(&run.training_run_id, "weights/a").unwrap();
    assert!(!is_public());
    rest.delete_checkpoint(&run.training_run_id, "weights/b").unwrap();
    rest.delete_checkpoint_from_tinker_path(&paths[2]).unwrap();
    assert_eq!(rest.user_checkpoints().count(), 1);
    assert_eq!(rest.get_weights_info_by_tinker_path(&paths[0]).unwrap().lora_rank, Some(2));

    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let sessions: Vec<_> = service.create_rest_client().sessions().map(Result::unwrap).collect();
    assert_eq!(sessions, [service.session_id()]);
    let session = rest.get_session(&sessions[0]).unwrap();
    assert_eq!(session.training_run_ids, [run.training_run_id]);
    assert!(session.sampler_ids.iter().any(|id| id == sampler.sampling_session_id()), "{session:?}");
    assert_eq!(rest.get_sampler(sampler.sampling_session_id()).unwrap().base_model, "tinkex/bytes-tiny");
}

#[test]
fn a_downloaded_checkpoint_equals_the_saved_one() {
    let (data, downloads) = (Directory::new(), Directory::new());
    let server = LocalServer::builder().data_dir(data.path()).start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default().rank(2)).unwrap();
    let training = trainer.save_state("a b").unwrap().path;
    let sampling = trainer.save_weights_for_sampler("s").unwrap().path;
    // The archive is being prepared, and its download is then interrupted once.
    server.inject(Fault::on("archive").status(503).header("retry-after-ms", "1").times(2));
    server.inject(Fault::on("a%20b.tar.gz").truncate().times(1));

    let rest = service.create_rest_client();
    let saved = files_by_folder(&data);
    for (path, name) in [(training, "training"), (sampling, "sampling")] {
        let downloaded = rest.download_checkpoint_archive_from_tinker_path(&path, &*downloads.join(name)).unwrap();
        let got = &files_by_folder(&downloads)[name];
        assert_eq!(downloaded.files, Some(got.len() as u64));
        // The server's own record of how it was saved.
        let is_got =
            |files: &BTreeMap<_, _>| files.len() == got.len() + 1 && got.iter().all(|(n, c)| files.get(n) == Some(c));
        assert_eq!(saved.values().filter(|files| is_got(files)).count(), 1, "{path}: {:?}", got.keys());
        assert!(got.contains_key("adapter_model.safetensors"));
    }
    let archives = server.requests().into_iter().filter(|request| request.path.starts_with("/archives/")).count();
    assert_eq!(archives, 3, "the first was interrupted");
}

/// The names and contents of the files in each folder.
fn files_by_folder(directory: &Directory) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let mut folders = BTreeMap::<String, BTreeMap<_, _>>::new();
    for (path, content) in directory.tree() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(content) = content {
            folders.entry(folder.to_owned()).or_default().insert(name.to_owned(), content);
        }
    }
    folders
}

#[test]
fn sessions_projects_usage_events_are_read() {
    let (server, downloads) = (LocalServer::start().unwrap(), Directory::new());
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").project_id("p-1");
    let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default().rank(2)).unwrap();
    trainer.save_state("a").unwrap();
    let (rest, session) = (service.create_rest_client(), service.session_id().to_owned());

    let runs = |project: &str| rest.training_runs_of_project(project).count();
    assert_eq!((runs("p-1"), runs("p-2")), (1, 0));
    rest.assign_session_project(&session, "p-2").unwrap();
    assert_eq!((runs("p-1"), runs("p-2")), (0, 1));

    let others: Vec<_> = (0..4).map(|_| ServiceClient::connect(service.config().clone()).unwrap()).collect();
    let found: Vec<_> = rest.found_sessions(SessionSearch::new().limit(2)).map(Result::unwrap).collect();
    assert_eq!(found.len(), 1 + others.len());
    let first = found.last().unwrap();
    assert_eq!((&first.session_id, &*first.project_id, first.checkpoints_count), (&session, "p-2", 1));
    assert_eq!(rest.with_access_scope(AccessScope::Accessible).sessions().count(), found.len());

    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600 * 3600;
    let hour =
        |offset: i64| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(offset)));
    let usage = rest.get_billing_usage(&hour(-3600), &hour(7200)).unwrap();
    let saved = usage.data.iter().filter(|event| event.event_info.event_type == BillingEventType::Checkpoint);
    assert_eq!(saved.filter_map(|event| event.event_info.count).sum::<u64>(), 1);
    assert!(usage.sessions.contains_key(&session));
    assert_eq!(rest.get_current_checkpoint_storage_usage(Some("p-2")).unwrap().data[0].checkpoint_count, 1);
    let log = rest.get_audit_log(&AuditEventType::All, None).unwrap();
    let events: Vec<_> = log.entries.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["checkpoint_create", "project_session_assign"]);

    // The first request starts the export, and the download need not wait for it.
    let export = Path::new("/api/v1/sessions").segment(&session).segment("trace_export");
    service.api().get(export).send().unwrap();
    let path = downloads.path().join("session.pftrace");
    let trace = rest.download_session_trace(&session, path.as_path()).unwrap();
    assert_eq!(std::fs::read(path).unwrap().len() as u64, trace.archive_bytes);
}
