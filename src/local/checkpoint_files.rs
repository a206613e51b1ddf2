//! The files of a checkpoint: the adapter in PEFT's format, and the optimizer state next to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use flate2::{Compression, write::GzEncoder};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::adam::Adam;
use super::model::{Adapter, AdapterOptions, Tensors};
use super::transformer::LORA_ALPHA;

/// The files of a checkpoint, by name.
pub(super) type CheckpointFiles = BTreeMap<String, Vec<u8>>;

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
pub(super) const CONFIG: &str = "adapter_config.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const GRADIENT: &str = "gradient.safetensors";
/// Metadata key of the number of steps in the optimizer file, whose tensors are the moments `m.NAME` and `v.NAME`.
const STEP: &str = "step";

/// Serializes an adapter, with the optimizer state for a training checkpoint.
pub(super) fn pack(base_model: &str, adapter: &Adapter, optimizer: Option<&Adam>) -> io::Result<CheckpointFiles> {
    let mut files = CheckpointFiles::new();
    let modules = adapter.tensors.keys().filter_map(|name| Some(name.split_once(".lora_")?.0));
    let config = peft_config(Some(base_model), adapter.options.rank, LORA_ALPHA, modules);
    files.insert(CONFIG.to_owned(), format!("{config:#}\n").into_bytes());
    files.insert(
        WEIGHTS.to_owned(),
        write_tensors(adapter.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), None)?,
    );
    if let Some(Adam { step, m, v }) = optimizer {
        let m = m.iter().map(|(name, tensor)| (format!("m.{name}"), tensor));
        let v = v.iter().map(|(name, tensor)| (format!("v.{name}"), tensor));
        let step = HashMap::from([(STEP.to_owned(), step.to_string())]);
        files.insert(OPTIMIZER.to_owned(), write_tensors(m.chain(v), Some(step))?);
    }
    Ok(files)
}

/// Deserializes an adapter, and the optimizer state if there is one.
pub(super) fn unpack(files: &CheckpointFiles, options: AdapterOptions) -> io::Result<(Adapter, Option<Adam>)> {
    let weights = files.get(WEIGHTS).ok_or_else(|| invalid_data(format!("{WEIGHTS} is missing")))?;
    let adapter = Adapter { options, tensors: read_tensors(weights)? };
    let Some(bytes) = files.get(OPTIMIZER) else { return Ok((adapter, None)) };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(invalid_data)?;
    let step = metadata.metadata().as_ref().and_then(|metadata| metadata.get(STEP)).and_then(|step| step.parse().ok());
    let mut optimizer =
        Adam { step: step.ok_or_else(|| invalid_data(format!("{OPTIMIZER} has no step")))?, ..Adam::default() };
    for (name, tensor) in read_tensors(bytes)? {
        match name.split_once('.') {
            Some(("m", name)) => optimizer.m.insert(name.to_owned(), tensor),
            Some(("v", name)) => optimizer.v.insert(name.to_owned(), tensor),
            _ => return Err(invalid_data(format!("{OPTIMIZER} has an unexpected tensor {name:?}"))),
        };
    }
    Ok((adapter, Some(optimizer)))
}

/// Serializes the whole state of a model: that of a training checkpoint, and the gradient since the last optimizer step.
pub(super) fn pack_state(
    base_model: &str,
    adapter: &Adapter,
    optimizer: &Adam,
    gradient: &Tensors,
) -> io::Result<CheckpointFiles> {
    let mut files = pack(base_model, adapter, Some(optimizer))?;
    let gradient = gradient.iter().map(|(name, tensor)| (name.clone(), tensor));
    files.insert(GRADIENT.to_owned(), write_tensors(gradient, None)?);
    Ok(files)
}

/// Deserializes what [`pack_state`] wrote.
pub(super) fn unpack_state(files: &CheckpointFiles, options: AdapterOptions) -> io::Result<(Adapter, Adam, Tensors)> {
    let (adapter, optimizer) = unpack(files, options)?;
    let optimizer = optimizer.ok_or_else(|| invalid_data(format!("{OPTIMIZER} is missing")))?;
    let gradient = files.get(GRADIENT).ok_or_else(|| invalid_data(format!("{GRADIENT} is missing")))?;
    Ok((adapter, optimizer, read_tensors(gradient)?))
}

/// Packs the files into a gzip-compressed tar archive. Deterministic: the same files become the same bytes.
pub(super) fn archive(files: &CheckpointFiles) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()
}

/// The configuration that PEFT's `LoraConfig.from_pretrained` reads, for an adapter of these modules.
pub(super) fn peft_config<'a>(
    base_model: Option<&str>,
    rank: usize,
    alpha: f64,
    modules: impl Iterator<Item = &'a str>,
) -> Value {
    // "model.layers.0.self_attn.q_proj" is one of those that PEFT finds as "q_proj".
    let modules: BTreeSet<&str> = modules.filter_map(|module| module.rsplit('.').next()).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    })
}

fn write_tensors<'a>(
    tensors: impl Iterator<Item = (String, &'a Array2<f32>)>,
    metadata: Option<HashMap<String, String>>,
) -> io::Result<Vec<u8>> {
    let bytes: Vec<_> = tensors
        .map(|(name, tensor)| {
            let mut bytes = Vec::with_capacity(size_of::<f32>() * tensor.len());
            for value in tensor {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            (name, [tensor.nrows(), tensor.ncols()], bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (name, view)).map_err(invalid_data)
    });
    safetensors::serialize(views.collect::<io::Result<Vec<_>>>()?, metadata).map_err(invalid_data)
}

fn read_tensors(bytes: &[u8]) -> io::Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).map_err(invalid_data)?;
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        let (Dtype::F32, &[rows, columns]) = (view.dtype(), view.shape()) else {
            return Err(invalid_data(format!("{name} is not a matrix of f32")));
        };
        let values = view.data().chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes);
        let tensor = Array2::from_shape_vec((rows, columns), values.collect()).map_err(invalid_data)?;
        Ok((name.to_owned(), tensor))
    };
    file.iter().map(tensor).collect()
}

fn invalid_data(cause: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause.to_string())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn adapter() -> Adapter {
        let tensors = [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", array![[1.0, f32::MIN_POSITIVE]]),
            ("base_model.model.lm_head.lora_A.weight", array![[0.1], [-3.0]]),
        ];
        let options = AdapterOptions { rank: 1, seed: 7, train_attn: true, train_mlp: false, train_unembed: true };
        Adapter { options, tensors: tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into() }
    }

    #[test]
    fn packing_round_trips_to_the_last_bit() {
        let adapter = adapter();
        let optimizer = Adam { step: 3, m: adapter.tensors.clone(), v: adapter.tensors.clone() };
        for optimizer in [None, Some(optimizer)] {
            let files = pack("base", &adapter, optimizer.as_ref()).unwrap();
            assert_eq!(unpack(&files, adapter.options.clone()).unwrap(), (adapter.clone(), optimizer));
        }
    }

    #[test]
    fn the_whole_state_round_trips() {
        let adapter = adapter();
        let (gradient, options) = (adapter.tensors.clone(), adapter.options.clone());
        let optimizer = Adam { step: 3, m: adapter.tensors.clone(), v: adapter.tensors.clone() };
        let mut files = pack_state("base", &adapter, &optimizer, &gradient).unwrap();
        assert_eq!(unpack_state(&files, options.clone()).unwrap(), (adapter, optimizer, gradient));
        files.remove(GRADIENT);
        assert!(unpack_state(&files, options).unwrap_err().to_string().contains(GRADIENT));
    }

    #[test]
    fn config_has_module_names_of_peft() {
        let files = pack("base", &adapter(), None).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&files[CONFIG]).unwrap();
        assert_eq!(config["target_modules"], json!(["lm_head", "q_proj"]));
        assert_eq!((&config["r"], &config["base_model_name_or_path"]), (&json!(1), &json!("base")));
    }

    #[test]
    fn an_archive_holds_the_files() {
        let files = pack("base", &adapter(), None).unwrap();
        let bytes = archive(&files).unwrap();
        assert_eq!(bytes, archive(&files).unwrap());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, [CONFIG, WEIGHTS]);
    }

    #[test]
    fn damaged_files_are_errors() {
        let mut files = pack("base", &adapter(), Some(&Adam::default())).unwrap();
        files.get_mut(OPTIMIZER).unwrap().truncate(5);
        assert!(unpack(&files, adapter().options).is_err());
        files.remove(OPTIMIZER);
        files.get_mut(WEIGHTS).unwrap().pop();
        assert!(unpack(&files, adapter().options).is_err());
        assert!(unpack(&CheckpointFiles::new(), adapter().options).is_err());
    }
}
