//! What the server checks for a model that is not one of bytes.

use std::sync::Arc;

use tempfile::tempdir;
use tinkex::local::LocalServer;
use tinkex::local::model::Model;
use tinkex::local::transformer::Transformer;
use tinkex::types::{Datum, LoraConfig, LossFn, ModelInput, SamplingParams, Stop};
use tinkex::{Config, ErrorKind, ServiceClient};

use super::text_model::TextModel;

fn service(server: &LocalServer) -> ServiceClient {
    let config =
        Config::builder().base_url(server.base_url()).api_key("tml-test").max_retries(0).build_with(|_| None).unwrap();
    ServiceClient::connect(config).unwrap()
}

#[test]
fn texts_that_end_a_sample_stay_texts() {
    let model = Arc::new(TextModel::new("acme/smol"));
    let server = LocalServer::builder().model(model.clone()).start().unwrap();
    let sampler = service(&server).create_sampling_client("acme/smol").unwrap();
    let prompt = ModelInput::from_tokens([1, 2]);
    for (stop, sequences, strings) in [
        (Some(Stop::Texts(vec!["\n\n".to_owned(), "é".to_owned()])), vec![], vec!["\n\n", "é"]),
        (Some(Stop::Tokens(vec![5, 6])), vec![vec![5], vec![6]], vec![]),
        (None, vec![], vec![]),
    ] {
        let mut params = SamplingParams::default().max_tokens(1);
        params.stop = stop.clone();
        sampler.sample(&prompt, 1, &params).unwrap();
        let options = model.sampled.lock().unwrap().pop().unwrap();
        assert_eq!(
            (options.stop_sequences, options.stop_strings),
            (sequences, strings.into_iter().map(str::to_owned).collect::<Vec<_>>()),
            "{stop:?}"
        );
    }
}

#[test]
fn weights_of_another_model_are_refused() {
    let data = tempdir().unwrap();
    let start = |inner: Transformer| {
        let model = Arc::new(TextModel::new("acme/smol").inner(inner));
        LocalServer::builder().data_dir(data.path()).model(model).start().unwrap()
    };
    let first = start(Transformer::bytes_tiny());
    let trainer = service(&first).create_lora_training_client("acme/smol", LoraConfig::default()).unwrap();
    let state = trainer.save_state("state").unwrap().path;
    let weights = trainer.save_weights_for_sampler("weights").unwrap().path;
    drop((trainer, first));

    let second = start(Transformer::bytes_small());
    let service = service(&second);
    let sampler = service.create_sampling_client(&weights).unwrap();
    let error = sampler.sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default().max_tokens(1)).unwrap_err();
    assert!(error.to_string().contains("do not fit acme/smol: the tensor base_model.model.model.layers."), "{error}");
    let error = service.create_training_client_from_state(&state).unwrap_err();
    assert!(error.to_string().contains("do not fit acme/smol"), "{error}");
    let trainer = service.create_lora_training_client("acme/smol", LoraConfig::default()).unwrap();
    assert!(trainer.load_state(&state).unwrap_err().to_string().contains("do not fit acme/smol"));
}

#[test]
fn passes_must_fit_into_memory() {
    let server = TextModel::new("acme/smol").pass_bytes(1 << 60).serve();
    let trainer = service(&server).create_lora_training_client("acme/smol", LoraConfig::default()).unwrap();
    let datum = Datum::new(vec![1, 2]).input("target_tokens", vec![2_i64, 3]).unwrap();
    let datum = datum.input("weights", vec![1.0_f32, 1.0]).unwrap();
    let error = trainer.forward_backward(datum, LossFn::CrossEntropy).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(400)));
    assert!(error.to_string().contains("2 tokens in its longest datum takes 1152921504.6 GB of memory"), "{error}");
}

#[test]
fn several_models_have_names_of_their_own() {
    let models =
        [TextModel::new("acme/one"), TextModel::new("acme/two")].map(|model| Arc::new(model) as Arc<dyn Model>);
    let builder = models.into_iter().fold(LocalServer::builder(), |builder, model| builder.model(model));
    let server = builder.model(Arc::new(Transformer::bytes_tiny())).start().unwrap();
    let service = service(&server);
    let offered = service.get_server_capabilities().unwrap().supported_models;
    let names: Vec<_> = offered.iter().filter_map(|model| model.model_name.as_deref()).collect();
    assert_eq!(names, ["acme/one", "acme/two", "tinkex/bytes-tiny"]);
    for (name, tokenizer) in [("acme/one", "acme/one"), ("acme/two", "acme/two"), ("tinkex/bytes-tiny", "bytes")] {
        assert_eq!(service.create_sampling_client(name).unwrap().tokenizer_id().unwrap(), tokenizer);
    }
}
