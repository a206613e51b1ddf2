//! The result of a pass, from and to its message.

use std::ops::Range;

use prost::Message;
use prost::bytes::Bytes;

use super::packed::{check_count, read_i64, read_shape, read_tensor, size_of_dtype};
use super::tensors::{dtype, numbers, to_bytes};
use super::{ArrayRecord, BatchedTensor, ForwardBackwardOutput};
use crate::error::{Error, ErrorKind};
use crate::types::{self, LossFnOutput, PromiseResult, TensorData};

/// The maximum number of datums without tensors in a result: nothing in the body vouches for them.
const MAX_BARE_DATUMS: usize = 1 << 20;

/// The maximum number of bytes of names and shapes in all datums of a result: the body has them once for each record.
const MAX_COPIED: usize = 1 << 28;

impl PromiseResult for types::ForwardBackwardOutput {
    fn from_protobuf(body: Vec<u8>) -> Result<Self, String> {
        check_count(&body, 2)?;
        output(ForwardBackwardOutput::decode(Bytes::from(body)).map_err(|error| error.to_string())?)
    }
}

impl TryFrom<ForwardBackwardOutput> for types::ForwardBackwardOutput {
    type Error = Error;

    fn try_from(message: ForwardBackwardOutput) -> Result<Self, Error> {
        output(message).map_err(|why| Error::new(ErrorKind::Decode, why))
    }
}

fn output(message: ForwardBackwardOutput) -> Result<types::ForwardBackwardOutput, String> {
    let ForwardBackwardOutput { loss_fn_output_type, loss_fn_outputs: records, metrics } = message;
    // Only the last part of a qualified name; a result without records has it unqualified.
    let name = match records.is_empty() {
        true => Some(loss_fn_output_type.as_str()),
        false => loss_fn_output_type.rsplit(':').next(),
    };
    let name = name.filter(|name| !name.is_empty()).unwrap_or("ArrayRecord").to_owned();
    let uncounted = records.iter().all(|record| record.num_datums == 0);
    let (mut outputs, mut copied) = (Vec::new(), 0);
    for record in records {
        let count = if uncounted { counted(&record)? } else { record.num_datums };
        read_record(record.fields, count, &mut outputs, &mut copied)?;
    }
    Ok(types::ForwardBackwardOutput { loss_fn_output_type: name, loss_fn_outputs: outputs, metrics })
}

/// The number of datums of a record that does not say it.
fn counted(record: &ArrayRecord) -> Result<i64, String> {
    let offsets = record.fields.values().next().map_or(0, |field| field.offsets.len() / size_of::<i64>());
    i64::try_from(offsets.saturating_sub(1)).map_err(|error| error.to_string())
}

fn read_record(
    fields: impl IntoIterator<Item = (String, BatchedTensor)>,
    count: i64,
    outputs: &mut Vec<LossFnOutput>,
    copied: &mut usize,
) -> Result<(), String> {
    let count = usize::try_from(count).map_err(|_| format!("a record has {count} datums"))?;
    let fields = fields.into_iter().map(|(name, field)| Field::read(name, field, count));
    let fields = fields.collect::<Result<Vec<_>, String>>()?;
    if fields.is_empty() && outputs.len().saturating_add(count) > MAX_BARE_DATUMS {
        return Err(format!("a record has {count} datums without tensors"));
    }
    let copies = fields.iter().map(|field| field.name.len() + size_of_val(field.trailing_shape.as_slice()));
    *copied = copied.saturating_add(copies.sum::<usize>().saturating_mul(count));
    if *copied > MAX_COPIED {
        return Err(format!("the names and shapes of the tensors would take more than {MAX_COPIED} bytes"));
    }
    outputs.reserve(count);
    for index in 0..count {
        let tensors = fields.iter().map(|field| Ok((field.name.clone(), field.tensor(index)?)));
        outputs.push(tensors.collect::<Result<_, String>>()?);
    }
    Ok(())
}

/// A field of a record, whose offsets are valid.
struct Field {
    name: String,
    data: Bytes,
    dtype: i32,
    /// Where the bytes of each datum are in `data`.
    ranges: Vec<Range<usize>>,
    trailing_shape: Vec<usize>,
    /// The number of bytes for each step of the first dimension.
    row: usize,
}

impl Field {
    fn read(name: String, field: BatchedTensor, count: usize) -> Result<Self, String> {
        let BatchedTensor { data, offsets, dtype, trailing_shape } = field;
        let what = format!("the field {name:?}");
        let trailing_shape = read_shape(&trailing_shape, &what)?;
        let row = trailing_shape.iter().try_fold(size_of_dtype(dtype, &what)?, |row, &length| row.checked_mul(length));
        let row = row.filter(|&row| row > 0).ok_or_else(|| format!("{what} has the row shape {trailing_shape:?}"))?;

        let wrong = || format!("{what} has offsets that do not fit its {} bytes and {count} datums", data.len());
        let offsets = read_i64(&offsets, &format!("the offsets of {what}"))?;
        let none = count == 0 && offsets.is_empty();
        if !none && offsets.len().checked_sub(1) != Some(count) {
            return Err(wrong());
        }
        let offsets = offsets.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        // They cover all data: a gap would be a tensor that is lost.
        let covered =
            offsets.first().is_none_or(|&first| first == 0) && offsets.last().copied().unwrap_or(0) == data.len();
        let ranges: Vec<Range<usize>> = offsets.windows(2).map(|pair| pair[0]..pair[1]).collect();
        if !covered || ranges.iter().any(|range| range.start > range.end) {
            return Err(wrong());
        }
        if let Some(range) = ranges.iter().find(|range| range.len() % row != 0) {
            return Err(format!("{what} has {} bytes for a datum, which are no rows of {row} bytes each", range.len()));
        }
        Ok(Field { name, data, dtype, ranges, trailing_shape, row })
    }

    fn tensor(&self, datum: usize) -> Result<TensorData, String> {
        let range = self.ranges.get(datum).cloned().unwrap_or_default();
        let mut shape = Vec::with_capacity(1 + self.trailing_shape.len());
        shape.push(range.len() / self.row);
        shape.extend_from_slice(&self.trailing_shape);
        let tensor = read_tensor(&self.data[range], self.dtype, &self.name)?;
        tensor.with_shape(shape).map_err(|error| error.to_string())
    }
}

impl From<&types::ForwardBackwardOutput> for ForwardBackwardOutput {
    /// Datums with tensors of the same names, types and row shapes share a record. A tensor without a shape becomes one of one
    /// dimension.
    fn from(output: &types::ForwardBackwardOutput) -> Self {
        let alike = |a: &LossFnOutput, b: &LossFnOutput| layout(a).eq(layout(b));
        ForwardBackwardOutput {
            loss_fn_output_type: output.loss_fn_output_type.clone(),
            loss_fn_outputs: output.loss_fn_outputs.chunk_by(alike).map(record).collect(),
            metrics: output.metrics.clone(),
        }
    }
}

/// What the tensors of a record have in common.
fn layout(output: &LossFnOutput) -> impl Iterator<Item = (&str, types::Dtype, &[usize])> {
    output.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype(), rows(tensor)))
}

/// All dimensions but the first.
fn rows(tensor: &TensorData) -> &[usize] {
    tensor.shape().and_then(<[usize]>::split_first).map_or(&[], |(_, rows)| rows)
}

/// The record of datums that have the same layout.
fn record(outputs: &[LossFnOutput]) -> ArrayRecord {
    let names = outputs.first().into_iter().flat_map(LossFnOutput::iter).map(|(name, _)| name);
    ArrayRecord {
        type_tag: String::new(),
        fields: names
            .map(|name| (name.clone(), batched(outputs.iter().filter_map(|output| output.get(name)))))
            .collect(),
        num_datums: outputs.len() as i64,
    }
}

fn batched<'a>(tensors: impl Iterator<Item = &'a TensorData>) -> BatchedTensor {
    let (mut field, mut data, mut offsets) = (BatchedTensor::default(), Vec::new(), vec![0_i64]);
    for tensor in tensors {
        data.extend_from_slice(&numbers(tensor));
        offsets.push(data.len() as i64);
        field.dtype = dtype(tensor).into();
        field.trailing_shape = rows(tensor).iter().map(|&length| length as i64).collect();
    }
    BatchedTensor { data: data.into(), offsets: to_bytes(&offsets, i64::to_le_bytes), ..field }
}
