//! Writes the Rust messages of the protocol from `tinker_public.proto`, without protoc. `scripts/protobuf` runs it.
//!
//!     protobuf-generator PROTO FIXTURE FOLDER
//!
//! Fails unless the text describes the same messages as the descriptor in FIXTURE, which the Python client contains. Writes
//! `tinker_public.rs` into FOLDER.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

fn main() -> Result<(), Box<dyn Error>> {
    let [proto, fixture, folder] = std::env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: protobuf-generator PROTO FIXTURE FOLDER")?;
    let parent = proto.parent().ok_or("the path of the text has no folder")?;
    let descriptors = protox::compile([&proto], [parent])?;
    compare(&descriptors.file[0], &recorded(&fixture)?)?;
    generate(descriptors, &folder)?;
    Ok(())
}

fn generate(descriptors: FileDescriptorSet, folder: &Path) -> std::io::Result<()> {
    // `Bytes` share the body that they are decoded from. Ordered maps make the same bytes each time.
    prost_build::Config::new().bytes(["."]).btree_map(["."]).out_dir(folder).compile_fds(descriptors)
}

/// The descriptor that was recorded from the Python client.
fn recorded(fixture: &Path) -> Result<FileDescriptorProto, Box<dyn Error>> {
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture)?)?;
    let text = fixture["file_descriptor_proto_b64"].as_str().ok_or("the fixture has no descriptor")?;
    Ok(FileDescriptorProto::decode(&*STANDARD.decode(text)?)?)
}

/// Compares what the two files define, whatever its order.
fn compare(ours: &FileDescriptorProto, recorded: &FileDescriptorProto) -> Result<(), String> {
    let (ours, recorded) = (definitions(ours), definitions(recorded));
    for (name, definition) in &recorded {
        match ours.get(name) {
            None => return Err(format!("the text lacks {name}")),
            Some(other) if other != definition => {
                return Err(format!("{name} differs\nrecorded: {definition}\nin the text: {other}"));
            }
            Some(_) => {}
        }
    }
    match ours.keys().find(|name| !recorded.contains_key(*name)) {
        Some(name) => Err(format!("the recorded descriptor lacks {name}")),
        None => Ok(()),
    }
}

/// Everything that a file defines, by name: what matters on the wire, without comments and JSON names.
fn definitions(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut definitions = BTreeMap::from([(format!("package {}", file.package()), file.syntax().to_owned())]);
    for message in &file.message_type {
        let mut message = message.clone();
        let nested = message.nested_type.iter_mut().flat_map(|entry| &mut entry.field);
        for field in message.field.iter_mut().chain(nested) {
            field.json_name = None;
        }
        message.field.sort_by_key(|field| field.number());
        message.nested_type.sort_by(|a, b| a.name().cmp(b.name()));
        definitions.insert(format!("message {}", message.name()), format!("{message:?}"));
    }
    for words in &file.enum_type {
        definitions.insert(format!("enum {}", words.name()), format!("{words:?}"));
    }
    definitions
}
