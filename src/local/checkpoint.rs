//! A checkpoint as files: the adapter in the form that PEFT reads, and the optimizer's state next to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use flate2::{Compression, write::GzEncoder};
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use super::adam::Adam;
use super::model::{Adapter, AdapterOptions, Tensors};
use super::transformer::LORA_ALPHA;

/// The files of a checkpoint by their names.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Under which the optimizer's file keeps the number of steps, beside the moments `m.NAME` and `v.NAME`.
const STEP: &str = "step";

/// An adapter as files, with an optimizer's state if the checkpoint is one to train from.
pub(super) fn pack(base_model: &str, adapter: &Adapter, optimizer: Option<&Adam>) -> io::Result<Files> {
    let mut files = Files::new();
    files.insert(CONFIG.to_owned(), config(base_model, adapter).into_bytes());
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

/// The adapter that was packed, and the optimizer's state if there is one.
pub(super) fn unpack(files: &Files, options: AdapterOptions) -> io::Result<(Adapter, Option<Adam>)> {
    let weights = files.get(WEIGHTS).ok_or_else(|| damaged(format!("{WEIGHTS} is missing")))?;
    let adapter = Adapter { options, tensors: read_tensors(weights)? };
    let Some(bytes) = files.get(OPTIMIZER) else { return Ok((adapter, None)) };
    let (_, head) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let step = head.metadata().as_ref().and_then(|head| head.get(STEP)).and_then(|step| step.parse().ok());
    let mut optimizer =
        Adam { step: step.ok_or_else(|| damaged(format!("{OPTIMIZER} has no step")))?, ..Adam::default() };
    for (name, tensor) in read_tensors(bytes)? {
        match name.split_once('.') {
            Some(("m", name)) => optimizer.m.insert(name.to_owned(), tensor),
            Some(("v", name)) => optimizer.v.insert(name.to_owned(), tensor),
            _ => return Err(damaged(format!("{OPTIMIZER} has an unknown tensor {name:?}"))),
        };
    }
    Ok((adapter, Some(optimizer)))
}

/// The files as one gzip-compressed tar archive. The same files give the same bytes.
pub(super) fn archive(files: &Files) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()
}

/// What PEFT's `LoraConfig.from_pretrained` reads.
fn config(base_model: &str, adapter: &Adapter) -> String {
    // "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" is about the module "q_proj".
    let module = |name: &String| Some(name.split_once(".lora_")?.0.rsplit('.').next()?.to_owned());
    let modules: BTreeSet<String> = adapter.tensors.keys().filter_map(module).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.options.rank,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    });
    format!("{config:#}\n")
}

fn write_tensors<'a>(
    tensors: impl Iterator<Item = (String, &'a Array2<f32>)>,
    head: Option<HashMap<String, String>>,
) -> io::Result<Vec<u8>> {
    let bytes: Vec<_> = tensors
        .map(|(name, tensor)| {
            let bytes: Vec<u8> = tensor.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, [tensor.nrows(), tensor.ncols()], bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (name, view)).map_err(damaged)
    });
    safetensors::serialize(views.collect::<io::Result<Vec<_>>>()?, head).map_err(damaged)
}

fn read_tensors(bytes: &[u8]) -> io::Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        let (Dtype::F32, &[rows, columns]) = (view.dtype(), view.shape()) else {
            return Err(damaged(format!("{name} is not a matrix of f32")));
        };
        let values = view.data().chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes);
        let tensor = Array2::from_shape_vec((rows, columns), values.collect()).map_err(damaged)?;
        Ok((name.to_owned(), tensor))
    };
    file.iter().map(tensor).collect()
}

fn damaged(cause: impl ToString) -> io::Error {
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
    fn what_was_packed_is_unpacked_to_the_last_bit() {
        let adapter = adapter();
        let optimizer = Adam { step: 3, m: adapter.tensors.clone(), v: adapter.tensors.clone() };
        for optimizer in [None, Some(optimizer)] {
            let files = pack("base", &adapter, optimizer.as_ref()).unwrap();
            assert_eq!(unpack(&files, adapter.options.clone()).unwrap(), (adapter.clone(), optimizer));
        }
    }

    #[test]
    fn the_config_names_the_modules_as_peft_does() {
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
        assert!(unpack(&Files::new(), adapter().options).is_err());
    }
}
