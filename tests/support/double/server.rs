//! What each server of this protocol does differently: one row for each.

use serde_json::{Value, json};

/// The traits of a server. What no row changes, every server does in the same way.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: &'static str,
    /// Whether passes are taken as JSON; otherwise it gets a 415.
    pub json_passes: bool,
    /// The status that refuses passes in protobuf, if any.
    pub refuses_protobuf: Option<u16>,
    /// Whether there is a `forward`.
    pub forward: bool,
    pub results: Results,
    pub numbers: Numbers,
    /// The response to `client/config`, if there is one.
    pub client_config: Option<Value>,
    /// The response to `client/dynamic_config`, if there is one.
    pub dynamic_config: Option<Value>,
    pub optimizer: Optimizer,
    pub loads_into_trained: bool,
    pub failure: Failure,
    pub not_yet: NotYet,
    /// Whether promises of samples name their sequences.
    pub sequence_ids: bool,
    /// Whether the ids of promises are numbers.
    pub number_ids: bool,
    /// Whether saved sampler weights have a path of two parts, `tinker://MODEL/NAME`.
    pub short_sampler_paths: bool,
    /// Whether `stop` may be a text instead of a list.
    pub stop_as_text: bool,
    pub retrieve_futures: bool,
    pub cancel_future: bool,
    pub finish: bool,
    /// The size of a result above which its size comes first (`complete_metadata`).
    pub metadata_above: Option<usize>,
    pub weights_files: WeightsFiles,
}

/// The form of results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Results {
    Json,
    /// Whatever the request accepts.
    Protobuf,
    /// Protobuf if the request accepts it.
    ByAccept,
}

/// What the server does with the sequence numbers of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers {
    /// Any number is run at once; a known one has the same promise again.
    Keyed,
    /// A number is run when all before it have been; a known one has the same promise again.
    InOrder,
    /// Any number but the next is a 409.
    Contiguous,
}

/// What a load without the key `optimizer` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    RequiresKey,
    DefaultsTo(bool),
}

/// How a poll says that the request has failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// Status 200 with `error` and `category`.
    InBody,
    Status(u16),
}

/// How a poll says that there is no result yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NotYet {
    /// Status 200 with the type `try_again`.
    TryAgain,
    Status(u16),
}

/// How saved weights can be downloaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightsFiles {
    Archive,
    External,
    None,
}

impl Server {
    /// A server of 2025.
    pub fn json_2025() -> Self {
        Server {
            name: "json_2025",
            json_passes: true,
            refuses_protobuf: Some(500),
            forward: true,
            results: Results::Json,
            numbers: Numbers::InOrder,
            client_config: None,
            dynamic_config: None,
            optimizer: Optimizer::DefaultsTo(false),
            loads_into_trained: true,
            failure: Failure::InBody,
            not_yet: NotYet::Status(408),
            sequence_ids: false,
            number_ids: false,
            short_sampler_paths: false,
            stop_as_text: true,
            retrieve_futures: false,
            cancel_future: false,
            finish: false,
            metadata_above: None,
            weights_files: WeightsFiles::Archive,
        }
    }

    /// The official service, with what its configuration turns on by default.
    pub fn official_2026() -> Self {
        Server {
            name: "official_2026",
            json_passes: false,
            refuses_protobuf: None,
            forward: false,
            results: Results::ByAccept,
            client_config: Some(json!({})),
            dynamic_config: Some(json!({"sample_cancel_enabled": true})),
            not_yet: NotYet::TryAgain,
            sequence_ids: true,
            retrieve_futures: true,
            cancel_future: true,
            finish: true,
            metadata_above: Some(4096),
            weights_files: WeightsFiles::External,
            ..Server::json_2025()
        }
    }

    pub fn skyrl_0_3() -> Self {
        Server {
            name: "skyrl_0_3",
            numbers: Numbers::Keyed,
            client_config: Some(json!({"pjwt_auth_enabled": false})),
            optimizer: Optimizer::DefaultsTo(true),
            loads_into_trained: false,
            failure: Failure::Status(400),
            number_ids: true,
            short_sampler_paths: true,
            stop_as_text: false,
            weights_files: WeightsFiles::Archive,
            ..Server::json_2025()
        }
    }

    pub fn skyrl_0_4() -> Self {
        Server {
            name: "skyrl_0_4",
            json_passes: false,
            refuses_protobuf: None,
            forward: false,
            results: Results::Protobuf,
            weights_files: WeightsFiles::None,
            ..Server::skyrl_0_3()
        }
    }

    pub fn tuft_0_2() -> Self {
        Server {
            name: "tuft_0_2",
            json_passes: false,
            refuses_protobuf: None,
            forward: false,
            results: Results::ByAccept,
            numbers: Numbers::Contiguous,
            client_config: Some(json!({"parallel_fwdbwd_chunks": false})),
            optimizer: Optimizer::RequiresKey,
            failure: Failure::Status(422),
            not_yet: NotYet::Status(202),
            weights_files: WeightsFiles::None,
            ..Server::json_2025()
        }
    }

    /// The servers that take both forms: tinker-cloud, open-rl, and SkyRL in August 2026.
    pub fn between() -> Self {
        Server {
            name: "between",
            refuses_protobuf: None,
            results: Results::ByAccept,
            numbers: Numbers::Keyed,
            client_config: Some(json!({"sample_use_retrieve_futures": true})),
            dynamic_config: Some(json!({})),
            failure: Failure::Status(400),
            sequence_ids: true,
            retrieve_futures: true,
            cancel_future: true,
            ..Server::json_2025()
        }
    }

    pub fn miles() -> Self {
        Server {
            name: "miles",
            refuses_protobuf: None,
            forward: false,
            results: Results::ByAccept,
            numbers: Numbers::Keyed,
            client_config: Some(json!({"create_model_via_load_weights": true})),
            cancel_future: true,
            weights_files: WeightsFiles::None,
            ..Server::json_2025()
        }
    }

    /// One of each.
    pub fn all() -> [Self; 7] {
        [
            Server::json_2025(),
            Server::official_2026(),
            Server::skyrl_0_3(),
            Server::skyrl_0_4(),
            Server::tuft_0_2(),
            Server::between(),
            Server::miles(),
        ]
    }

    /// The same server with this key in its configuration.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.client_config.get_or_insert_with(|| json!({}))[key] = value.into();
        self
    }
}
