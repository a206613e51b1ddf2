//! Real models behind the local server.

pub mod downloads;
mod files;
mod files_gguf;
mod files_hostile;
mod files_text;
pub mod model_copy;
mod numbers;
mod numbers_greedy;
mod numbers_training;
mod server;
mod server_real;
mod server_tokenizers;
mod text_model;
