//! Folders with an adapter, as a checkpoint has them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tinkex::local::model::{Adapter, AdapterOptions, Model, PromptOptions, SamplingContext, Tensors};
use tinkex::local::pretrained::{ModelLoader, WeightPrecision};
use tinkex::local::transformer::Transformer;

pub use crate::local_models::model_copy::golden;

pub const RANK: usize = 4;

pub fn load(path: &Path) -> Transformer {
    ModelLoader::new(path.to_str().unwrap()).weights(WeightPrecision::F32).load().unwrap()
}

/// An adapter that changes much: B is not zero.
pub fn adapter(model: &Transformer, options: AdapterOptions) -> Adapter {
    let mut adapter = model.new_adapter(&options.rank(RANK));
    for (number, tensor) in
        adapter.tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")).map(|(_, b)| b).enumerate()
    {
        let columns = tensor.ncols();
        *tensor = Array2::from_shape_fn(tensor.dim(), |(row, column)| {
            0.05 * ((1 + number + row * columns + column) as f32 * 1.7).sin()
        });
    }
    adapter
}

/// The log-probabilities of a fixed sequence.
pub fn logprobs(model: &Transformer, adapter: Option<&Adapter>) -> Vec<f32> {
    let context = adapter.map_or(SamplingContext::base(), |adapter| SamplingContext::new(Arc::new(adapter.clone())));
    let tokens: Vec<u32> = (0..24).map(|at| 5 + at * 37 % 250).collect();
    let prompt = model.prompt_logprobs(&context, &tokens, &PromptOptions::new());
    prompt.logprobs.into_iter().flatten().collect()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert!(a.len() == b.len() && a.len() == 23, "{} {}", a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A folder with an adapter, which is deleted at the end.
pub struct AdapterFolder {
    directory: TempDir,
    tensors: Tensors,
}

impl AdapterFolder {
    pub fn new(adapter: &Adapter) -> Self {
        let folder = AdapterFolder { directory: TempDir::new().unwrap(), tensors: adapter.tensors.clone() };
        let config = json!({
            "peft_type": "LORA", "r": RANK, "lora_alpha": 32, "bias": "none", "base_model_name_or_path": "acme/small",
            "target_modules": "all-linear",
        });
        fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        folder.tensors(|_| {})
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn options(self, options: Value) -> Self {
        let path = self.path().join("adapter_config.json");
        let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.extend(options.as_object().unwrap().clone());
        fs::write(&path, Value::from(config).to_string()).unwrap();
        self
    }

    pub fn tensors(mut self, change: impl FnOnce(&mut Tensors)) -> Self {
        change(&mut self.tensors);
        let bytes = |tensor: &Array2<f32>| tensor.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<_> =
            self.tensors.iter().map(|(name, tensor)| (name, tensor.shape().to_vec(), bytes(tensor))).collect();
        let views =
            data.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let file = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
        fs::write(self.path().join("adapter_model.safetensors"), file).unwrap();
        self
    }

    pub fn remove(self, name: &str) -> Self {
        fs::remove_file(self.path().join(name)).unwrap();
        self
    }
}

/// The names of a directory's entries, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
