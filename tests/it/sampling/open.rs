//! Opening a sampling client, and its base model.

use tinkex::SamplerOptions;

use super::*;
use crate::support::connect;

#[test]
fn a_path_and_its_base_model_are_sent() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let options = SamplerOptions::from("tinker://run/sampler_weights/1").base_model("base").record_stability_info(true);
    let sampler = client.create_sampling_client(options.retry_config(RetryConfig::off())).unwrap();
    let sent = &service.requests_to("create_sampling_session")[0].body;
    assert_eq!((&sent["model_path"], &sent["base_model"]), (&json!("tinker://run/sampler_weights/1"), &json!("base")));
    sample(&sampler, 1);
    assert_eq!(service.requests_to("asample")[0].body["record_stability_info"], true);
}

#[test]
fn neither_base_model_nor_path_is_refused() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    for options in [SamplerOptions::new(), SamplerOptions::from(" "), SamplerOptions::new().model_path("")] {
        let error = client.create_sampling_client(options).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("create_sampling_client")));
    }
    assert!(service.requests_to("create_sampling_session").is_empty());
}

#[test]
fn the_base_model_is_asked_for_once() {
    let service = Service::start(|request| match &*request.path {
        "samplers/sampler-0" => {
            Reply::ok(json!({"sampler_id": "sampler-0", "base_model": "moonshotai/Kimi-K2.5:peft:262144"}))
        }
        _ => healthy_service(request),
    });
    let client = connect(service.config());
    let sampler = client.create_sampling_client("tinker://run/sampler_weights/1").unwrap();
    for _ in 0..2 {
        assert_eq!(sampler.clone().get_base_model().unwrap(), "moonshotai/Kimi-K2.5:peft:262144");
        assert_eq!(sampler.tokenizer_id().unwrap(), "moonshotai/Kimi-K2.5");
    }
    assert_eq!(client.create_sampling_client("base").unwrap().get_base_model().unwrap(), "base");
    assert_eq!(service.requests_to("samplers/sampler-0").len(), 1);
}
