//! The result of a sample, from and to its message.

use prost::Message;
use prost::bytes::Bytes;

use super::packed::{check_count, read, read_tokens};
use super::tensors::{self, to_bytes};
use super::{PromptAltTokens, SampleResponse, SampledSequence, StopReason, TopkLogprobs};
use crate::error::{Error, ErrorKind};
use crate::types::{self, PromiseResult, TokenLogprob};

/// The log-probability of an unused cell, whose token id is 0.
const UNUSED: f32 = -99_999.0;

impl PromiseResult for types::SampleResponse {
    fn from_protobuf(body: Vec<u8>) -> Result<Self, String> {
        check_count(&body, 1)?;
        response(SampleResponse::decode(Bytes::from(body)).map_err(|error| error.to_string())?)
    }

    fn check(&self) -> Result<(), String> {
        self.sequences.iter().try_for_each(types::SampledSequence::check)
    }
}

impl TryFrom<SampleResponse> for types::SampleResponse {
    type Error = Error;

    fn try_from(message: SampleResponse) -> Result<Self, Error> {
        response(message).map_err(|why| Error::new(ErrorKind::Decode, why))
    }
}

fn response(message: SampleResponse) -> Result<types::SampleResponse, String> {
    let SampleResponse {
        sequences,
        prompt_logprobs,
        topk_prompt_logprobs,
        prompt_cache_hit_tokens,
        target_prompt_logprobs,
        prompt_alt_tokens,
    } = message;
    let prompt_logprobs = prompt_logprobs.filter(|logprobs| !logprobs.is_empty());
    let prompt_logprobs = prompt_logprobs.map(|logprobs| prompt_numbers(&logprobs)).transpose()?;
    let topk_prompt_logprobs = topk_prompt_logprobs.map(|topk| rows(&topk, "topk_prompt_logprobs")).transpose()?;
    let none_if_empty = |row: Vec<TokenLogprob>| Some(row).filter(|row| !row.is_empty());
    let hits = prompt_cache_hit_tokens;
    Ok(types::SampleResponse {
        sequences: sequences.into_iter().map(sequence).collect::<Result<_, String>>()?,
        prompt_logprobs,
        topk_prompt_logprobs: topk_prompt_logprobs.flatten().map(|rows| rows.into_iter().map(none_if_empty).collect()),
        prompt_cache_hit_tokens: hits.try_into().map_err(|_| format!("prompt_cache_hit_tokens is {hits}"))?,
        target_prompt_logprobs: target_prompt_logprobs
            .map(|tensor| tensors::read(tensor, "target_prompt_logprobs"))
            .transpose()?,
        prompt_alt_tokens: prompt_alt_tokens.map(alt_tokens).transpose()?,
    })
}

fn sequence(message: SampledSequence) -> Result<types::SampledSequence, String> {
    let SampledSequence { stop_reason, tokens, logprobs, topk_sampled_logprobs } = message;
    let stop_reason = match StopReason::try_from(stop_reason) {
        Ok(StopReason::Stop) => types::StopReason::Stop,
        Ok(StopReason::Length) => types::StopReason::Length,
        Err(_) => return Err(format!("a sequence has the unknown stop reason {stop_reason}")),
    };
    let tokens = read_tokens(&tokens, "a sequence")?;
    let logprobs = logprobs.map(|logprobs| read(&logprobs, "logprobs", f32::from_le_bytes)).transpose()?;
    // A server may write none as empty.
    let logprobs = logprobs.filter(|logprobs| !logprobs.is_empty() || tokens.is_empty());
    let topk = topk_sampled_logprobs.map(|topk| rows(&topk, "topk_sampled_logprobs")).transpose()?.flatten();
    let sequence = types::SampledSequence { stop_reason, tokens, logprobs, topk_logprobs: topk, sequence_id: None };
    sequence.check().map(|()| sequence)
}

/// Log-probabilities; NaN where there is none.
fn prompt_numbers(bytes: &[u8]) -> Result<Vec<Option<f32>>, String> {
    let numbers = read(bytes, "prompt_logprobs", f32::from_le_bytes)?;
    Ok(numbers.into_iter().map(|number| Some(number).filter(|number| !number.is_nan())).collect())
}

/// The tokens at each position, without unused cells. None if the matrix has no rows or no columns.
fn rows(topk: &TopkLogprobs, what: &str) -> Result<Option<Vec<Vec<TokenLogprob>>>, String> {
    let TopkLogprobs { token_ids, logprobs, k, length } = topk;
    let cells = u64::from(*k) * u64::from(*length);
    if [token_ids.len(), logprobs.len()].iter().any(|&bytes| Some(bytes as u64) != cells.checked_mul(4)) {
        return Err(format!("{what} does not have {length} rows of {k} tokens and log-probabilities"));
    }
    if cells == 0 {
        return Ok(None);
    }
    let (tokens, logprobs) = (read_tokens(token_ids, what)?, read(logprobs, what, f32::from_le_bytes)?);
    let cells: Vec<TokenLogprob> = tokens.into_iter().zip(logprobs).map(TokenLogprob::from).collect();
    let used = |cell: &&TokenLogprob| cell.token != 0 || cell.logprob != UNUSED;
    Ok(Some(cells.chunks_exact(*k as usize).map(|row| row.iter().filter(used).copied().collect()).collect()))
}

fn alt_tokens(message: PromptAltTokens) -> Result<types::PromptAltTokens, String> {
    let tokens = tensors::read(message.tokens.ok_or("prompt_alt_tokens has no tokens")?, "prompt_alt_tokens.tokens")?;
    let logprobs = message.logprobs.ok_or("prompt_alt_tokens has no log-probabilities")?;
    let logprobs = tensors::read(logprobs, "prompt_alt_tokens.logprobs")?;
    if tokens.shape() != logprobs.shape() {
        return Err("prompt_alt_tokens has tokens and log-probabilities of different shapes".to_owned());
    }
    Ok(types::PromptAltTokens { tokens, logprobs })
}

impl From<&types::SampleResponse> for SampleResponse {
    /// Sequence ids are not in the message, but in the promise.
    fn from(response: &types::SampleResponse) -> Self {
        let numbers = |numbers: &Vec<Option<f32>>| {
            let numbers: Vec<f32> = numbers.iter().map(|number| number.unwrap_or(f32::NAN)).collect();
            to_bytes(&numbers, f32::to_le_bytes)
        };
        SampleResponse {
            sequences: response.sequences.iter().map(SampledSequence::from).collect(),
            prompt_logprobs: response.prompt_logprobs.as_ref().map(numbers),
            topk_prompt_logprobs: response
                .topk_prompt_logprobs
                .as_ref()
                .map(|rows| matrix(rows.iter().map(|row| row.as_deref().unwrap_or_default()))),
            prompt_cache_hit_tokens: response.prompt_cache_hit_tokens.try_into().unwrap_or(i32::MAX),
            target_prompt_logprobs: response.target_prompt_logprobs.as_ref().map(tensors::message),
            prompt_alt_tokens: response.prompt_alt_tokens.as_ref().map(|alt| PromptAltTokens {
                tokens: Some(tensors::message(&alt.tokens)),
                logprobs: Some(tensors::message(&alt.logprobs)),
            }),
        }
    }
}

impl From<&types::SampledSequence> for SampledSequence {
    /// A stop reason that the message has no number for becomes `stop`.
    fn from(sequence: &types::SampledSequence) -> Self {
        let stop_reason = match sequence.stop_reason {
            types::StopReason::Length => StopReason::Length,
            _ => StopReason::Stop,
        };
        SampledSequence {
            stop_reason: stop_reason.into(),
            tokens: to_bytes(&sequence.tokens, u32::to_le_bytes),
            logprobs: sequence.logprobs.as_ref().map(|logprobs| to_bytes(logprobs, f32::to_le_bytes)),
            topk_sampled_logprobs: sequence.topk_logprobs.as_ref().map(|rows| matrix(rows.iter().map(Vec::as_slice))),
        }
    }
}

/// A matrix as wide as the longest row.
fn matrix<'a>(rows: impl Iterator<Item = &'a [TokenLogprob]> + Clone) -> TopkLogprobs {
    let k = rows.clone().map(<[TokenLogprob]>::len).max().unwrap_or(0);
    let unused = TokenLogprob::new(0, UNUSED);
    let cells: Vec<TokenLogprob> =
        rows.clone().flat_map(|row| (0..k).map(|column| row.get(column).copied().unwrap_or(unused))).collect();
    TopkLogprobs {
        token_ids: cells.iter().flat_map(|cell| cell.token.to_le_bytes()).collect(),
        logprobs: cells.iter().flat_map(|cell| cell.logprob.to_le_bytes()).collect(),
        k: k as u32,
        length: rows.count() as u32,
    }
}
