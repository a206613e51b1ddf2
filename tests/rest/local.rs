//! The local server's runs and checkpoints, through the public clients alone.

use tinkex::local::LocalServer;
use tinkex::types::LoraConfig;
use tinkex::{Config, RestClient, ServiceClient};

#[test]
fn what_was_trained_and_saved_is_listed_published_and_deleted() {
    let server = LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build().unwrap();
    let service = ServiceClient::connect(config.clone()).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default().rank(2)).unwrap();
    let paths = ["a", "b", "c"].map(|name| trainer.save_state(name).unwrap().path);

    let rest = RestClient::connect(config).unwrap();
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
